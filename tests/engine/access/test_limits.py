"""How often one address may try."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import WallClock
from tport.engine.access.limits import AddressLimiter, address_key
from tport.engine.errors import LimitExceeded


def allowed(limiter: AddressLimiter, address: str, tries: int) -> int:
    """Return how many of so many tries go through."""
    count = 0
    for _ in range(tries):
        try:
            limiter.check(address)
        except LimitExceeded:
            continue
        limiter.take(address)
        count += 1
    return count


def test_a_burst_and_then_a_rate() -> None:
    clock = WallClock()
    limiter = AddressLimiter(clock, per_minute=20, burst=40)
    assert allowed(limiter, "192.0.2.1", 100) == 40
    clock.now += timedelta(minutes=1)
    assert allowed(limiter, "192.0.2.1", 100) == 20
    clock.now += timedelta(days=1)
    assert allowed(limiter, "192.0.2.1", 100) == 40


def test_the_table_does_not_grow_and_forgets_the_least_recent() -> None:
    limiter = AddressLimiter(WallClock(), per_minute=1, burst=1, size=2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        limiter.take(address)
    assert allowed(limiter, "192.0.2.3", 1) == 0
    assert allowed(limiter, "192.0.2.1", 1) == 1


def test_a_clock_set_back_takes_nothing_away() -> None:
    clock = WallClock()
    limiter = AddressLimiter(clock, per_minute=60, burst=2)
    limiter.take("192.0.2.1")
    clock.now -= timedelta(hours=1)
    assert allowed(limiter, "192.0.2.1", 5) == 1
    clock.now += timedelta(seconds=1)
    assert allowed(limiter, "192.0.2.1", 5) == 1


def test_who_had_no_try_left_when_the_clock_was_set_back_has_one_as_soon_as_others() -> None:
    clock = WallClock()
    limiter = AddressLimiter(clock, per_minute=60, burst=2)
    assert allowed(limiter, "192.0.2.1", 5) == 2
    clock.now -= timedelta(hours=1)
    assert allowed(limiter, "192.0.2.1", 5) == 0
    clock.now += timedelta(seconds=1)
    assert allowed(limiter, "192.0.2.1", 5) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1:4711", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "[2001:db8::ffff]:443", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_one_who_tries_is_one_address_or_one_network_of_ipv6(
    one: str, other: str, same: bool
) -> None:
    assert (address_key(one) == address_key(other)) == same


@given(st.text(max_size=200))
def test_any_text_is_counted_under_something_short(text: str) -> None:
    assert len(address_key(text)) <= 64


def test_the_wait_is_told_in_seconds() -> None:
    limiter = AddressLimiter(WallClock(), per_minute=10, burst=1)
    limiter.take("192.0.2.1")
    with pytest.raises(LimitExceeded, match="in 6 s") as limited:
        limiter.check("192.0.2.1")
    assert limited.value.retry_after == 6
