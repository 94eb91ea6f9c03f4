"""What people do about themselves: password, devices, recovery codes; and proving anew who they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol

import msgspec

from tport.engine.api.callers import Rule
from tport.engine.api.factors import NextStep, Proof
from tport.engine.types.factor import FactorKind, FactorPolicy


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A device as its owner sees it; no secret of it."""

    id: str
    name: str
    kind: FactorKind
    added: datetime
    used: datetime | None


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What one person has to sign in with.

    Attributes:
        origin: what proves them, as `User.origin`.
        recovery_left: codes that were not used yet.
        password_changed: None: they have none.
    """

    user: str
    origin: str
    devices: tuple[DeviceInfo, ...]
    recovery_left: int
    policy: FactorPolicy
    password_min: int
    password_changed: datetime | None


class AccountAPI(Protocol):
    """Each is about the person for whom a proxy calls. ProofNeeded: see FRESH."""

    async def own_account(self) -> AccountInfo: ...

    async def check_fresh_proof(self) -> None:
        """Return when this session was proven within FRESH_PROOF. Raises ProofNeeded."""
        ...

    async def begin_proof(self) -> NextStep:
        """Begin to prove anew: by a device or recovery code; who has none, by the password."""
        ...

    async def prove_again(self, *, attempt: str, proof: Proof, known: str = "") -> None:
        """Prove it. `known`: as at sign-in, so that others' guesses lock nobody out of this either.

        Raises:
            AccessDenied: one message for every cause.
            AttemptOver: nothing is begun, or something else.
        """
        ...

    async def begin_device(self) -> NextStep:
        """Begin to set a device up, or go on with it: the same secret until it is done."""
        ...

    async def add_device(self, *, attempt: str, proof: Proof, name: str) -> tuple[str, ...]:
        """Set a device up that has been shown to work.

        Returns:
            Recovery codes, to be shown once, when it is the first one; else none.

        Raises:
            InvalidRequest: it doesn't work, or the name won't do ("": a name is found).
            AttemptOver: nothing is begun, or something else.
        """
        ...

    async def rename_device(self, *, id: str, name: str) -> None:
        """Raises NotFound, or InvalidRequest: the name won't do."""
        ...

    async def remove_device(self, *, id: str) -> None:
        """Raises NotFound, or InvalidRequest: it is the last one, and one is required."""
        ...

    async def new_recovery_codes(self) -> tuple[str, ...]:
        """Make recovery codes, to be shown once; those before count no more."""
        ...

    async def change_password(self, *, current: str, new: str, known: str = "") -> None:
        """Change the password; every other session of this person ends. `known`: as `prove_again`.

        Raises:
            AccessDenied: `current` is not the password.
            InvalidRequest: `new` won't do, in words for the person.
        """
        ...


RULES: Final[Mapping[str, Rule]] = {
    "own_account": None,
    "check_fresh_proof": None,
    "begin_proof": None,
    "prove_again": None,
    "begin_device": None,
    "add_device": None,
    "rename_device": None,
    "remove_device": None,
    "new_recovery_codes": None,
    "change_password": None,
}

CALLERS: Final[Mapping[str, frozenset[str]]] = dict.fromkeys(RULES, frozenset[str]())

# What a stolen session must not do: auth asks for a proof that is at most FRESH_PROOF old.
FRESH: Final = frozenset(
    {
        "check_fresh_proof",
        "begin_device",
        "add_device",
        "rename_device",
        "remove_device",
        "new_recovery_codes",
        "change_password",
    }
)
