"""Medians over rounds and over runs, and tables of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from bench.rows import ROWS, SSH, Figures

Results = Mapping[str, Mapping[str, Sequence[Figures]]]  # row → stack → a round each
Medians = Mapping[str, Mapping[str, Figures]]  # row → stack → figures
OURS: Final = "tport"
CHISEL: Final = 1.42  # times the CPU of the ssh -R stack, measured once in one run; see the docs


def medians(results: Results) -> Medians:
    return {
        row: {stack: _median(rounds) for stack, rounds in stacks.items() if rounds}
        for row, stacks in results.items()
    }


def over_runs(runs: Sequence[Results]) -> Medians:
    """Return the medians of several runs' medians; what only some runs have, of those."""
    rows = dict.fromkeys(row for run in runs for row in run)
    return medians({row: _together([medians(run).get(row, {}) for run in runs]) for row in rows})


def _together(runs: Sequence[Mapping[str, Figures]]) -> dict[str, list[Figures]]:
    stacks = dict.fromkeys(stack for run in runs for stack in run)
    return {stack: [run[stack] for run in runs if stack in run] for stack in stacks}


def _median(rounds: Sequence[Figures]) -> Figures:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}


def ours(row: str) -> str:
    """Return the stack of a row that is tport."""
    return ROWS[row].stacks[0]


def table_of(row: str, found: Mapping[str, Figures]) -> list[list[str]]:
    """Return the cells of a row's table, its head first.

    Each figure of each stack, and the leading one of tport over the stack's.
    """
    names = list(next(iter(found.values())))
    lead, mine = ROWS[row].lead, ours(row)
    base = found.get("application")
    head = [
        "",
        *names,
        *(["added ms"] if base else []),
        f"tport / it ({lead.rpartition(' ')[0] or lead})",
    ]
    cells = [head]
    for stack, figures in found.items():
        added = [number(figures[lead] - base[lead])] if base else []
        ratio = number(found[mine][lead] / figures[lead]) if mine in found else "-"
        cells.append([stack, *(number(figures[name]) for name in names), *added, ratio])
    if row == "get" and SSH in found and mine in found:
        stands_for = CHISEL * found[SSH][lead]
        gaps = [""] * (len(names) - 1)
        ratio = number(found[mine][lead] / stands_for)
        cells.append([f"chisel, not run: {CHISEL} x {SSH}", number(stands_for), *gaps, ratio])
    return cells


def text_tables(found: Medians) -> str:
    """Return all tables for a terminal."""
    lines: list[str] = []
    for row, stacks in found.items():
        if stacks:
            lines += [ROWS[row].title, *aligned(table_of(row, stacks)), ""]
    return "\n".join(lines)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines, columns two spaces apart: the first to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, all columns but the first to the right."""
    head, *rest = cells
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest)) + "\n"


def number(value: float) -> str:
    """Return a figure as people read it: three digits that count, thousands parted."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"
