"""What people do about themselves: password, devices, recovery codes; and proving anew who they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from tport.engine.access.passwords import verify_password
from tport.engine.api.account import AccountInfo, DeviceInfo
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.factors.attempts import Attempts
from tport.engine.auth.factors.devices import Devices
from tport.engine.auth.factors.proving import Proving
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.signin.failures import Failures
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.auth.signin.known import KnownBrowsers
from tport.engine.auth.signin.steps import WRONG_PROOF
from tport.engine.errors import (
    AccessDenied,
    AttemptOver,
    CompareFailed,
    InvalidRequest,
    NotFound,
    NotSignedIn,
    Unavailable,
)
from tport.engine.types.session import WebSession
from tport.engine.types.user import PasswordRecord, User

WRONG_PASSWORD = "that is not your password"  # noqa: S105 - what is said, no password


class Account:
    def __init__(
        self,
        cluster: Cluster,
        hasher: Hasher,
        sessions: Sessions,
        devices: Devices,
        failures: Failures,
        known: KnownBrowsers,
        attempts: Attempts,
        proving: Proving,
    ) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._hasher = hasher
        self._sessions = sessions
        self._devices = devices
        self._failures = failures
        self._known = known
        self._attempts = attempts
        self._proving = proving

    async def info(self, user: User) -> AccountInfo:
        factors = await self._devices.of(user)
        password = await self._stores.passwords.find(user.name)
        now = await self._cluster.sign_in()
        return AccountInfo(
            user=user.name,
            origin=user.origin,
            devices=tuple(
                DeviceInfo(id=d.id, name=d.name, kind=d.kind, added=d.added, used=d.used)
                for d in factors.devices
            ),
            recovery_left=len(factors.recovery),
            policy=now.second_factor,
            password_min=now.password_min,
            password_changed=password.changed if password is not None else None,
        )

    # --- Proving anew ----------------------------------------------------------------------------

    async def begin_proof(self, session: str, user: User) -> NextStep:
        await self._attempts.begin(session, "again", user)
        read = await self._attempts.read(session)
        kinds = await self._asked_of(user)
        passkeys = await self._proving.passkeys(user)
        return await self._proving.asked(session, read, kinds, passkeys)  # type: ignore[arg-type]  # of ProofKind, all

    async def prove_again(
        self, session: str, user: User, id_: str, proof: Proof, known: str
    ) -> None:
        read = await self._attempts.read(session, id_)
        if read.value.stage != "again" or not read.value.is_of(user) or proof.kind == "provider":
            raise AttemptOver(WRONG_PROOF)
        kinds = await self._asked_of(user)
        async with self._hasher.turn(user.name, hashes=proof.kind == "password"):
            if proof.kind != "webauthn" and await self._is_locked(user, known):
                raise AccessDenied(WRONG_PROOF, reason="the account is locked")
            if proof.kind == "password" and "password" in kinds:
                why = "" if await self._is_password(user, proof.value) else "wrong password"
            else:
                why = await self._proving.judge(user, session, id_, proof, kinds)
            if why:
                await self._failed(user, why, known)
                raise AccessDenied(WRONG_PROOF, reason=why)
            if not await self._failures.is_locked(user.name):
                await self._failures.forget(user.name)
        await self._attempts.end(session, await self._attempts.read(session, id_))
        await self._cluster.record("user.proof", user=user.name, kind=proof.kind)
        await self._sessions.proven(session)

    async def _asked_of(self, user: User) -> Sequence[str]:
        is_asked = bool(await self._proving.kinds())
        kinds = await self._proving.asked_of(user) if is_asked else ()
        if kinds:
            return (*kinds, "recovery")
        if user.is_local:
            return ("password",)
        if not user.origin.startswith("oidc/"):  # GitHub doesn't say when somebody signed in there
            raise AccessDenied(
                "sign out, and sign in anew: that shows that it is you",
                reason=f"{user.name} has nothing else to show",
                hint="or set up a device under Account while the sign-in is fresh",
            )
        return ("provider",)

    # --- Devices ---------------------------------------------------------------------------------

    async def begin_device(self, session: str, user: User) -> NextStep:
        if not await self._proving.kinds():
            raise NotFound("this cluster asks for no second factor")
        try:
            read = await self._attempts.read(session)
            is_begun = read.value.stage == "enrol" and read.value.is_of(user)
        except AttemptOver:
            is_begun = False
        if not is_begun:
            await self._attempts.begin(session, "enrol", user)
        read = await self._attempts.read(session)
        return await self._proving.offered(session, read, user, may_skip=False)

    async def add_device(
        self, session: str, user: User, id_: str, proof: Proof, name: str
    ) -> tuple[str, ...]:
        read = await self._attempts.read(session, id_)
        if read.value.stage != "enrol" or not read.value.is_of(user):
            raise AttemptOver(WRONG_PROOF)
        codes = await self._proving.add(user, session, read, proof, name)
        await self._attempts.end(session, await self._attempts.read(session, id_))
        return codes

    async def rename_device(self, user: User, id_: str, name: str) -> None:
        await self._devices.rename(user, id_, name)
        await self._cluster.record("mfa.rename", user=user.name, name=name[:64])

    async def remove_device(self, user: User, id_: str) -> None:
        gone = await self._devices.remove(user, id_)
        await self._cluster.record("mfa.delete", user=user.name, name=gone.name, kind=gone.kind)

    async def new_recovery_codes(self, user: User) -> tuple[str, ...]:
        codes = await self._devices.new_recovery_codes(user)
        await self._cluster.record("recovery_code.generated", user=user.name)
        return codes

    # --- Password --------------------------------------------------------------------------------

    async def change_password(
        self, session: str, user: User, current: str, new: str, known: str
    ) -> None:
        """Set the password, and end every other session, as one write.

        What was opened by these is known to proxies and agents: they hear of its end by the epoch.
        What was opened by this one opens anew by itself.
        """
        if not user.is_local:
            raise InvalidRequest(f"you sign in by {user.origin}, and have no password here")
        async with self._hasher.turn(user.name):
            if await self._is_locked(user, known):
                raise AccessDenied(WRONG_PASSWORD, reason="the account is locked")
            if not await self._is_password(user, current):
                await self._failed(user, "wrong password", known)
                raise AccessDenied(WRONG_PASSWORD, reason="wrong password")
            phc = await self._hasher.chosen(
                new,
                user=user.name,
                cluster=self._cluster.name,
                minimum=(await self._cluster.sign_in()).password_min,
            )
        await self._cluster.record("user.password_change", user=user.name, remote="")
        record = PasswordRecord(phc=phc, changed=self._cluster.clock())
        try:
            read = await self._stores.users.read(user.name)
            web = await self._stores.web_sessions.read(session)
            mine: WebSession = replace(web.value, proofs=read.value.proofs + 1)
            if (read.value.id, read.value.proofs) != (user.id, user.proofs):
                raise NotSignedIn("your account was changed meanwhile")
            await self._stores.batch(
                [
                    self._stores.users.swapping(
                        user.name,
                        read,
                        replace(read.value, proofs=mine.proofs, epoch=read.value.epoch + 1),
                    ),
                    self._stores.passwords.putting(user.name, record),
                    self._stores.web_sessions.swapping(session, web, mine, expires=mine.expires),
                ]
            )
        except NotFound:
            raise NotSignedIn("you are signed in no more") from None
        except CompareFailed:
            raise Unavailable("your account is being changed at the same time; try again") from None

    async def _is_password(self, user: User, password: str) -> bool:
        record = await self._stores.passwords.find(user.name)
        if record is None:
            return False
        return await self._hasher.run(partial(verify_password, record.phc, password))

    async def _is_locked(self, user: User, known: str) -> bool:
        """Tell whether failures keep this person out here, too: not where they have signed in before."""
        return not await self._known.is_known(known, user) and (
            await self._failures.is_locked(user.name)
        )

    async def _failed(self, user: User, why: str, known: str) -> None:
        await self._cluster.emit("user.login.failed", user=user.name, method="again", error=why)
        if await self._known.is_known(known, user):
            await self._known.failed(known)
        await self._failures.count(user.name, "")  # an open browser is no place to guess
