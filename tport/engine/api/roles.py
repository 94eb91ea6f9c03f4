"""Roles as pages edit them: each with its revision and who has it, and what a change would open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.role import Role


class RoleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A role. `users`: who has it, by name. `is_preset`: one of tport's own."""

    role: Role
    revision: int
    users: tuple[str, ...] = ()
    is_preset: bool = False


class Opens(msgspec.Struct, frozen=True, kw_only=True):
    """Which applications a user may open now, and would with a change. Names, sorted."""

    user: str
    now: tuple[str, ...]
    then: tuple[str, ...]


class RolePreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a role does, by the applications that are offered now.

    Attributes:
        alone: what it opens to somebody who has it only, and no traits.
        users: everybody, by name; the first MAX_USERS of them.
    """

    alone: tuple[str, ...]
    users: tuple[Opens, ...]


class RoleAPI(Protocol):
    async def list_role_infos(self) -> tuple[RoleInfo, ...]: ...

    async def create_role(self, *, role: Role) -> None:
        """Raises AlreadyExists, or InvalidRequest: it can't be meant."""
        ...

    async def update_role(self, *, role: Role, revision: int) -> None:
        """Replace a role as its editor saw it; it counts at once.

        Raises:
            CompareFailed: it was changed since; the message says by whom.
            NotFound: it is gone.
            InvalidRequest: it can't be meant.
        """
        ...

    async def delete_role(self, *, name: str) -> None:
        """Delete a role.

        Raises:
            NotFound: there is none of this name.
            InvalidRequest: it is tport's own, or somebody has it.
        """
        ...

    async def preview_role(self, *, role: Role) -> RolePreview:
        """Say who would open what if this role were stored.

        Raises:
            InvalidRequest: it can't be meant.
            LimitExceeded: others ask for it already, and take seconds.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "list_role_infos": ADMIN,
    "create_role": ADMIN,
    "update_role": ADMIN,
    "delete_role": ADMIN,
    "preview_role": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "list_role_infos": ("role", "list"),
    "create_role": ("role", "create"),
    "update_role": ("role", "update"),
    "delete_role": ("role", "delete"),
    "preview_role": ("role", "update"),
}

# What decides who may do what takes a proof of who decides it.
FRESH: Final = frozenset({"create_role", "update_role", "delete_role"})
