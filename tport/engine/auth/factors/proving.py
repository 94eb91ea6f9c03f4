"""What a person is asked to show or to set up, and whether it counts: at sign-in and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from tport.engine.access.totp import (
    matching_step,
    new_totp_secret,
    otpauth_uri,
    secret_text,
)
from tport.engine.access.webauthn import (
    check_assertion,
    check_registration,
    creation_options,
    credential_of,
    request_options,
)
from tport.engine.api.factors import NewTotp, NextStep, Proof, ProofKind
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.factors.attempts import Attempts
from tport.engine.auth.factors.devices import Devices, kinds_of, passkey
from tport.engine.auth.stores import Attempt, Stored
from tport.engine.errors import AttemptOver, InvalidRequest
from tport.engine.types.factor import FactorKind, WebauthnDevice
from tport.engine.types.user import User

_TOO_OLD: Final = "show the QR code again: this one is too old"
_WRONG_CODE: Final = "that code is wrong: look at the app for the one that it shows now"
_CLOCK_HINT: Final = "if it goes on, set the phone's clock to automatic time"
_NO_PASSKEY: Final = "that passkey can't be set up"


class Proving:
    def __init__(self, cluster: Cluster, devices: Devices, attempts: Attempts) -> None:
        self._cluster = cluster
        self._devices = devices
        self._attempts = attempts

    async def asked_of(self, user: User) -> tuple[FactorKind, ...]:
        """Return the kinds of which a person must show one.

        Those that count here; who has only others shows one of those, and then sets up one that
        counts: a password alone never does.
        """
        factors = await self._devices.of(user)
        return kinds_of(factors.of_kinds(await self.kinds()) or factors.devices)

    async def kinds(self) -> tuple[FactorKind, ...]:
        """Return the kinds that may be set up, and that count, now."""
        return (await self._cluster.sign_in()).second_factor.kinds

    async def passkeys(self, user: User) -> tuple[WebauthnDevice, ...]:
        devices = (await self._devices.of(user)).of_kinds(("webauthn",))
        return cast("tuple[WebauthnDevice, ...]", devices)

    async def asked(
        self,
        holder: str,
        read: Stored[Attempt],
        kinds: Sequence[ProofKind],
        passkeys: Sequence[WebauthnDevice],
        *,
        verify: bool = False,
    ) -> NextStep:
        """Ask for one of `kinds`; `passkeys`: those that may answer, none: any."""
        options = ""
        if "webauthn" in kinds:
            challenge = await self._attempts.give_challenge(holder, read)
            options = request_options(self._devices.party, challenge, passkeys, verify=verify)
        attempt = read.value
        return NextStep(
            attempt=attempt.id,
            user=attempt.user,
            to="prove",
            kinds=tuple(kinds),
            expires=attempt.expires,
            webauthn=options,
        )

    async def offered(
        self, holder: str, read: Stored[Attempt], user: User, *, may_skip: bool
    ) -> NextStep:
        """Offer to set up a device of any kind that the cluster takes."""
        kinds = await self.kinds()
        totp, options = None, ""
        if "totp" in kinds:
            if not read.value.secret:
                sealed = self._devices.seal_totp(user, new_totp_secret())
                read = await self._attempts.keep_secret(holder, read, sealed)
            secret = self._devices.open_totp(user, read.value.secret)
            uri = otpauth_uri(secret, user=user.name, issuer=self._cluster.name)
            totp = NewTotp(secret=secret_text(secret), uri=uri)
        if "webauthn" in kinds:
            challenge = await self._attempts.give_challenge(holder, read)
            options = creation_options(
                self._devices.party,
                challenge,
                user_id=user.id,
                user=user.name,
                taken=await self.passkeys(user),
            )
        attempt = read.value
        return NextStep(
            attempt=attempt.id,
            user=attempt.user,
            to="enrol",
            kinds=kinds,
            expires=attempt.expires,
            may_skip=may_skip,
            totp=totp,
            webauthn=options,
        )

    async def judge(
        self, user: User, holder: str, id_: str, proof: Proof, kinds: Sequence[str]
    ) -> str:
        """Take a proof of a device or a recovery code; return why it doesn't count, "" if it does."""
        if proof.kind not in kinds:
            return f"{proof.kind} was not asked for"
        if proof.kind == "totp":
            return "" if await self._devices.take_totp(user, proof.value) else "wrong code"
        if proof.kind == "recovery":
            if not await self._devices.take_recovery(user, proof.value):
                return "wrong recovery code"
            left = len((await self._devices.of(user)).recovery)
            await self._cluster.record("recovery_code.used", user=user.name, left=left)
            return ""
        assert proof.kind == "webauthn"
        try:
            read = await self._attempts.read(holder, id_)
            await self.check_passkey(user, holder, read, proof.value, verify=False)
        except InvalidRequest as problem:
            return f"passkey: {problem}"
        return ""

    async def check_passkey(
        self, user: User, holder: str, read: Stored[Attempt], answer: str, *, verify: bool
    ) -> None:
        challenge = await self._attempts.take_challenge(holder, read)
        credential = credential_of(answer)
        device = passkey(await self._devices.of(user), credential)
        count = check_assertion(answer, self._devices.party, challenge, device, verify=verify)
        await self._devices.take_passkey(user, credential, count)

    async def add(
        self,
        user: User,
        holder: str,
        read: Stored[Attempt],
        proof: Proof,
        name: str,
        *,
        is_first: bool = False,
    ) -> tuple[str, ...]:
        """Set a device up that has been shown to work; return the recovery codes to show, if new.

        Args:
            is_first: it is set up in place of a proof, so that none that counts may be there yet.

        Raises:
            AttemptOver: one that counts was set up meanwhile.
            InvalidRequest: it doesn't work, or the name won't do, in words for the person.
        """
        kinds = await self.kinds()
        unless = kinds if is_first else ()
        if proof.kind not in kinds:
            raise InvalidRequest("this cluster does not take that kind of device")
        if proof.kind == "totp":
            codes = await self._add_totp(user, read.value, proof.value, name, unless)
        else:
            challenge = await self._attempts.take_challenge(holder, read)
            try:
                made = check_registration(proof.value, self._devices.party, challenge)
            except InvalidRequest as problem:
                await self._cluster.emit("mfa.add.failed", user=user.name, error=str(problem))
                raise InvalidRequest(_NO_PASSKEY) from None
            codes = await self._devices.add_passkey(user, name, made, unless=unless)
        await self._cluster.record("mfa.add", user=user.name, kind=proof.kind)
        if codes:
            await self._cluster.record("recovery_code.generated", user=user.name)
        return codes

    async def _add_totp(
        self, user: User, attempt: Attempt, code: str, name: str, unless: Sequence[FactorKind]
    ) -> tuple[str, ...]:
        if not attempt.secret:
            raise AttemptOver(_TOO_OLD)
        secret = self._devices.open_totp(user, attempt.secret)
        step = matching_step(secret, code, now=self._cluster.clock(), after=-1)
        if step is None:
            raise InvalidRequest(_WRONG_CODE, hint=_CLOCK_HINT)
        return await self._devices.add_totp(user, name, attempt.secret, step, unless=unless)
