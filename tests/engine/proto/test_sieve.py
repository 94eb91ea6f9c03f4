"""Header lines on their way through: what is remembered of them changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.proto.fields import SAID_ONCE, Field
from tport.engine.proto.known_lines import judge_line
from tport.engine.proto.sieve import (
    MAX_BLOCK,
    MAX_COUNT,
    MAX_LINES,
    MAX_SIZE,
    FieldSieve,
    LineSieve,
    read_lines,
    write_lines,
)

FIELD = st.tuples(
    st.sampled_from([b"a", b"x-b", b"stays"]), st.sampled_from([b"", b"1", b"2: 3", b"\xe4"])
)


def without_stays(field: Field) -> Field | None:
    return None if field[0] == b"stays" else field


@given(st.lists(st.lists(FIELD, max_size=5), max_size=8))
def test_blocks_come_out_as_their_fields_would_each_by_itself(blocks: list[list[Field]]) -> None:
    """In order, with repeats, seen before or not, alone or among others."""
    by_line, by_field = LineSieve(without_stays), FieldSieve(without_stays)
    for fields in blocks * 3:
        passed = [field for field in fields if without_stays(field)]
        block = b"".join([b"%b:%b\r\n" % field for field in fields])

        assert read_lines(by_line.lines(block)) == passed
        assert read_lines(by_field.lines(fields)) == passed
        assert read_lines(write_lines(passed)) == passed


LINE = st.binary(max_size=12) | st.builds(
    b"%b:%b".__mod__,
    st.tuples(st.binary(min_size=1, max_size=3), st.binary(max_size=6)),
)


@given(LINE)
@example(b"a:")
@example(b"a: \t\xff ")
@example(b"a: b\0")
def test_what_a_line_was_judged_to_say_needs_no_second_look(line: bytes) -> None:
    """HTTP-05: what is sent of it is what would be let through if somebody else had made it up."""
    field = judge_line(line)
    if field is not None:
        assert LineSieve(lambda field: field).lines(line + b"\r\n") == write_lines([field])


@pytest.mark.parametrize(
    "block",
    [
        b"a: b",
        b"a: b\n",
        b"a: b\r",
        b"\r\n",
        b"a: b\r\n\r\n",
        b"a: b\r\n c\r\n",
        b"a : b\r\n",
        b"a b: c\r\n",
        b": c\r\n",
        b"a\r\n",
        b"a: b\0\r\n",
        b"a: b\x7f\r\n",
        b"content-length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"connection: close\r\n",
        b"a: b\r\n" * (MAX_LINES + 1),
    ],
)
def test_what_is_no_block_of_lines_is_refused_each_time(block: bytes) -> None:
    """HTTP-05, HTTP-06: whoever sends it, and whatever came before."""
    sieve = LineSieve(lambda field: field)
    for _ in range(3):
        assert sieve.lines(b"a: b\r\n") == b"a: b\r\n"
        with pytest.raises(ValueError, match=r"tunnel|connection"):
            sieve.lines(block)


def test_what_is_remembered_is_bounded() -> None:
    sieve = LineSieve(lambda field: field)
    for number in range(20_000):
        block = b"x: %d\r\n" % number + b"long: %b\r\n" % (b"y" * (number % 9000))
        for _ in range(3):
            assert sieve.lines(block) == block
    for memory in (sieve, sieve._blocks):
        assert len(memory) <= MAX_COUNT
        assert sum(len(key) + len(made) for key, made in memory.items()) <= MAX_SIZE
        assert max(len(key) + len(made) for key, made in memory.items()) <= MAX_BLOCK


def test_lines_that_come_but_once_leave_no_block_behind() -> None:
    sieve = LineSieve(lambda field: field)
    for number in range(MAX_COUNT + 100):
        sieve.lines(b"number: %d\r\n" % number)
    assert len(sieve._blocks) == 0


def test_a_block_with_a_line_that_is_too_long_to_be_kept_by_itself_is_remembered() -> None:
    """A cookie of 2 KiB, as single sign-on makes them: its line was judged with every request."""
    judged: list[bytes] = []

    def rule(field: Field) -> Field:
        judged.append(field[0])
        return field

    sieve = LineSieve(rule)
    block = b"a: b\r\ncookie: %b\r\n" % (b"x" * 3000)
    for _ in range(5):
        assert sieve.lines(block) == block

    assert judged.count(b"cookie") <= 2
    assert sum(map(len, sieve)) < 3000


@pytest.mark.parametrize("name", sorted(SAID_ONCE))
def test_what_says_another_thing_each_time_is_not_remembered(name: bytes) -> None:
    """Nor does it push out what is."""
    lines, fields = LineSieve(lambda field: field), FieldSieve(lambda field: field)
    for value in (b"1", b"2", b"1"):
        assert lines.lines(b"%b: %b\r\n" % (name, value)) == b"%b: %b\r\n" % (name, value)
        assert fields.lines([(name, value)]) == b"%b: %b\r\n" % (name, value)

    assert (len(lines), len(lines._blocks), len(fields)) == (0, 0, 0)
