"""Medians over rounds, ratios to tport's peers, and the table."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from statistics import median
from typing import Final

from bench.rows import ROWS, Figures

Results = MutableMapping[str, MutableMapping[str, list[Figures]]]  # row → stack → a round each
OURS: Final = "tport"


def medians(rounds: Sequence[Figures]) -> dict[str, float]:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}


def table(results: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """Write a table for each row: every figure, and the leading one of tport as a ratio to each peer's."""
    lines: list[str] = []
    for row, stacks in results.items():
        found = {stack: medians(rounds) for stack, rounds in stacks.items()}
        names = list(next(iter(found.values())))
        lead = ROWS[row].lead
        lines += [
            "",
            ROWS[row].title,
            f"  {'':16}" + "".join(f"{name:>14}" for name in names) + f"{'tport / it':>14}",
        ]
        for stack, figures in found.items():
            ratio = f"{found[OURS][lead] / figures[lead]:.2f}" if OURS in found else "failed"
            cells = "".join(f"{figures[name]:14,.1f}" for name in names)
            lines.append(f"  {stack:16}{cells}{ratio:>14}")
    return "\n".join(lines[1:]) + "\n"
