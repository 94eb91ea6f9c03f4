"""Asking for access, deciding on it, and why somebody has it or doesn't."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.explanation import Explanation
from tport.engine.types.request import AccessRequest


class RequestAPI(Protocol):
    async def request_access(self, *, host: str, reason: str) -> AccessRequest:
        """Ask, as the person who is signed in, to open what is at a host.

        While one is pending for it, that one is returned.

        Raises:
            InvalidRequest: the reason is too long, or the host is none.
            LimitExceeded: too many of theirs are pending.
        """
        ...

    async def own_requests(self) -> tuple[AccessRequest, ...]:
        """Return the requests of the person who is signed in, the newest first."""
        ...

    async def explain_own(self, *, host: str) -> Explanation | None:
        """Say why the person who is signed in may or may not open what is at a host.

        None: nothing is there, or their roles don't let them read offers.
        """
        ...

    async def list_requests(self) -> tuple[AccessRequest, ...]:
        """Return everybody's requests, the newest first."""
        ...

    async def approve_request(
        self, *, id: str, role: str, ttl: float, answer: str
    ) -> AccessRequest:
        """Give the person a role for `ttl` seconds.

        Raises:
            NotFound: there is no such request, or no such role.
            CompareFailed: it was decided meanwhile.
            InvalidRequest: they have that role already, or the time is too long.
            AccessDenied: it is the approver's own request.
        """
        ...

    async def deny_request(self, *, id: str, answer: str) -> AccessRequest:
        """Refuse a request.

        Raises:
            NotFound: there is no such request.
            CompareFailed: it was decided meanwhile.
        """
        ...

    async def explain_request(self, *, id: str) -> Explanation | None:
        """Say why who asked may or may not open what they asked for. None: nothing is there.

        Raises:
            NotFound: there is no such request, or the user is gone.
        """
        ...

    async def explain_access(self, *, user: str, app: str) -> Explanation:
        """Say why a user may or may not open an application.

        Raises:
            NotFound: there is no such user, or no agent offers the application.
        """
        ...


_NOBODY: Final[frozenset[str]] = frozenset()  # only people, through a proxy

CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "request_access": _NOBODY,
    "own_requests": _NOBODY,
    "explain_own": _NOBODY,
    "list_requests": ADMIN,
    "approve_request": ADMIN,
    "deny_request": ADMIN,
    "explain_request": ADMIN,
    "explain_access": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "request_access": None,
    "own_requests": None,
    "explain_own": None,
    "list_requests": ("access_request", "list"),
    "approve_request": ("access_request", "update"),
    "deny_request": ("access_request", "update"),
    "explain_request": ("access_request", "list"),
    "explain_access": ("user", "read"),
}

FRESH: Final = frozenset({"approve_request"})
