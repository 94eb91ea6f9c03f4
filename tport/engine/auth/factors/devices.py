"""What a person has beside the password: authenticator apps, passkeys, recovery codes.

All of one person is one record, swapped by revision: a code that two requests bring at once is
taken from one of them, and of two that remove the last two devices one is refused.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from base64 import b32encode
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from tport.engine.access.totp import matching_step
from tport.engine.access.webauthn import NewCredential, RelyingParty
from tport.engine.auth.cluster import Cluster, host_of
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.seal import Seal
from tport.engine.auth.stores import SWAP_TRIES, CredentialOf, Stored
from tport.engine.errors import (
    AlreadyExists,
    AttemptOver,
    CompareFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tport.engine.storage.backend import Operation
from tport.engine.types.factor import (
    MAX_DEVICES,
    Device,
    FactorKind,
    Factors,
    TotpDevice,
    WebauthnDevice,
    check_device_name,
    free_device_name,
)
from tport.engine.types.user import User

R = TypeVar("R")

RECOVERY_CODES: Final = 10
RECOVERY_BYTES: Final = 10  # 80 random bits each: too many to guess, so a quick hash keeps them
_GROUP: Final = 4

_Change = Callable[[Factors], tuple[Factors, R]]


class Devices:
    def __init__(self, cluster: Cluster, presence: Presence) -> None:
        self._cluster = cluster
        self._presence = presence
        self._stores = cluster.stores
        self._seal = Seal(cluster.settings.seal_key)

    async def of(self, user: User) -> Factors:
        """Return what a person has; nothing is a record without devices."""
        read = await self._find(user)
        return read.value if read is not None else Factors(user_id=user.id)

    @property
    def party(self) -> RelyingParty:
        """Who asks browsers for passkeys: the proxy's first address, and others below its host.

        Raises:
            Unavailable: no proxy has an address yet.
        """
        addresses = self._presence.proxy_addrs
        if not addresses:
            raise Unavailable("no proxy has told its address yet")
        id_ = host_of(addresses[0])
        below = [a for a in addresses if host_of(a) == id_ or host_of(a).endswith(f".{id_}")]
        origins = tuple(f"https://{address.removesuffix(':443')}" for address in below)
        return RelyingParty(id=id_, name=self._cluster.name, origins=origins)

    # --- What proves -----------------------------------------------------------------------------

    async def take_totp(self, user: User, code: str) -> bool:
        """Take a code: true once for each time-step of a device."""
        now = self._cluster.clock()

        def take(factors: Factors) -> tuple[Factors, bool]:
            for device in factors.devices:
                if not isinstance(device, TotpDevice):
                    continue
                secret = self._seal.open(device.secret, totp_context(user.id))
                step = matching_step(secret, code, now=now, after=device.step)
                if step is not None:
                    return _with(factors, replace(device, step=step, used=now)), True
            return factors, False

        return await self._change(user, take)

    async def take_recovery(self, user: User, code: str) -> bool:
        """Take a recovery code: true once for each."""
        given = hash_recovery_code(code, user.id)

        def take(factors: Factors) -> tuple[Factors, bool]:
            left = tuple(kept for kept in factors.recovery if kept != given)
            return replace(factors, recovery=left), len(left) < len(factors.recovery)

        return await self._change(user, take)

    async def take_passkey(self, user: User, credential: str, count: int) -> None:
        """Note that a passkey was used, and its counter.

        Raises:
            InvalidRequest: it was removed, or used at the same time somewhere else.
        """
        now = self._cluster.clock()

        def take(factors: Factors) -> tuple[Factors, None]:
            device = passkey(factors, credential)
            if (count or device.sign_count) and count <= device.sign_count:
                raise InvalidRequest("its counter went back")
            return _with(factors, replace(device, sign_count=count, used=now)), None

        await self._change(user, take)

    async def owner(self, credential: str) -> User | None:
        """Return whose passkey this is."""
        of = await self._stores.credentials.find(credential_key(credential))
        return await self._stores.users.find(of.user) if of is not None else None

    # --- What is set up -----------------------------------------------------------------------------

    def seal_totp(self, user: User, secret: bytes) -> str:
        return self._seal.close(secret, totp_context(user.id))

    def open_totp(self, user: User, sealed: str) -> bytes:
        return self._seal.open(sealed, totp_context(user.id))

    async def add_totp(
        self, user: User, name: str, sealed: str, step: int, *, unless: Sequence[FactorKind] = ()
    ) -> tuple[str, ...]:
        """Add an authenticator app whose code of `step` was shown; return new recovery codes.

        They are made with the first device; with a later one there are none to show.

        Args:
            unless: kinds of which the person may have none yet.

        Raises:
            InvalidRequest: the name won't do, or there are too many.
            AttemptOver: the user was reset meanwhile, or has one of `unless` by now.
        """

        def make(factors: Factors) -> Device:
            if sealed in (d.secret for d in factors.devices if isinstance(d, TotpDevice)):
                raise InvalidRequest("this authenticator app is set up already")
            return TotpDevice(
                id=str(uuid.uuid4()),
                name=_name(name, "Authenticator app", factors),
                added=self._cluster.clock(),
                secret=sealed,
                step=step,
            )

        return await self._add(user, make, unless=unless)

    async def add_passkey(
        self, user: User, name: str, made: NewCredential, *, unless: Sequence[FactorKind] = ()
    ) -> tuple[str, ...]:
        """Add a passkey; as `add_totp`.

        Raises:
            InvalidRequest: besides, somebody has it already.
        """
        rp_id = self.party.id

        def make(factors: Factors) -> Device:
            return WebauthnDevice(
                id=str(uuid.uuid4()),
                name=_name(name, "Passkey", factors),
                added=self._cluster.clock(),
                credential=made.credential,
                public_key=made.public_key,
                rp_id=rp_id,
                sign_count=made.sign_count,
            )

        key = credential_key(made.credential)
        if await self._stores.credentials.find(key) is not None:
            raise InvalidRequest("this passkey is set up already")
        owns = self._stores.credentials.creating(key, CredentialOf(user=user.name))
        return await self._add(user, make, owns, unless=unless)

    async def rename(self, user: User, id_: str, name: str) -> None:
        """Raises NotFound: no such device. InvalidRequest: the name won't do."""

        def change(factors: Factors) -> tuple[Factors, None]:
            device = _device(factors, id_)
            others = [other for other in factors.devices if other.id != id_]
            return _with(factors, replace(device, name=check_device_name(name, others))), None

        await self._change(user, change)

    async def remove(self, user: User, id_: str) -> Device:
        """Remove a device and return it. With the last one the recovery codes go too.

        Raises:
            NotFound: no such device.
            InvalidRequest: it is the last one, and one is required.
        """
        policy = (await self._cluster.sign_in()).second_factor
        for _ in range(SWAP_TRIES):
            read = await self._find(user)
            device = _device(read.value if read else Factors(user_id=user.id), id_)
            assert read is not None
            left = tuple(other for other in read.value.devices if other.id != id_)
            after = replace(read.value, devices=left)
            if policy.required and not after.of_kinds(policy.kinds):
                raise InvalidRequest(
                    "this is your last device, and this cluster asks for one at each sign-in",
                    hint="add another one first, then remove this one",
                )
            if not left:
                after = replace(after, recovery=())
            operations = [self._stores.factors.swapping(user.name, read, after)]
            operations += await self._releasing([device])
            if await self._done(operations):
                return device
        raise _busy()

    async def new_recovery_codes(self, user: User) -> tuple[str, ...]:
        """Make recovery codes; those before count no more.

        Raises:
            InvalidRequest: there is no device that they could stand in for.
        """
        codes, hashes = _new_codes(user.id)

        def change(factors: Factors) -> tuple[Factors, None]:
            if not factors.devices:
                raise InvalidRequest("recovery codes stand in for a device, and you have none")
            return replace(factors, recovery=hashes), None

        await self._change(user, change)
        return codes

    async def taking(self, user: User) -> list[Operation]:
        """Return what deletes all that a person has, as parts of a batch."""
        try:
            read = await self._stores.factors.read(user.name)
        except NotFound:
            return []
        deleting = self._stores.factors.deleting(user.name, read)
        return [deleting, *await self._releasing(read.value.devices)]

    # --- Parts -----------------------------------------------------------------------------------------

    async def _find(self, user: User) -> Stored[Factors] | None:
        read = await self._record(user)
        return read if read is not None and read.value.user_id == user.id else None

    async def _record(self, user: User) -> Stored[Factors] | None:
        """Return what is kept under the user's name; it may be of a namesake who is gone."""
        try:
            return await self._stores.factors.read(user.name)
        except NotFound:
            return None

    async def _change(self, user: User, change: _Change[R]) -> R:
        """Change what a person has; a change that changes nothing writes nothing."""
        for _ in range(SWAP_TRIES):
            read = await self._find(user)
            if read is None:
                return change(Factors(user_id=user.id))[1]
            after, result = change(read.value)
            if after == read.value:
                return result
            if await self._done([self._stores.factors.swapping(user.name, read, after)]):
                return result
        raise _busy()

    async def _add(
        self,
        user: User,
        make: Callable[[Factors], Device],
        *also: Operation,
        unless: Sequence[FactorKind],
    ) -> tuple[str, ...]:
        for _ in range(SWAP_TRIES):
            # Who was reset meanwhile has none of what was begun before.
            still = await self._same(user)
            read = await self._record(user)
            is_theirs = read is not None and read.value.user_id == user.id
            before = read.value if read and is_theirs else Factors(user_id=user.id)
            if before.of_kinds(unless):
                raise AttemptOver("a device was set up meanwhile: sign in anew, and show it")
            if len(before.devices) >= MAX_DEVICES:
                raise InvalidRequest(f"you have {MAX_DEVICES} devices, which is the most")
            codes, hashes = ((), before.recovery) if before.devices else _new_codes(user.id)
            after = replace(before, devices=(*before.devices, make(before)), recovery=hashes)
            if read is not None:
                writing = self._stores.factors.swapping(user.name, read, after)
            else:
                writing = self._stores.factors.creating(user.name, after)
            if await self._done([writing, self._stores.users.checking(user.name, still), *also]):
                return codes
        raise _busy()

    async def _same(self, user: User) -> Stored[User]:
        """Return the user as stored now; AttemptOver: they were reset or deleted since."""
        try:
            read = await self._stores.users.read(user.name)
        except NotFound:
            read = None
        if read is None or (read.value.id, read.value.proofs) != (user.id, user.proofs):
            raise AttemptOver("your account was reset meanwhile")
        return read

    async def _releasing(self, devices: Sequence[Device]) -> list[Operation]:
        keys = [credential_key(d.credential) for d in devices if isinstance(d, WebauthnDevice)]
        found = [key for key in keys if await self._stores.credentials.find(key) is not None]
        return [self._stores.credentials.deleting(key) for key in found]

    async def _done(self, operations: Sequence[Operation]) -> bool:
        """Write together; False: somebody else wrote first."""
        try:
            await self._stores.batch(operations)
        except (AlreadyExists, CompareFailed, NotFound):
            return False
        return True


