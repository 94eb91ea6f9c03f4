"""What is told to a person, or a program, whose request for an application got no answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Place = Literal["you", "proxy", "agent", "app"]  # the stations of a request, in order


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One request that failed on its way.

    Attributes:
        status: 502, 503 or 504.
        hop: the first station that did not do its part; those before it did.
        error: one word for programs, such as `connection-refused`.
        cause: what happened, a plain sentence without its full stop.
        advice: what to do next, sentences; "": nothing better than trying again.
        app: the application's name.
        host: its public host.
        agent: what the agent's machine calls itself; "" when none was reached.
        since: when it began; None: not known.
        request_id: what to look for in logs.
        took: seconds from the request to the failure; None: not known.
        waited: of these, what the application was given; None: it was not reached.
        repeatable: asking again by a click is the same request (a GET or HEAD).
    """

    status: int
    hop: Place
    error: str
    cause: str
    request_id: str
    app: str
    host: str
    advice: str = ""
    agent: str = ""
    since: datetime | None = None
    took: float | None = None
    waited: float | None = None
    repeatable: bool = True

    @property
    def times(self) -> dict[Place, float]:
        """The seconds spent at the stations where they are known."""
        if self.took is None:
            return {}
        if self.waited is None:
            return {self.hop: self.took}
        return {"agent": self.took - self.waited, "app": self.waited}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, ready to send: header names are lower case, Content-Length is absent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
