"""From a proven password to a session: the second factor, as this cluster demands it.

    password ──┬── a second factor is set up ──── prove it ──┐
    invite ────┤                                             ├── session
               ├── none is, and one is required ── set up ───┤
               └── none is, and none is required ────────────┘   (after an invite: may set up)
    passkey alone ────────────────────────────── prove it ───┤
    a provider's word ── and no more is asked ───────────────┘   (else as after a password)

No session exists before the last step. Failures of both steps count together (`failures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from tport.engine.access.limits import AddressLimiter
from tport.engine.access.webauthn import credential_of
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.factors.attempts import Attempts
from tport.engine.auth.factors.devices import Devices
from tport.engine.auth.factors.proving import Proving
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.signin.failures import Failures
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.auth.signin.known import KnownBrowsers
from tport.engine.auth.stores import Attempt, Stored
from tport.engine.errors import AccessDenied, AttemptOver, CompareFailed, InvalidRequest, NotFound
from tport.engine.storage.backend import Operation
from tport.engine.types.factor import FactorPolicy
from tport.engine.types.sso import ProviderSession
from tport.engine.types.user import User

WRONG_PROOF: Final = "that was wrong, was used already, or has expired"
LOCAL_AUTH_OFF: Final = "passwords don't sign in here: local_auth is off"


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """The browser that is signing in.

    Attributes:
        holder: SHA-256 hex of its cookie; "": it has none, and no second step.
        known: the cookie that says it has signed a person in before; "": none.
    """

    holder: str
    remote: str
    user_agent: str
    known: str = ""


class Steps:
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
        limiter: AddressLimiter,
    ) -> None:
        self._cluster = cluster
        self._hasher = hasher
        self._sessions = sessions
        self._devices = devices
        self._failures = failures
        self._known = known
        self._attempts = attempts
        self._proving = proving
        self._limiter = limiter

    # --- What comes next -----------------------------------------------------------------------------

    async def after(
        self,
        user: User,
        visitor: Visitor,
        method: str,
        *,
        proven: bool = False,
        provider: ProviderSession | None = None,
        shown: timedelta | None = None,
    ) -> SignedIn | NextStep:
        """Go on with who has proved a password (`local`), was invited (`invite`), or is vouched for.

        Args:
            method: else the connector, "oidc/google".
            proven: nothing more is asked: the provider's word is enough.
            provider: what the session then rests on.
            shown: how long ago they have shown there who they are; None: it doesn't count.
        """
        factors = await self._devices.of(user)
        devices = factors.devices
        policy = await self._policy()
        if proven:
            if factors.of_kinds(policy.kinds):
                shown = None  # who has a device here shows that: see `Account.begin_proof`
            return await self._session(user, visitor, method, provider=provider, shown=shown)
        if not policy.kinds and provider is not None:
            raise AccessDenied(
                "this cluster wants a second factor of its own beside your provider, and takes none",
                reason="cluster_second_factor is on, second_factor is off",
                hint="whoever administers it: one of the two must change",
            )
        if not policy.kinds:
            return await self._session(user, visitor, method)
        if devices and method != "invite":
            await self._attempts.begin(visitor.holder, "prove", user, method, provider)
        elif policy.required or method != "local":
            await self._attempts.begin(visitor.holder, "enrol", user, method, provider)
        else:
            return await self._session(user, visitor, method)
        return await self.show(visitor.holder)

    async def begin_passkey(self, holder: str, remote: str) -> NextStep:
        await self._check_takes_passkeys()
        self._limiter.check(remote)
        self._limiter.take(remote)
        await self._attempts.begin(holder, "passkey", None, "passkey")
        return await self.show(holder)

    async def show(self, holder: str) -> NextStep:
        """Return where this browser is, with a challenge."""
        read = await self._attempts.read(holder)
        attempt = read.value
        if attempt.stage == "passkey":
            return await self._proving.asked(holder, read, ("webauthn",), (), verify=True)
        user = await self._user(attempt)
        if attempt.stage == "enrol":
            may_skip = attempt.provider is None and not (await self._policy()).required
            return await self._proving.offered(holder, read, user, may_skip=may_skip)
        kinds = await self._proving.asked_of(user)
        return await self._proving.asked(
            holder, read, (*kinds, "recovery"), await self._proving.passkeys(user)
        )

    # --- Proving -------------------------------------------------------------------------------------

    async def prove(self, visitor: Visitor, id_: str, proof: Proof) -> SignedIn | NextStep:
        self._limiter.check(visitor.remote)
        self._limiter.take(visitor.remote)
        read = await self._attempts.read(visitor.holder, id_)
        if read.value.stage == "passkey":
            await self._check_takes_passkeys()  # they may count no more since it was begun
            user = await self._by_passkey(visitor, read, proof)
            return await self._finish(user, visitor, "passkey", id_, factor="webauthn")
        if read.value.stage != "prove":
            raise AttemptOver(WRONG_PROOF)
        user = await self._user(read.value)
        async with self._hasher.turn(user.name, hashes=False):
            is_known = await self._known.is_known(visitor.known, user)
            # Nobody guesses a signature, so a lock need not keep it out.
            is_open = is_known or proof.kind == "webauthn"
            if not is_open and await self._failures.is_locked(user.name):
                raise AccessDenied(WRONG_PROOF, reason="the account is locked")
            kinds = await self._proving.asked_of(user)
            why = await self._proving.judge(user, visitor.holder, id_, proof, (*kinds, "recovery"))
            if why:
                await self._failed(user, visitor, why, is_known=is_known)
                raise AccessDenied(WRONG_PROOF, reason=why)
        policy = await self._policy()
        have = (await self._devices.of(user)).of_kinds(policy.kinds)
        if policy.required and not have:  # what was shown does not count here any more
            await self._attempts.end(visitor.holder, await self._attempts.read(visitor.holder, id_))
            begun = read.value
            await self._attempts.begin(visitor.holder, "enrol", user, begun.method, begun.provider)
            return await self.show(visitor.holder)
        return await self._finish(user, visitor, read.value.method, id_, factor=proof.kind)

    async def _by_passkey(self, visitor: Visitor, read: Stored[Attempt], proof: Proof) -> User:
        """Return who a passkey alone proves; its authenticator must have asked who it is."""
        name = ""
        try:
            if proof.kind != "webauthn":
                raise InvalidRequest("it is no passkey")
            user = await self._devices.owner(credential_of(proof.value))
            if user is None:
                raise InvalidRequest("it is nobody's")
            name = user.name
            if not user.is_local:  # a provider must vouch for them each time
                raise InvalidRequest(f"its owner signs in by {user.origin}")
            await self._proving.check_passkey(user, visitor.holder, read, proof.value, verify=True)
        except InvalidRequest as problem:
            await self.write_failure(name, visitor, f"passkey: {problem}", "passkey")
            raise AccessDenied(WRONG_PROOF, reason=str(problem)) from None
        return user

    # --- Setting up ----------------------------------------------------------------------------------

    async def enrol(self, visitor: Visitor, id_: str, proof: Proof, name: str) -> SignedIn:
        self._limiter.check(visitor.remote)
        self._limiter.take(visitor.remote)
        read = await self._attempts.read(visitor.holder, id_)
        if read.value.stage != "enrol":
            raise AttemptOver(WRONG_PROOF)
        user = await self._user(read.value)
        codes = await self._proving.add(user, visitor.holder, read, proof, name, is_first=True)
        method = read.value.method
        signed = await self._finish(user, visitor, method, id_, factor=proof.kind)
        return replace(signed, recovery_codes=codes)

    async def skip(self, visitor: Visitor, id_: str) -> SignedIn:
        read = await self._attempts.read(visitor.holder, id_)
        is_asked = read.value.provider is not None or (await self._policy()).required
        if read.value.stage != "enrol" or is_asked:
            raise AccessDenied("this cluster asks for a second factor")
        user = await self._user(read.value)
        if (await self._devices.of(user)).devices:
            raise AttemptOver(WRONG_PROOF)  # set up since: it is to be shown
        return await self._finish(user, visitor, read.value.method, id_)

    # --- Parts ---------------------------------------------------------------------------------------

    async def _policy(self) -> FactorPolicy:
        return (await self._cluster.sign_in()).second_factor

    async def _check_takes_passkeys(self) -> None:
        now = await self._cluster.sign_in()
        if "webauthn" not in now.second_factor.kinds or not now.local_auth:
            raise AccessDenied("this cluster takes no passkeys")

    async def _user(self, attempt: Attempt) -> User:
        user = await self._cluster.stores.users.find(attempt.user)
        if user is None or not attempt.is_of(user):
            raise AttemptOver(WRONG_PROOF)  # deleted, or reset, since
        return user

    async def _finish(
        self, user: User, visitor: Visitor, method: str, id_: str, *, factor: str = ""
    ) -> SignedIn:
        """End what was begun, and make the session; of two that finish at once one does."""
        if user.is_local and not (await self._cluster.sign_in()).local_auth:
            await self.write_failure(user.name, visitor, LOCAL_AUTH_OFF, method)
            raise AccessDenied(WRONG_PROOF, reason=LOCAL_AUTH_OFF)
        read = await self._attempts.read(visitor.holder, id_)
        return await self._session(
            user,
            visitor,
            method,
            factor=factor,
            provider=read.value.provider,
            # As one with the session: a sign-out at the provider finds either.
            ending=self._cluster.stores.attempts.deleting(visitor.holder, read),
        )

    async def _session(
        self,
        user: User,
        visitor: Visitor,
        method: str,
        *,
        factor: str = "",
        provider: ProviderSession | None = None,
        shown: timedelta | None = timedelta(),
        ending: Operation | None = None,
    ) -> SignedIn:
        if not await self._failures.is_locked(user.name):  # else others' guesses would begin anew
            await self._failures.forget(user.name)
        try:
            signed = await self._sessions.make(
                user,
                visitor.remote,
                visitor.user_agent,
                method=method,
                factor=factor,
                provider=provider,
                shown=shown,
                ending=ending,
            )
        except (CompareFailed, NotFound):  # by another request, or by a sign-out at the provider
            raise AttemptOver(WRONG_PROOF) from None
        return replace(signed, known=await self._known.remember(visitor.known, user))

    async def _failed(self, user: User, visitor: Visitor, why: str, *, is_known: bool) -> None:
        await self.write_failure(user.name, visitor, why, "local")
        if is_known:
            await self._known.failed(visitor.known)
        else:
            await self._failures.count(user.name, visitor.remote)

    async def write_failure(self, name: str, visitor: Visitor, why: str, method: str) -> None:
        """Write down that somebody didn't get in; `why` is for the audit log alone."""
        await self._cluster.emit(
            "user.login.failed",
            user=name,
            method=method,
            error=why,
            remote=visitor.remote,
            user_agent=visitor.user_agent[:256],
        )
