"""What tport is held to: its figure, or its ratio to a peer's in the same run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.report import Medians, number, ours
from bench.rows import SSH

Verdict = Literal["stretch", "met", "missed", "not measured"]


@dataclass(frozen=True)
class Bar:
    """One promise.

    Attributes:
        row, figure: what of tport is looked at.
        peer: the stack it is compared to; "": the figure itself counts, in its own unit.
        bar, stretch: to be reached, and to be wished for.
        is_floor: these are the least there may be; else the most.
    """

    name: str
    row: str
    figure: str
    bar: float
    stretch: float
    peer: str = ""
    is_floor: bool = False

    def measured(self, found: Medians) -> float | None:
        """Return what is compared with `bar`; None: it was not measured."""
        stacks = found.get(self.row, {})
        own = stacks.get(ours(self.row), {}).get(self.figure)
        if not self.peer or own is None:
            return own
        theirs = stacks.get(self.peer, {}).get(self.figure)
        return own / theirs if theirs else None

    def verdict(self, found: Medians) -> Verdict:
        value = self.measured(found)
        if value is None:
            return "not measured"
        if self._reaches(value, self.stretch):
            return "stretch"
        return "met" if self._reaches(value, self.bar) else "missed"

    def _reaches(self, value: float, limit: float) -> bool:
        return value >= limit if self.is_floor else value <= limit

    def told(self, value: float) -> str:
        unit = "x" if self.peer else self.figure.rpartition(" ")[2].partition("/")[0]
        return f"{number(value)} {unit}"

    def limit(self, value: float) -> str:
        return f"{'>=' if self.is_floor else '<='} {value:g}"


def _cpu(name: str, row: str, peer: str, bar: float, stretch: float) -> Bar:
    return Bar(name, row, "CPU us/req", bar, stretch, peer)


def _rate(name: str, row: str, peer: str, bar: float, stretch: float, unit: str = "req/s") -> Bar:
    return Bar(name, row, unit, bar, stretch, peer, is_floor=True)


BARS: Final[Sequence[Bar]] = (
    _cpu("CPU per GET against nginx + auth_request + ssh -R", "get", SSH, 1.4, 0.9),
    _cpu("CPU per GET against Caddy", "get", "Caddy", 0.8, 0.5),
    _cpu("CPU per GET against mitmproxy", "get", "mitmproxy", 0.1, 0.05),
    _rate("GETs a second against ssh -R", "get", SSH, 1.5, 3),
    _rate("GETs a second against Caddy", "get", "Caddy", 1.0, 2),
    Bar("p99 at 400 req/s", "paced", "p99 ms", 10, 6),
    Bar("p99 at 400 req/s beside a download", "beside", "p99 ms", 20, 10),
    _cpu("CPU per varied GET against ssh -R", "varied", SSH, 1.4, 0.9),
    _rate("GETs a second over 1,000 connections against ssh -R", "many", SSH, 1.0, 2),
    _cpu("CPU per TLS connection with a GET against ssh -R", "tls", SSH, 1.3, 1.0),
    _rate("download, one stream, against ssh -R", "download", SSH, 1.0, 1.5, "MB/s"),
    _rate("upload, one stream, against ssh -R", "upload", SSH, 1.0, 1.5, "MB/s"),
    _rate("download over 50 ms against plain TCP", "download-far", "TCP copy, far", 0.8, 0.95, "MB/s"),
    _rate("upload over 50 ms against plain TCP", "upload-far", "TCP copy, far", 0.8, 0.95, "MB/s"),
    _rate("WebSocket round trips against ssh -R", "websocket", SSH, 0.8, 1.3, "trips/s"),
    Bar("memory of proxy and agent, idle", "memory", "idle MiB", 120, 80),
    Bar("memory of an idle connection", "memory", "KiB/connection", 32, 20),
    _cpu("CPU per GET with 1,000 apps, 10,000 sessions, 100 agents", "crowd", "tport", 1.1, 1.0),
    Bar("CPU of tport version", "commands", "version ms", 100, 80),
    Bar("CPU of tport --help", "commands", "--help ms", 200, 150),
)  # fmt: skip


def summary(found: Medians) -> str:
    """Say how many bars are met, and name those that aren't."""
    missed = [bar.name for bar in BARS if bar.verdict(found) == "missed"]
    unknown = sum(bar.verdict(found) == "not measured" for bar in BARS)
    told = f"{len(BARS) - len(missed) - unknown} of {len(BARS)} bars are met"
    told += f", {unknown} were not measured." if unknown else "."
    return f"{told} Missed: {'; '.join(missed)}." if missed else told


def bars_table(found: Medians) -> list[list[str]]:
    """Return the cells of the table of bars, its head first."""
    cells = [["", "bar", "stretch", "measured", ""]]
    for bar in BARS:
        value = bar.measured(found)
        told = "-" if value is None else bar.told(value)
        cells.append(
            [bar.name, bar.limit(bar.bar), bar.limit(bar.stretch), told, bar.verdict(found)]
        )
    return cells
