"""Opening an application: what the proxy and the web pages tell each other."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

MAX_PATH: Final = 2048  # characters of an application's path that survive signing in

# What is known of why this round had to be begun; "": the browser brought no session.
RoundCause = Literal["", "no-state-cookie", "code-refused", "session-over"]


class Onward(msgspec.Struct, frozen=True, kw_only=True):
    """Where a browser goes next while several applications are opened one after the other.

    Attributes:
        host: a registered application's, when the proxy sealed it.
        path: ours on that host.
        left: how many applications are still to come, the one that was wanted among them.
    """

    host: str
    path: str
    left: int


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed launch state says: somebody came to an application without a session.

    The seal proves that this cluster's proxy wrote it, not that `app_host` is registered:
    anyone may send any Host. Nothing is redirected there before auth made a code for it.

    Attributes:
        state_id: the secret of the attempt; its SHA-256 binds the code, the browser's state
            cookie proves it.
        app_host: the host that was asked for, lower case, no port.
        raw_path: path and query as they came, percent-encoding untouched.
        expired: sealed longer ago than LAUNCH_STATE_TTL: the state cookie is gone, so that
            the attempt must start again at the application.
        age: seconds since it was sealed, by this proxy's clock.
        cause: why the round before failed, for the page that explains a loop.
        onward: when another application is being opened and this one only with it, where to go
            from here, whether this one could be opened or not.
    """

    state_id: str
    app_host: str
    raw_path: str = "/"
    expired: bool = False
    age: float = 0.0
    cause: RoundCause = ""
    onward: Onward | None = None


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an application that is opened again and again.

    Attributes:
        opened: sessions that were made for it in the last rounds.
        skew: seconds by which the clocks of this proxy and of auth differ.
    """

    host: str
    cause: RoundCause
    opened: int
    skew: float


def own_path(raw: str, *, limit: int = MAX_PATH, default: str = "/") -> str:
    """Return `raw` when, behind an origin or alone in Location, it stays on that origin.

    Else `default`. One slash first and no second; only visible ASCII; no backslash, since
    browsers read it as a slash; at most `limit` characters. Not judged by `urlsplit`, which
    strips what browsers strip and takes a slash and a backslash for a path.
    """
    if not raw.startswith("/") or raw.startswith("//") or len(raw) > limit:
        return default
    if any(not "!" <= character <= "~" or character == "\\" for character in raw):
        return default
    return raw
