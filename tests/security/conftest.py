"""A cluster for each test, with alice signed in at it, and a wall clock that can be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.browser import Browser
from tests.stack import Person, Stack, open_stack


class MovableClock:
    """The wall clock, moved by a test: `clock.ahead += timedelta(minutes=11)`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    moved = MovableClock()
    monkeypatch.setattr("tport.engine.process.wall_clock", moved)
    return moved


@pytest.fixture
async def stack(clock: MovableClock) -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


@pytest.fixture
async def browser(stack: Stack, alice: Person) -> Browser:
    """alice's, signed in to tport and to no application yet."""
    opened = Browser(stack)
    await opened.sign_in("alice")
    opened.trail.clear()
    return opened
