"""What proxies ask about certificates by ACME, as `Calls` answers it."""

from __future__ import annotations

from datetime import datetime

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.pki.keys import KeyPair
from tport.engine.types.acme import AcmeAccount, AcmeState, Challenge


class AcmeCalls(Caller):
    @call
    async def acme_account(self, *, directory: str) -> AcmeAccount:
        return await self.service.acme_accounts.account(directory)

    @call
    async def acme_registered(self, *, directory: str, url: str) -> None:
        await self.service.acme_accounts.registered(directory, url)

    @call
    async def acme_begin(self, *, directory: str, names: tuple[str, ...], serial: str) -> AcmeState:
        return await self.service.acme.begin(directory, names, serial, by=self.name)

    @call
    async def acme_show(
        self, *, directory: str, name: str, order: str, challenges: tuple[Challenge, ...]
    ) -> None:
        await self.service.acme.show(directory, name, order, challenges)

    @call
    async def acme_holds(self, *, order: str) -> None:
        await self.service.acme_holders.holds(order, self.name)

    @call
    async def acme_all_hold(self, *, order: str) -> bool:
        return await self.service.acme_holders.all_hold(order, self.name)

    @call
    async def acme_obtained(
        self,
        *,
        directory: str,
        name: str,
        order: str,
        pair: KeyPair,
        renew_at: datetime,
        look_at: datetime | None,
    ) -> None:
        await self.service.acme.obtained(directory, name, order, pair, renew_at, look_at)

    @call
    async def acme_failed(
        self,
        *,
        directory: str,
        name: str,
        order: str,
        problem: str,
        retry_after: float,
        unreached: bool,
        limited: bool = False,
    ) -> None:
        await self.service.acme.failed(
            directory, name, order, problem, retry_after, unreached=unreached, limited=limited
        )

    @call
    async def acme_forgive(self, *, directory: str) -> None:
        await self.service.acme.forgive(directory)

    @call
    async def acme_schedule(
        self,
        *,
        directory: str,
        name: str,
        serial: str,
        renew_at: datetime,
        look_at: datetime | None,
    ) -> None:
        await self.service.acme.schedule(directory, name, serial, renew_at, look_at)

    @call
    async def acme_pair(self, *, directory: str, name: str) -> KeyPair:
        return await self.service.acme.pair(directory, name)
