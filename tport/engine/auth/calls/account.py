"""What people do about themselves, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.account import AccountInfo
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.calls.caller import Caller, call


class AccountCalls(Caller):
    @call
    async def own_account(self) -> AccountInfo:
        return await self.service.account.info(self.person)

    @call
    async def check_fresh_proof(self) -> None:
        """What `Caller.check` does for every call of FRESH is all there is to do."""

    @call
    async def begin_proof(self) -> NextStep:
        return await self.service.account.begin_proof(self.own_session, self.person)

    @call
    async def prove_again(self, *, attempt: str, proof: Proof, known: str = "") -> None:
        await self.service.account.prove_again(self.own_session, self.person, attempt, proof, known)

    @call
    async def begin_device(self) -> NextStep:
        return await self.service.account.begin_device(self.own_session, self.person)

    @call
    async def add_device(self, *, attempt: str, proof: Proof, name: str) -> tuple[str, ...]:
        return await self.service.account.add_device(
            self.own_session, self.person, attempt, proof, name
        )

    @call
    async def rename_device(self, *, id: str, name: str) -> None:
        await self.service.account.rename_device(self.person, id, name)

    @call
    async def remove_device(self, *, id: str) -> None:
        await self.service.account.remove_device(self.person, id)

    @call
    async def new_recovery_codes(self) -> tuple[str, ...]:
        return await self.service.account.new_recovery_codes(self.person)

    @call
    async def change_password(self, *, current: str, new: str, known: str = "") -> None:
        await self.service.account.change_password(
            self.own_session, self.person, current, new, known
        )
