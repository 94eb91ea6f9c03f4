"""Locks: what keeps a person or an agent out at once, whatever else they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.lock import Lock, LockTarget


class LockAPI(Protocol):
    async def create_lock(self, *, target: LockTarget, message: str, ttl: float) -> Lock:
        """Lock a user, a role or an agent. What runs of it ends within 5 s.

        Args:
            target: `server_id` may be an agent's host name, while one agent has it.
            message: for those it stops.
            ttl: seconds; 0: until it is removed.

        Raises:
            NotFound: there is no such user, role or agent.
            InvalidRequest: not one target, or a message or time that can't be meant.
        """
        ...

    async def list_locks(self) -> tuple[Lock, ...]:
        """Return the locks in force, the newest first."""
        ...

    async def delete_lock(self, *, name: str) -> None:
        """Lift a lock. Raises NotFound: there is none of this name."""
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "create_lock": ADMIN,
    "list_locks": ADMIN,
    "delete_lock": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "create_lock": ("lock", "create"),
    "list_locks": ("lock", "list"),
    "delete_lock": ("lock", "delete"),
}

# The one keeps anybody out, who administers among them, the other lets somebody in again.
FRESH: Final = frozenset({"create_lock", "delete_lock"})
