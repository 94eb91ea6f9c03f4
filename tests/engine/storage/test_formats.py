"""Steps from one format of records to the next follow one another, and say only what they change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.storage.made_up_formats import AS_NEW, AS_OLD, NEW, OLD
from tport.engine.errors import TportError
from tport.engine.storage.formats import (
    FORMATS,
    Changes,
    Formats,
    Records,
    Step,
    brought_forward,
)


def test_each_step_works_on_what_the_one_before_it_left() -> None:
    changes = brought_forward(AS_OLD, NEW.steps)

    assert changes == {
        "/users/a": AS_NEW["/users/a"],
        "/users/b": AS_NEW["/users/b"],
        "/users/c": None,
        "/counts": b"2",  # the third was gone by then
    }
    assert brought_forward(AS_OLD, ()) == {}


def test_a_format_is_followed_by_the_steps_after_it() -> None:
    first = FORMATS.first

    assert [NEW.after(first + done) for done in range(3)] == [NEW.steps, NEW.steps[1:], ()]
    assert (OLD.newest, NEW.newest) == (first, first + 2)


def test_formats_begin_with_that_of_0_1_whatever_comes() -> None:
    """A step that was released is never taken out: somebody's data is still before it."""
    assert FORMATS.first == 2


def numbered(by: int) -> Step:
    def change(records: Records) -> Changes:
        return {key: str(int(value) + by).encode() for key, value in records.items()}

    return Step(f"{by} more", change)


@given(
    records=st.dictionaries(st.text(max_size=5), st.integers(0, 99)),
    amounts=st.lists(st.integers(0, 9), max_size=5),
    stop=st.integers(0, 5),
)
def test_a_way_that_is_gone_in_two_parts_leads_to_the_same(
    records: dict[str, int], amounts: list[int], stop: int
) -> None:
    formats = Formats(first=2, steps=tuple(numbered(by) for by in amounts))
    stored = {key: str(value).encode() for key, value in records.items()}

    half = {**stored, **brought_forward(stored, formats.steps[:stop])}
    there = {**half, **brought_forward(half, formats.after(2 + stop))}  # type: ignore[arg-type]  # none is removed

    assert there == {key: str(value + sum(amounts)).encode() for key, value in records.items()}


@pytest.mark.parametrize("value", [b"{}", b"null", b"{", b"\xff"])
def test_what_a_step_does_not_understand_is_said_without_what_it_is(value: bytes) -> None:
    with pytest.raises(TportError, match="users in capitals") as refused:
        brought_forward({"/users/s3cret": value}, NEW.steps)

    assert "s3cret" not in str(refused.value)
    assert "nothing was changed" in refused.value.hint


def test_a_step_can_not_change_what_it_is_given() -> None:
    def spoil(records: Records) -> Changes:
        records["/a"] = b"2"  # type: ignore[index]  # a mistake of its own
        return {}

    with pytest.raises(TportError, match="TypeError"):
        brought_forward({"/a": b"1"}, (Step("spoils", spoil),))


def test_values_are_json_as_they_lie_there() -> None:
    assert all(json.loads(value) for value in AS_NEW.values())
