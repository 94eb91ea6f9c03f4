"""What the proxy's own answers mean: which hop failed, and why. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from tport.engine.errors import TportError

Headers = Sequence[tuple[bytes, bytes]]

# What the proxy says by itself, without a hop: see docs/errors.md.
_PROXYS_OWN: Final = frozenset(
    {
        "access-denied",
        "auth-unreachable",
        "cross-site",
        "internal-error",
        "misdirected-request",
        "not-signed-in",
        "too-many-requests",
    }
)
_HOPS: Final = {
    "you": "on the way to the proxy",
    "proxy": "at the proxy",
    "agent": "at the agent",
    "app": "at the application",
    "unknown": "somewhere on the way",
}
_FRACTION = re.compile(r"\.[0-9]+")  # of a second
_TITLE = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)
_SAID = re.compile(r'<p class="said">(.*?)</p>', re.DOTALL)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failure, as the proxy's JSON tells it, or as it looks from here.

    `hop` is you, proxy, agent or app; `unknown` where nobody can tell.
    `cause` is a plain sentence without its full stop; `since` RFC 3339, or "".
    """

    hop: str
    error: str
    cause: str
    advice: str = ""
    since: str = ""
    request_id: str = ""

    def text(self) -> str:
        since = f", since {_FRACTION.sub('', self.since)}" if self.since else ""
        return f"failed {_HOPS[self.hop]}: {self.cause} ({self.error}{since})"


class PathFailed(TportError):
    """The way to the application is broken; `failure` says where."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text(), hint=failure.advice)
        self.failure = failure


class _Told(msgspec.Struct, frozen=True):
    """The JSON of an error, as far as it matters here."""

    error: str
    message: str = ""
    hop: str = ""
    cause: str = ""
    advice: str = ""
    since: str | None = None
    request_id: str = ""


def failure_in(status: int, headers: Headers, body: bytes) -> Failure | None:
    """Return what failed, where tport answers in the application's place; None: this is its own answer."""
    if status < 400 or (b"content-type", b"application/json") not in headers:
        return None
    try:
        told = msgspec.json.decode(body, type=_Told)
    except msgspec.DecodeError:
        return None
    if told.hop not in _HOPS.keys() - {"unknown"} and told.error not in _PROXYS_OWN:
        return None
    return Failure(
        hop=told.hop if told.hop in _HOPS else "proxy",
        error=told.error,
        cause=told.cause or told.message,
        advice=told.advice,
        since=told.since or "",
        request_id=told.request_id,
    )


def page_says(status: int, body: bytes) -> str:
    """Return what a page of tport's own tells the person who sees it, on one line."""
    text = body.decode("utf-8", "replace")
    parts = [found[1] for pattern in (_TITLE, _SAID) if (found := pattern.search(text))]
    words = ": ".join(" ".join(html.unescape(part).split()) for part in parts)
    return f"{words.rstrip('.')} (status {status})" if words else f"status {status}, without words"
