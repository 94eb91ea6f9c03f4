"""An application is down after two failures in a row and up after one success, and looked at between."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import START, WallClock
from tport.engine.agent.health import APART, CONFIRM, SPREAD, Health
from tport.engine.defaults import HEALTH_INTERVAL
from tport.engine.types.health import MAX_WORDS


def made(clock: WallClock | None = None, jitter: float = 0.5) -> Health:
    return Health(clock or WallClock(), jitter=lambda: jitter)


def test_nothing_is_told_before_anything_is_known_and_a_look_is_due() -> None:
    health = made()
    assert health.told is None
    assert health.is_due(0)

    health.unreachable("refused", "", 0)

    assert health.told is None, "one failure decides nothing"
    assert not health.is_due(CONFIRM - 0.1)
    assert health.is_due(CONFIRM)


def test_two_failures_in_a_row_are_down_since_the_first_of_them() -> None:
    clock = WallClock()
    health = made(clock)
    health.connected(0)
    clock.now += timedelta(seconds=10)
    health.unreachable("refused", "start it", 10)
    assert health.told is not None
    assert health.told.up
    clock.now += timedelta(seconds=2)

    health.unreachable("refused", "start it", 12)

    told = health.told
    assert not told.up
    assert (told.since, told.failed) == (START + timedelta(seconds=10), clock.now)
    assert (told.cause, told.advice) == ("refused", "Start it.")


def test_many_failures_of_one_moment_are_one() -> None:
    """A page of 20 parts, asked for while the application restarts."""
    health = made()
    health.connected(0)
    for part in range(20):
        health.unreachable("refused", "", 5 + part * APART / 30)

    assert health.told is not None
    assert health.told.up


def test_a_success_between_two_failures_makes_them_two_first_ones() -> None:
    health = made()
    health.unreachable("refused", "", 0)
    health.connected(2)
    health.unreachable("refused", "", 12)

    assert health.told is not None
    assert health.told.up
    assert health.told.cause == "refused", "what failed last stays known"


def test_one_success_is_up_again_from_then_on() -> None:
    clock = WallClock()
    health = made(clock)
    health.unreachable("refused", "", 0)
    health.unreachable("refused", "", 2)
    clock.now += timedelta(minutes=5)

    health.connected(300)

    assert health.told is not None
    assert (health.told.up, health.told.since) == (True, START + timedelta(minutes=5))
    assert health.silent_since is None


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_looks_come_each_interval_and_none_while_requests_are_answered(jitter: float) -> None:
    health = made(jitter=jitter)
    health.connected(0)
    assert not health.is_due(HEALTH_INTERVAL * (1 - SPREAD) - 0.1)
    assert health.is_due(HEALTH_INTERVAL * (1 + SPREAD))

    for second in range(1, 60, 5):
        assert not health.is_due(second)
        health.answered(200, second)


def test_a_request_that_fails_is_no_failure_of_one_that_has_answered_before() -> None:
    """It may be the request's own: connections decide. But since when none was answered is kept."""
    clock = WallClock()
    health = made(clock)
    health.answered(200, 0)
    clock.now += timedelta(seconds=1)
    for second in (1, 5, 9):
        health.unanswered("it hung up", "", second)
    health.connected(20)

    assert health.told is not None
    assert health.told.up
    assert (health.told.cause, health.told.failed) == ("it hung up", clock.now)
    assert health.silent_since == clock.now
    health.answered(500, 21)
    assert health.silent_since is None


def test_connections_say_nothing_of_one_that_takes_them_and_never_answered() -> None:
    """As one that speaks TLS where its uri says http://."""
    health = made()
    for second in (0, 4, 8):
        health.connected(second)
        health.answered(400, second + 1)
        health.unanswered("it speaks TLS", "", second + 1)

    assert health.told is not None
    assert not health.told.up
    health.connected(20)
    assert not health.told.up
    assert not health.is_due(21), "it has just been looked at"
    health.answered(404, 22)
    assert health.told.up


def test_while_it_is_down_only_another_cause_is_news() -> None:
    clock = WallClock()
    health = made(clock)
    health.unreachable("refused", "", 0)
    health.unreachable("refused", "", 2)
    first = health.told
    clock.now += timedelta(minutes=1)
    health.unreachable("refused", "", 60)
    assert health.told == first

    health.unreachable("no route", "", 70)

    assert health.told is not None
    assert (health.told.since, health.told.failed) == (START, clock.now)


def test_words_are_cut_to_what_can_be_told() -> None:
    health = made()
    for second in (0, 2, 4):
        health.unreachable("x" * 1000, "y" * 1000, second)

    assert health.told is not None
    assert len(health.told.cause) == len(health.told.advice) == MAX_WORDS
