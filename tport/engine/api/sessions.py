"""Sessions that are live, and their end: everybody's, and one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.session import SessionInfo


class SessionAPI(Protocol):
    async def list_sessions(self, *, user: str, limit: int) -> tuple[SessionInfo, ...]:
        """Return live sessions, the newest first.

        Args:
            user: only this user's; "": everybody's.
            limit: 1 to 10 000.
        """
        ...

    async def end_session(self, *, id: str) -> SessionInfo:
        """End a session: a web session with the app sessions that came from it.

        Args:
            id: or its beginning, 8 characters at least, while one session has it.

        Raises:
            NotFound: no live session has it.
            InvalidRequest: several begin so, or it is too short.
        """
        ...

    async def list_own_sessions(self) -> tuple[SessionInfo, ...]:
        """Return the live sessions of the person who is signed in, the newest first."""
        ...

    async def end_own_session(self, *, id: str) -> SessionInfo:
        """End a session of the person who is signed in. As `end_session`; others' don't exist."""
        ...


_NOBODY: Final[frozenset[str]] = frozenset()  # only people, through a proxy

CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "list_sessions": ADMIN,
    "end_session": ADMIN,
    "list_own_sessions": _NOBODY,
    "end_own_session": _NOBODY,
}

RULES: Final[Mapping[str, Rule]] = {
    "list_sessions": ("session", "list"),
    "end_session": ("session", "delete"),
    "list_own_sessions": None,
    "end_own_session": None,
}
