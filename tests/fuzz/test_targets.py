"""The short form of `make fuzz`: what was found once, and some inputs close to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, LONGEST, TARGETS, Target, read_corpus


def test_the_corpus_is_small_and_of_targets_that_there_are() -> None:
    assert {path.stem for path in CORPUS.glob("*.txt")} <= TARGETS.keys()
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 200_000
    assert all(len(data) <= LONGEST for name in TARGETS for data in read_corpus(name))


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_holds(name: str) -> None:
    target = TARGETS[name]
    for data in target.inputs(name):
        target.run(data)


def like(target: Target, name: str) -> st.SearchStrategy[bytes]:
    """Draw inputs with a few pieces of them changed, and some made of words."""
    pieces = st.sampled_from([b"", *target.words]) | st.binary(max_size=4)
    edits = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 8), pieces), max_size=4)

    def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for at, gone, piece in changes:
            data = data[:at] + piece + data[at + gone :]
        return data

    near = st.builds(edited, st.sampled_from(target.inputs(name)), edits)
    return near | st.lists(pieces, max_size=20).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_close_to_it_hold_too(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=60, deadline=None, database=None)
    @given(like(target, name))
    def hold(data: bytes) -> None:
        target.run(data)

    hold()
