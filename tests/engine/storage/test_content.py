"""The sum of all records tells any two sets of records apart, whatever a failing disk makes of a row."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from tport.engine.storage.content import EMPTY, add, take

ROWS: list[tuple[Any, ...]] = [
    (b"/a", b"1", None, 1),
    (b"/a1", b"", None, 1),
    (b"/a", b"1", 0, 1),
    (b"/a", b"1", None, 2),
    (b"/a", b"0", None, 1),
    (b"/a", b"1", -1, 1),
    # As a bit of a row's header makes them
    ("/a", b"1", None, 1),
    (b"/a", "1", None, 1),
    (b"/a", None, None, 1),
    (b"/a", b"1", None, -1),
    (b"/a", b"1", 2.5, 1),
    (b"/a", b"1", None, None),
    (None, None, None, None),
]


@pytest.mark.parametrize(("one", "other"), [*combinations(ROWS, 2)])
def test_no_row_is_taken_for_another(one: Any, other: Any) -> None:
    assert add(EMPTY, one) != add(EMPTY, other)


def test_the_order_of_writes_means_nothing_and_what_is_taken_away_is_gone() -> None:
    first, second = ROWS[0], ROWS[1]
    both = add(add(EMPTY, first), second)

    assert both == add(add(EMPTY, second), first)
    assert take(take(both, first), second) == EMPTY
    assert add(add(EMPTY, first), first) != EMPTY
