"""What a selftest looks at, and what it found, as programs read it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

import tport
from tport.engine.selftest.failure import Failure
from tport.engine.selftest.figures import MEMORY_LIMIT, MIB, Figure
from tport.engine.selftest.payload import GAP, LARGEST_MESSAGE

_DIGITS: Final = 3  # after the point in JSON: of a millisecond that is a microsecond

# --- What is looked at, not measured yet ---------------------------------------------------------

SIGN_IN: Final = Figure(
    name="sign_in",
    what="signing up, opening it",
    unit="ms",
    expected="it opens",
)
STATUS: Final = Figure(
    name="status",
    what="front page: status",
    unit="status",
    expected="below 500, its own",
)
REQUESTS: Final = tuple(
    Figure(
        name=f"request_{name}",
        what=f"request, {what}",
        unit="ms",
        adds=True,
        expected="each answered",
    )
    for name, what in (("median", "median"), ("p99", "99 of 100"))
)
FIRST_BYTE: Final = Figure(
    name="first_byte",
    what="first byte, median",
    unit="ms",
    adds=True,
    expected="each answered",
)
EVENTS: Final = (
    Figure(
        name="event_delay",
        what="event's first byte",
        unit="ms",
        adds=True,
        expected="all arrive",
    ),
    Figure(
        name="event_gap",
        what=f"events {GAP * 1000:.0f} ms apart",
        unit="ms",
        expected=f"at least {GAP * 500:.0f} ms",
    ),
)
ECHOES: Final = (
    Figure(
        name="websocket_median",
        what="WebSocket, median",
        unit="ms",
        adds=True,
        expected="back unchanged",
    ),
    Figure(
        name="websocket_large",
        what=f"WebSocket, {LARGEST_MESSAGE // MIB} MiB",
        unit="ms",
        adds=True,
        expected="back unchanged",
    ),
)
HEADERS: Final = Figure(
    name="headers",
    what="headers that arrive",
    unit="",
    expected="none is forged",
)
REMOVED: Final = Figure(name="user_removed", what="the visitor's user", unit="", expected="removed")


def transfer(name: str, what: str) -> tuple[Figure, Figure, Figure]:
    """Return what is looked at in a download or an upload: bytes, and memory of both processes."""
    memory = f"at most {MEMORY_LIMIT // MIB} MiB"
    return (
        Figure(name=name, what=what, unit="MiB/s", expected="the same bytes"),
        Figure(
            name=f"{name}_memory_proxy",
            what=f"{name}: proxy grew",
            unit="MiB",
            expected=memory,
        ),
        Figure(
            name=f"{name}_memory_agent",
            what=f"{name}: agent grew",
            unit="MiB",
            expected=memory,
        ),
    )


def broken(blanks: Sequence[Figure], why: str) -> tuple[Figure, ...]:
    """Return the figures of a probe that failed: the first says why, the others are missing."""
    first, *others = blanks
    return (first.failed(why), *(blank.skipped() for blank in others))


# --- What was found --------------------------------------------------------------------------------


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one selftest.

    Attributes:
        app: the application; "": the selftest's own, behind a cluster to throw away.
        proxy: host:port.
        size: bytes of each transfer; None: there was none.
        failure: where the way to the application broke, if it did.
        advice: what to do about what isn't right, a sentence each.
    """

    app: str
    proxy: str
    size: int | None
    figures: tuple[Figure, ...]
    failure: Failure | None = None
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(figure.ok is False for figure in self.figures)

    def value(self) -> dict[str, object]:
        """Return it as dicts and plain values; the keys stay what they are."""
        failure = self.failure
        return {
            "ok": self.ok,
            "version": tport.__version__,
            "app": self.app or None,
            "proxy": self.proxy,
            "size": self.size,
            "figures": {figure.name: _value(figure) for figure in self.figures},
            "failure": None if failure is None else msgspec.to_builtins(failure),
        }


def _value(figure: Figure) -> Mapping[str, object]:
    return {
        "what": figure.what,
        "unit": figure.unit or None,
        "direct": _rounded(figure.direct),
        "through": _rounded(figure.through),
        "added": _rounded(figure.added),
        "samples": figure.samples,
        "expected": figure.expected,
        "ok": figure.ok,
        "note": figure.note,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)
