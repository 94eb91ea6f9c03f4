"""python -m bench: see the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Final

from bench.bars import bars_table, summary
from bench.door import Failed
from bench.report import aligned, medians, text_tables
from bench.rows import MIB, ROWS, Effort, Figures
from bench.stack import Stack
from bench.stacks import STACKS
from bench.svg import draw, groups
from bench.upstream import Upstream, open_upstream
from bench.versions import versions
from tests.e2e.harness import GaveUp, Tport, tport_home

# s after the start from which on nothing is measured once more: without the crowd, and with it.
ENOUGH: Final = {False: 420.0, True: 570.0}
QUICK: Final = ("memory", "get", "varied", "tls", "paced", "download", "upload", "websocket",
                "download-far", "commands")  # fmt: skip
QUICK_STACKS: Final = ("tport", "nginx + ssh -R", "Caddy", "tport, far", "TCP copy, far")

Rounds = dict[str, dict[str, list[Figures]]]


def main() -> None:
    given = _arguments()
    bench = _Bench(given.rounds, given.stacks)
    try:
        with tempfile.TemporaryDirectory(prefix="tport-bench-") as folder:
            effort = (
                Effort(Path(folder), seconds=1.5, bulk=256 * MIB, far=128 * MIB, idle=500)
                if given.quick
                else Effort(Path(folder), seconds=given.seconds)
            )
            for is_crowd in (False, True):
                rows = [row for row in given.rows if ROWS[row].crowd is is_crowd]
                if rows:
                    bench.run(rows, effort)
    finally:
        bench.write(given.json)


class _Bench:
    """Stacks in turns, row by row, round by round."""

    def __init__(self, rounds: int, stacks: Sequence[str]) -> None:
        self._rounds = rounds
        self._stacks = stacks
        self._results: Rounds = defaultdict(lambda: defaultdict(list))
        self._start = time.monotonic()
        self._load = os.getloadavg()[0]

    def run(self, rows: Sequence[str], effort: Effort) -> None:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=effort.folder)))
            home = opened.enter_context(tport_home(folder))
            upstream = opened.enter_context(open_upstream(home))
            wanted = dict.fromkeys(name for row in rows for name in self._of(row))
            stacks = self._open(list(wanted), home, upstream, opened)
            for number in range(self._rounds):
                for row in rows:
                    if number == 0 or not ROWS[row].once:
                        self._measure(row, number, stacks, effort)

    def _of(self, row: str) -> list[str]:
        return [name for name in ROWS[row].stacks if name in self._stacks]

    def _open(
        self, names: Sequence[str], home: Tport, upstream: Upstream, opened: ExitStack
    ) -> dict[str, Stack]:
        stacks = {}
        for name in names:
            self._say(f"starting {name}")
            stacks[name] = opened.enter_context(STACKS[name](home, upstream))
        return stacks

    def _measure(self, row: str, number: int, stacks: dict[str, Stack], effort: Effort) -> None:
        for name in self._of(row):
            done = self._results[row][name]
            if done and time.monotonic() - self._start > ENOUGH[ROWS[row].crowd]:
                continue
            self._say(f"round {number + 1} of {self._rounds}: {row}: {name}")
            try:
                done.append(ROWS[row].measure(stacks[name], effort))
            except (Failed, GaveUp) as problem:
                self._say(f"{name} failed: {problem}")

    def write(self, path: Path) -> None:
        """Print the tables, and write all figures."""
        found = medians(self._results)
        sys.stdout.write(text_tables(found) + "\n")
        sys.stdout.write("\n".join([*aligned(bars_table(found)), "", summary(found)]) + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "day": f"{date.today()}",
            "versions": versions() | {"load of the machine before": f"{self._load:.1f}"},
            "results": self._results,
        }
        path.write_text(json.dumps(told, indent=1) + "\n")
        path.with_suffix(".svg").write_text(draw(groups(found), "tport and its peers"))
        self._say(f"the figures are in {path}, the plot in {path.with_suffix('.svg')}")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"bench: {time.monotonic() - self._start:4.0f} s: {text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="tport beside its peers.")
    parser.add_argument("--quick", action="store_true", help="less of all, in 90 s")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for one figure")
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, metavar="STACK")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE")
    given = parser.parse_args()
    given.rows = given.rows or (QUICK if given.quick else list(ROWS))
    given.stacks = given.stacks or (QUICK_STACKS if given.quick else list(STACKS))
    given.rounds = given.rounds or (1 if given.quick else 3)
    return given


if __name__ == "__main__":
    main()
