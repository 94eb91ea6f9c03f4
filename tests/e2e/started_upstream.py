"""An application of the tests' own behind a cluster: `upstream.py`, started as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.harness import Background, Tport


class Upstream:
    """An application of `upstream.py`, in a process of its own."""

    def __init__(self, process: Background) -> None:
        self.process = process
        self.port = int(process.stdout.split()[0])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[str]:
        """The request lines that reached it."""
        return self.process.stdout.splitlines()[1:]


def start_upstream(tport: Tport, *words: str) -> Upstream:
    """Start an application; it ends with the cluster or home that it was started in."""
    process = tport.spawn([sys.executable, str(Path(__file__).with_name("upstream.py")), *words])
    process.wait_for("\n")
    return Upstream(process)
