"""Turns by address: how many come at once, how often after that, and who need not wait."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.pace import Pace


def pace(*, rate: float = 10, burst: int = 3, size: int = 9) -> Pace:
    return Pace(rate=rate, burst=burst, most=1, trust=60, size=size)


def test_the_first_have_their_turn_at_once_and_further_ones_in_order() -> None:
    turns = pace()
    assert [turns.turn("a", 5) for _ in range(3)] == [5, 5, 5]
    assert [round(turns.turn("a", 5), 6) for _ in range(3)] == [5.1, 5.2, 5.3]
    assert turns.turn("b", 5) == 5, "another address is nobody's concern"


def test_what_would_be_too_late_has_no_turn_and_takes_none() -> None:
    turns = pace()
    given_ = [turns.turn("a", 0) for _ in range(20)]
    assert given_.count(math.inf) == 20 - 3 - 10
    assert round(turns.turn("a", 0.1), 6) == 1.1, "the next in line, as if the late had not come"


def test_an_address_that_rested_comes_as_often_at_once_as_before() -> None:
    turns = pace()
    for _ in range(6):
        turns.turn("a", 0)
    assert [turns.turn("a", 10) for _ in range(3)] == [10, 10, 10]
    assert turns.turn("a", 10) > 10


def test_who_is_trusted_has_every_turn_until_the_trust_ends() -> None:
    turns = pace()
    turns.trust("a", 0)
    assert {turns.turn("a", 59) for _ in range(50)} == {59}
    assert turns.is_trusted("a", 59)
    assert not turns.is_trusted("a", 60)
    assert not turns.is_trusted("b", 0)
    assert [turns.turn("a", 60) > 60 for _ in range(4)] == [False, False, False, True]


def test_without_a_rate_everybody_has_every_turn() -> None:
    turns = pace(rate=math.inf)
    assert {turns.turn("a", 1) for _ in range(50)} == {1}


def test_of_more_addresses_than_are_remembered_the_least_recently_seen_is_forgotten() -> None:
    turns = pace(size=2)
    for address in ("a", "a", "a", "b", "c"):
        turns.turn(address, 0)
    assert turns.turn("a", 0) == 0
    for address in ("x", "y", "z"):
        turns.trust(address, 0)
    assert [turns.is_trusted(address, 1) for address in "xyz"] == [False, True, True]


@given(st.lists(st.floats(0, 0.4), max_size=200), st.integers(1, 5))
def test_in_no_second_are_there_more_turns_than_rate_and_burst(
    pauses: list[float], burst: int
) -> None:
    turns = pace(burst=burst)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        at = turns.turn("a", now)
        if at < math.inf:
            assert now <= at <= now + 1
            taken.append(at)
    assert taken == sorted(taken)
    for first in taken:
        within = [at for at in taken if first <= at < first + 1]
        assert len(within) <= burst + 10 + 1
