"""What tests measured against a bar: told at the end of a run, and written into docs/reliability.md.

def test_a_dead_tunnel_is_noticed(hold: Hold) -> None:
    hold("R-04 dead tunnel noticed", seconds, "s", at_most=15)

make torture    # writes build/figures.json
python -m tests.figures build/figures.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

PAGE: Final = Path("docs/reliability.md")
START: Final = "<!-- written by tests/figures.py -->\n"
BUSY: Final = (
    4.0  # times a bar in seconds, where tests run beside one another; for `torture` it is the bar
)
END: Final = "<!-- until here -->\n"


class Figure(msgspec.Struct, frozen=True):
    """Attributes:
    what: begins with the ID of what it proves, where there is one; unique in a run.
    measured: in `unit`.
    at_most, at_least: the bar, in the same unit; None: not held to one.
    """

    what: str
    measured: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    @property
    def bar(self) -> str:
        most = [] if self.at_most is None else [f"<= {_short(self.at_most)}"]
        least = [] if self.at_least is None else [f">= {_short(self.at_least)}"]
        return ", ".join(least + most)


class Hold(Protocol):
    """Write a figure down, then fail the test if it misses its bar."""

    def __call__(
        self,
        what: str,
        measured: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None: ...


def table(figures: Sequence[Figure]) -> str:
    """Return them as a table in Markdown, in the order of their names."""
    lines = ["| what | bar | measured | |", "|---|---:|---:|---|"]
    for each in sorted(figures, key=lambda figure: figure.what):
        verdict = "" if not each.bar else "met" if each.is_met else "**missed**"
        said = f"{_short(each.measured)} {each.unit}".strip()
        lines.append(f"| {each.what} | {each.bar} | {said} | {verdict} |")
    return "\n".join(lines) + "\n"


def written(page: str, figures: Sequence[Figure]) -> str:
    """Return the page with this table at its place.

    Raises:
        ValueError: the page has no such place.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError("the page has no place for figures")
    return f"{before}{start}\n{table(figures)}\n{end}{after}"


def _short(value: float) -> str:
    """Whole where that says enough, else with three digits."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    figures = msgspec.convert(json.loads(Path(sys.argv[1]).read_text()), list[Figure])
    PAGE.write_text(written(PAGE.read_text(), figures))


if __name__ == "__main__":
    main()