def passkey(factors: Factors, credential: str) -> WebauthnDevice:
    """Return the person's passkey of this credential, or raise InvalidRequest."""
    for device in factors.devices:
        if isinstance(device, WebauthnDevice) and device.credential == credential:
            return device
    raise InvalidRequest("this passkey is none of this person's")


def kinds_of(devices: Sequence[Device]) -> tuple[FactorKind, ...]:
    """Return the kinds there are, each once."""
    return tuple(dict.fromkeys(device.kind for device in devices))


def hash_recovery_code(code: str, user_id: str) -> str:
    """Return what is kept of a recovery code: it is random, so it needs no slow hash.

    The user's id is in it: another person's code is no code. How it is typed does not matter.
    """
    plain = "".join(c for c in code.lower() if c.isalnum())
    return hashlib.sha256(f"tport recovery code\0{user_id}\0{plain}".encode()).hexdigest()


def _new_codes(user_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return new recovery codes as people keep them, and their hashes."""
    codes = []
    for _ in range(RECOVERY_CODES):
        text = b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower()
        codes.append("-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP)))
    return tuple(codes), tuple(hash_recovery_code(code, user_id) for code in codes)


def _with(factors: Factors, device: Device) -> Factors:
    """Return `factors` with this device in the place of the one of its id."""
    devices = tuple(device if other.id == device.id else other for other in factors.devices)
    return replace(factors, devices=devices)


def _device(factors: Factors, id_: str) -> Device:
    for device in factors.devices:
        if device.id == id_:
            return device
    raise NotFound("you have no such device")


def _name(wanted: str, otherwise: str, factors: Factors) -> str:
    if not wanted.strip():
        return free_device_name(otherwise, factors.devices)
    return check_device_name(wanted, factors.devices)


def totp_context(user_id: str) -> str:
    return f"totp of {user_id}"


def credential_key(credential: str) -> str:
    return hashlib.sha256(credential.encode()).hexdigest()


def _busy() -> Unavailable:
    return Unavailable("this person's devices are being changed by many at once")
