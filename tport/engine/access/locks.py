"""Does a lock keep this person, or this machine, out now?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from tport.engine.errors import Locked
from tport.engine.types.lock import Lock


def lock_on_person(
    locks: Iterable[Lock], user: str, roles: Sequence[str], now: datetime
) -> Lock | None:
    """Return a lock in force on this user or on one of their roles, if there is one."""
    for lock in locks:
        target = lock.target
        hit = target.user == user if target.user else bool(target.role) and target.role in roles
        if hit and lock.is_in_force(now):
            return lock
    return None


def check_person(locks: Iterable[Lock], user: str, roles: Sequence[str], now: datetime) -> None:
    """Return when no lock in force is on this user or on one of their roles.

    Raises:
        Locked: with the lock's message; `reason` names the lock.
    """
    if (lock := lock_on_person(locks, user, roles, now)) is not None:
        raise locked("your account is locked", lock)


def check_host(locks: Iterable[Lock], host_id: str, now: datetime) -> None:
    """Return when no lock in force is on this machine.

    Raises:
        Locked: as above.
    """
    for lock in locks:
        if lock.target.server_id and lock.target.server_id == host_id and lock.is_in_force(now):
            raise locked("this agent is locked", lock)


def locked(what: str, lock: Lock) -> Locked:
    """Make the refusal for those a lock stops: what it says, and until when."""
    until = f" until {lock.expires:%Y-%m-%d %H:%M} UTC" if lock.expires is not None else ""
    said = f": {lock.message}" if lock.message else ""
    return Locked(f"{what}{until}{said}", reason=f"lock {lock.name} on {lock.target}")
