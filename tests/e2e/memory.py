"""How much memory processes take while something is done with them."""

from __future__ import annotations

import threading
from typing import Any

from tests.e2e.harness import Background


class Sampler:
    """Watches the memory of processes while a block runs.

    Attributes:
        grown: by process id, the most memory seen above what it had at the start, in bytes.
    """

    def __init__(self, *processes: Background) -> None:
        self._processes = processes
        self._before = {process.pid: process.rss() for process in processes}
        self.grown = dict.fromkeys(self._before, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for process in self._processes:
                grown = process.rss() - self._before[process.pid]
                self.grown[process.pid] = max(self.grown[process.pid], grown)
            if self._over.wait(0.02):
                return
