"""Backends to test: each of them, and SQLite alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import WallClock
from tport.engine.storage.backend import Backend
from tport.engine.storage.memory import open_memory_backend
from tport.engine.storage.sqlite import open_sqlite_backend


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture(params=["memory", "sqlite"])
async def backend(
    request: pytest.FixtureRequest, clock: WallClock, tmp_path: Path
) -> AsyncIterator[Backend]:
    if request.param == "memory":
        async with open_memory_backend(clock) as backend:
            yield backend
    else:
        async with open_sqlite_backend(tmp_path / "state.db", clock) as backend:
            yield backend
