"""Second factors: what a person shows beside the password, and what a cluster demands of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from tport.engine.errors import InvalidRequest

FactorKind = Literal["totp", "webauthn"]
KINDS: Final[tuple[FactorKind, ...]] = ("totp", "webauthn")

SecondFactor = Literal["off", "optional", "on", "otp", "webauthn"]  # the words of Teleport's file

MAX_DEVICE_NAME: Final = 64  # characters
MAX_DEVICES: Final = 20  # of one person

_SPACES = re.compile(r"\s+")


class FactorPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster demands beside a password.

    Attributes:
        kinds: those that may be set up, and that count; none: a password alone signs in.
        required: nobody is signed in by a password alone.
    """

    kinds: tuple[FactorKind, ...] = KINDS
    required: bool = True

    @classmethod
    def from_word(cls, word: SecondFactor) -> FactorPolicy:
        """Return what `second_factor: <word>` means."""
        if word == "off":
            return OFF
        if word == "otp":
            return cls(kinds=("totp",))
        if word == "webauthn":
            return cls(kinds=("webauthn",))
        return cls(required=word == "on")

    @property
    def word(self) -> SecondFactor:
        """What `second_factor` would say: the word that `from_word` makes this of."""
        if not self.kinds:
            return "off"
        if not self.required:
            return "optional"
        return "on" if len(self.kinds) > 1 else "otp" if "totp" in self.kinds else "webauthn"


ON: Final = FactorPolicy()
OFF: Final = FactorPolicy(kinds=(), required=False)


class TotpDevice(msgspec.Struct, frozen=True, kw_only=True, tag="totp"):
    """An authenticator app.

    Attributes:
        secret: sealed (`auth.seal`).
        step: the last time-step whose code was taken; no code of it or before counts again.
    """

    id: str
    name: str
    added: datetime
    secret: str
    step: int
    used: datetime | None = None

    @property
    def kind(self) -> FactorKind:
        return "totp"


class WebauthnDevice(msgspec.Struct, frozen=True, kw_only=True, tag="webauthn"):
    """A passkey or a security key.

    Attributes:
        credential: base64url of what the authenticator calls it.
        public_key: base64url of its COSE key.
        rp_id: the host it was made for; it works at no other.
        sign_count: the authenticator's counter when last seen; 0: it has none.
    """

    id: str
    name: str
    added: datetime
    credential: str
    public_key: str
    rp_id: str
    sign_count: int
    used: datetime | None = None

    @property
    def kind(self) -> FactorKind:
        return "webauthn"


Device = TotpDevice | WebauthnDevice


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """All that one person has beside the password: one record, so that a change of it is one write.

    Attributes:
        user_id: a namesake made later has none of it.
        recovery: SHA-256 hex of each recovery code that is left.
    """

    user_id: str
    devices: tuple[Device, ...] = ()
    recovery: tuple[str, ...] = ()

    def of_kinds(self, kinds: Sequence[FactorKind]) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.kind in kinds)


def check_device_name(name: str, taken: Sequence[Device]) -> str:
    """Return a device's name as it is kept.

    Raises:
        InvalidRequest: none, too long, not printable, or another device has it.
    """
    normal = _SPACES.sub(" ", unicodedata.normalize("NFC", name)).strip()
    if not normal or len(normal) > MAX_DEVICE_NAME or not normal.isprintable():
        raise InvalidRequest(f"a device's name has 1 to {MAX_DEVICE_NAME} printable characters")
    if normal.casefold() in {device.name.casefold() for device in taken}:
        raise InvalidRequest(f"you have a device of that name already: {normal}")
    return normal


def free_device_name(wanted: str, taken: Sequence[Device]) -> str:
    """Return `wanted`, with a number behind it when another device has that name."""
    names = {device.name.casefold() for device in taken}
    name, number = wanted, 1
    while name.casefold() in names:
        number += 1
        name = f"{wanted} {number}"
    return name
