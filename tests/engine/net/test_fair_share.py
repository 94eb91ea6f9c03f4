"""Of processes that share a listener, the one with the fewest connections goes first."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from tport.engine.net.fair_share import FairShare, make_memory, mark_away


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_memory(3)
    yield descriptor
    os.close(descriptor)


def test_who_has_more_than_another_lets_it_go_first(memory: int) -> None:
    a, b = FairShare(memory, 0, 3), FairShare(memory, 1, 3)
    a.begin()
    b.begin()
    assert not a.is_anothers_turn()
    assert not b.is_anothers_turn()

    a.add(1)
    assert a.is_anothers_turn()
    assert not b.is_anothers_turn()

    b.add(2)
    assert not a.is_anothers_turn()
    assert b.is_anothers_turn()

    b.add(-1)
    assert not a.is_anothers_turn()
    assert not b.is_anothers_turn()


def test_nobody_waits_for_one_that_takes_none(memory: int) -> None:
    a, b = FairShare(memory, 0, 3), FairShare(memory, 1, 3)
    a.begin()
    a.add(1)
    assert not a.is_anothers_turn(), "the others have not begun"

    b.begin()
    assert a.is_anothers_turn()

    b.add(1)
    b.end()
    b.add(-1)  # it drains
    assert b.count == 0
    assert not a.is_anothers_turn()


def test_one_that_died_is_marked_by_another_and_begins_at_none(memory: int) -> None:
    a, b = FairShare(memory, 0, 3), FairShare(memory, 1, 3)
    a.begin()
    a.add(5)
    b.begin()
    with mmap.mmap(memory, 0) as counts:
        mark_away(counts, 1)
    assert not a.is_anothers_turn()

    FairShare(memory, 1, 3).begin()
    assert a.is_anothers_turn()
