"""python -m bench: see the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from bench.report import Results, table
from bench.rows import ROWS
from bench.stacks import STACKS
from bench.upstream import open_upstream
from bench.wrk import Failed
from tests.e2e.harness import tport_home


def main() -> None:
    given = _arguments()
    results: Results = defaultdict(lambda: defaultdict(list))
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        home = opened.enter_context(tport_home(folder))
        port = opened.enter_context(open_upstream(home))
        stacks = [opened.enter_context(STACKS[name](home, port)) for name in given.stacks]
        for number in range(given.rounds):
            for row in given.rows:
                for stack in stacks:
                    _say(f"round {number + 1} of {given.rounds}: {row}: {stack.name}")
                    try:
                        results[row][stack.name].append(ROWS[row].measure(stack, folder))
                    except Failed as problem:
                        _say(f"{stack.name} failed: {problem}")
    sys.stdout.write(table(results))
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(results, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="tport beside its peers.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument(
        "--stacks", nargs="+", choices=STACKS, default=list(STACKS), metavar="STACK"
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    main()
