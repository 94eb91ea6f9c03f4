"""make profile: where proxy and agent spend their time under a row of the bench, as flame graphs.

python -m bench.profile [ROW]      writes build/profile-proxy.svg, build/profile-agent.svg
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.cluster import open_tport
from bench.parts import program
from bench.rows import ROWS, Effort
from bench.upstream import open_upstream
from tests.e2e.harness import tport_home

FOLDER: Final = Path("build")
ROUNDS: Final = 4  # of the row while the profiler looks
RATE: Final = 200  # looks a second


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.profile")
    parser.add_argument("row", nargs="?", choices=ROWS, default="get", metavar="ROW")
    row = ROWS[parser.parse_args().row]
    FOLDER.mkdir(exist_ok=True)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        effort = Effort(folder)
        home = opened.enter_context(tport_home(folder))
        port = opened.enter_context(open_upstream(home))
        stack = opened.enter_context(open_tport(home, port))
        row.measure(stack, effort)  # warm
        watching = [
            subprocess.Popen(
                [
                    program("py-spy"), "record", f"--pid={process.pid}", f"--rate={RATE}",
                    "--duration=600", f"--output={FOLDER / f'profile-{name}.svg'}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name, process in zip(("proxy", "agent"), stack.roots, strict=True)
        ]  # fmt: skip
        for _ in range(ROUNDS):
            sys.stderr.write(f"bench: {dict(row.measure(stack, effort))}\n")
        for watcher in watching:
            watcher.send_signal(2)  # SIGINT: it writes what it has
            watcher.wait(60)


if __name__ == "__main__":
    main()
