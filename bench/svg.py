"""A plot of bars, drawn by hand: an SVG that suits a light and a dark page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.report import OURS, Medians, number

WIDTH: Final = 760
_NAMES: Final = 160  # px for the stacks' names
_FIGURES: Final = 80  # px for the figure behind a bar
_BAR: Final = 14
_LINE: Final = 21
_HEAD: Final = 30
_GAP: Final = 16
_ROOM: Final = WIDTH - _NAMES - _FIGURES
_CUT: Final = 4.0  # times the second longest, beyond which a bar is cut: it would dwarf the others

_STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.head { font-weight: 600 }
.unit { fill: #57606a }
.bar { fill: #9aa4b2 }
.ours { fill: #0a66c2 }
.cut { stroke: #fff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .unit { fill: #9da7b3 }
  .bar { fill: #66707d }
  .ours { fill: #4da3ff }
  .cut { stroke: #0d1117 }
}
"""


@dataclass(frozen=True)
class Group:
    """One kind of work: what each stack needed, or did."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Pick:
    """Which figure of a row is drawn."""

    row: str
    figure: str
    title: str
    unit: str


PICKS: Final = (
    Pick("get", "CPU us/req", "A GET of 1 KiB", "µs of CPU, less is better"),
    Pick("tls", "CPU us/req", "A TLS connection with a GET", "µs of CPU, less is better"),
    Pick("websocket", "CPU us/trip", "A WebSocket message and its echo", "µs of CPU, less is better"),
    Pick("beside", "p99 ms", "p99 of 400 requests a second beside a download", "ms, less is better"),
    Pick("download", "MB/s", "Download, one stream", "MB/s, more is better"),
    Pick("download-far", "MB/s", "Download over 50 ms", "MB/s, more is better"),
)  # fmt: skip


def groups(found: Medians) -> list[Group]:
    """Return what is drawn of these figures."""
    drawn = []
    for pick in PICKS:
        stacks = found.get(pick.row, {})
        bars = [(name, figures[pick.figure]) for name, figures in stacks.items()]
        if bars:
            drawn.append(Group(pick.title, pick.unit, bars))
    return drawn


def draw(drawn: Sequence[Group], title: str) -> str:
    """Return the plot; its first element says `title` to who can't see it."""
    parts: list[str] = []
    top = 0
    for group in drawn:
        parts += _head(group, top)
        top += _HEAD
        full = _full(value for _, value in group.bars)
        for name, value in group.bars:
            parts += _bar(name, value, full, top)
            top += _LINE
        top += _GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _head(group: Group, top: int) -> list[str]:
    return [
        f'<text class="head" x="0" y="{top + 20}">{escape(group.title)}'
        f'<tspan class="unit" font-weight="400"> · {escape(group.unit)}</tspan></text>'
    ]


def _bar(name: str, value: float, full: float, top: int) -> list[str]:
    width = max(1.0, min(value, full) / full * _ROOM)
    kind = "ours" if name.partition(",")[0] == OURS else "bar"
    middle = top + _LINE - 6
    parts = [
        f'<text x="{_NAMES - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{kind}" x="{_NAMES}" y="{middle - _BAR + 3}" width="{width:.1f}"'
        f' height="{_BAR}" rx="2"/>',
        f'<text x="{_NAMES + width + 6:.1f}" y="{middle}">{number(value)}</text>',
    ]
    if value > full:
        x = _NAMES + width - 24
        parts.append(f'<path class="cut" d="M{x:.1f} {middle + 6}l8 -{_BAR + 6}"/>')
    return parts


def _full(values: Iterable[float]) -> float:
    """Return the value of a bar as long as there is room."""
    longest, *others = sorted(values, reverse=True)
    return min(longest, others[0] * _CUT / 3) if others and longest > others[0] * _CUT else longest
