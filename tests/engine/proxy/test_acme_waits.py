"""Names that wait for their certificates: what is told of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import WallClock
from tport.engine.errors import LimitExceeded
from tport.engine.proxy.acme_waits import MAX_WAITS, TOLD, TOLD_PER_MINUTE, Waits


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def waits(clock: WallClock) -> Waits:
    return Waits(clock)


def limit(name: str, why: str = "too many", seconds: float = 60.0) -> LimitExceeded:
    return LimitExceeded(f"{name}: {why}", retry_after=seconds)


def test_a_wait_is_told_once_as_long_as_it_lasts(waits: Waits, clock: WallClock) -> None:
    told = waits.remember("a.test", limit("a.test"))
    assert told is not None
    assert told.problem == "too many"
    assert told == waits.of("a.test")

    clock.now += timedelta(seconds=59)
    assert waits.remember("a.test", limit("a.test", seconds=1)) is None
    clock.now += timedelta(seconds=1)
    assert waits.of("a.test") is None
    assert waits.remember("a.test", limit("a.test")) is not None


def test_another_reason_is_told_too(waits: Waits) -> None:
    waits.remember("a.test", limit("a.test", "for an hour"))
    told = waits.remember("a.test", limit("a.test", "for a week"))

    assert told is not None
    assert told.problem == "for a week"


def test_what_an_operator_has_tried_again_is_told_again(waits: Waits) -> None:
    waits.remember("a.test", limit("a.test"))
    waits.clear()
    assert waits.of("a.test") is None
    assert waits.remember("a.test", limit("a.test")) is not None

    waits.forget("a.test")
    assert waits.of("a.test") is None


def test_however_many_names_wait_the_log_is_not_flooded(waits: Waits, clock: WallClock) -> None:
    """TLS-13. Agents can say ever new ones, and who opens them in turn has each remembered anew."""
    names = [f"x{number}.test" for number in range(2 * MAX_WAITS)]
    told = [waits.remember(name, limit(name)) for name in names]
    assert sum(one is not None for one in told) == TOLD
    assert waits.of(names[0]) is None  # the oldest is forgotten
    assert waits.of(names[-1]) is not None  # and what isn't told is known all the same

    clock.now += timedelta(minutes=1)
    told = [waits.remember(name, limit(name)) for name in names]
    assert sum(one is not None for one in told) == TOLD_PER_MINUTE


def test_a_name_that_found_the_log_full_is_told_as_soon_as_there_is_room(
    waits: Waits, clock: WallClock
) -> None:
    """TLS-13. Or whoever has many names wait would hide that another's does."""
    for number in range(TOLD):
        waits.remember(f"x{number}.test", limit(f"x{number}.test", seconds=1e6))
    assert waits.remember("a.test", limit("a.test", seconds=1e6)) is None

    clock.now += timedelta(minutes=1)
    assert waits.remember("a.test", limit("a.test", seconds=1e6)) is not None
    assert waits.remember("a.test", limit("a.test", seconds=1e6)) is None
