"""What is measured: a way to put a proxy before the application, as it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from bench.cpu import tree
from bench.door import Door
from bench.upstream import Upstream
from tests.e2e.harness import Background, Tport

HOST: Final = "bench.tport.localhost"
ORIGIN_HOST: Final = "origin.tport.localhost"  # of tport's second application
DELAY: Final = 25  # ms that a far stack's line takes each way


@dataclass(frozen=True)
class Stack:
    """One that runs.

    Attributes:
        pages: where the application of nginx is reached.
        origin: where the bench's own is: WebSockets at /ws, uploads at /upload.
        roots: its processes; what they started counts as well.
        cookies: a Cookie header for each session that may open `pages`.
    """

    name: str
    pages: Door
    origin: Door
    roots: tuple[Background, ...] = ()
    cookies: tuple[str, ...] = field(default=(), repr=False)

    def pids(self) -> set[int]:
        return tree(process.pid for process in self.roots)


Opener = Callable[[Tport, Upstream], AbstractContextManager[Stack]]
