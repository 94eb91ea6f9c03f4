"""A process that writes until it is killed, and says on stdout which writes were acknowledged.

Usage: python -m tests.engine.storage.acknowledging DATABASE ROUND
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from tests.fakes import WallClock
from tport.engine.storage.backend import Item, Put
from tport.engine.storage.sqlite import open_sqlite_backend

TASKS = 8


async def main() -> None:
    async with (
        open_sqlite_backend(Path(sys.argv[1]), WallClock()) as backend,
        trio.open_nursery() as nursery,
    ):

        async def write(task: int) -> None:
            number = 0
            while True:
                key = f"/{sys.argv[2]}/{task}/{number}"
                await backend.batch([Put(Item(f"{key}/a", b"1")), Put(Item(f"{key}/b", b"1"))])
                os.write(1, f"{key}\n".encode())
                number += 1

        for task in range(TASKS):
            nursery.start_soon(write, task)


if __name__ == "__main__":
    trio.run(main)
