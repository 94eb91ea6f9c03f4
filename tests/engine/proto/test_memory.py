"""What was found out of bytes is bounded in number and in size, and the oldest of it goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tport.engine.proto.memory import ByRule, Memory


def memory(count: int = 3, size: int = 100, longest: int = 50) -> Memory[bytes, int]:
    return Memory(count=count, size=size, longest=longest)


def test_the_oldest_goes_first_and_no_other() -> None:
    known = memory()
    for key in (b"a", b"b", b"c", b"d"):
        known.keep(key, 1, 10)

    assert list(known) == [b"b", b"c", b"d"]
    assert known.held == 30


def test_what_is_large_makes_room_for_itself() -> None:
    known = memory()
    for key, size in ((b"a", 40), (b"b", 10), (b"c", 50)):
        known.keep(key, 1, size)
    assert list(known) == [b"a", b"b", b"c"]
    known.keep(b"d", 1, 45)

    assert list(known) == [b"c", b"d"]
    assert known.held == 95


def test_what_is_too_long_is_not_kept() -> None:
    known = memory()
    known.keep(b"a", 1, 51)

    assert dict(known) == {}
    assert known.held == 0


def test_what_is_kept_already_keeps_its_place() -> None:
    known = memory()
    for key in (b"a", b"b", b"a", b"c", b"d"):
        known.keep(key, 1, 10)

    assert list(known) == [b"b", b"c", b"d"]


@given(st.lists(st.tuples(st.binary(max_size=2), st.integers(0, 60))))
def test_it_never_holds_more_than_it_may(kept: list[tuple[bytes, int]]) -> None:
    known = memory()
    sizes: dict[bytes, int] = {}
    for key, size in kept:
        if key not in known:
            sizes[key] = size
        known.keep(key, 1, size)
        assert len(known) <= 3
        assert known.held == sum(sizes[key] for key in known) <= 100


def test_a_rule_is_asked_once_of_what_is_remembered() -> None:
    asked: list[bytes] = []
    known = ByRule(lambda name: asked.append(name), count=2, longest=10)
    for name in (b"a", b"a", b"b", b"c", b"b", b"a"):
        assert known[name] is None

    assert asked == [b"a", b"b", b"c", b"a"]
