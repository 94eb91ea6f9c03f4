"""Locks: what somebody, or a machine, may not do for a while, whatever their roles say."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tport.engine.errors import InvalidRequest

MAX_MESSAGE = 512  # characters
COPIED = "copied-"  # and an agent's id: the name of the lock that auth itself makes


class LockTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a lock keeps out; exactly one field is set.

    Attributes:
        user: a user's canonical name; holds for whoever bears it later, too.
        role: everybody who has this role.
        server_id: an agent's id.
    """

    user: str = ""
    role: str = ""
    server_id: str = ""

    def __str__(self) -> str:
        if self.user:
            return f"user {self.user}"
        return f"role {self.role}" if self.role else f"agent {self.server_id}"


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """One lock.

    Attributes:
        name: random, unless its maker chose one.
        message: for those it stops.
        expires: from when on it means nothing; None: it must be removed.
    """

    name: str
    target: LockTarget
    message: str = ""
    expires: datetime | None = None
    created: datetime | None = None
    created_by: str = ""

    @property
    def is_on_copied(self) -> bool:
        """Is it auth's own, on an agent that two machines have been?"""
        return self.name == COPIED + self.target.server_id

    def is_in_force(self, now: datetime) -> bool:
        return self.expires is None or now < self.expires


def check_target(target: LockTarget) -> LockTarget:
    """Return `target` when it names one thing.

    Raises:
        InvalidRequest: none, or several: what that would lock is not guessed at.
    """
    named = [field for field in target.__struct_fields__ if getattr(target, field)]
    if len(named) != 1:
        found = f"names {', '.join(named)}" if named else "names nothing"
        raise InvalidRequest(
            f"a lock's target {found}; it needs one of user, role, server_id",
            hint="make a lock for each" if named else "tport lock --user=NAME is the most usual",
        )
    return target


def check_message(message: str) -> str:
    """Return `message` when it can be shown on one line.

    Raises:
        InvalidRequest: it is too long, or not printable.
    """
    if len(message) > MAX_MESSAGE or not message.isprintable():
        raise InvalidRequest(
            f"a lock's message is one line of at most {MAX_MESSAGE} printable characters"
        )
    return message
