"""Frame boundaries are found in any cut of the bytes, at a cost per frame, not per byte."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.proto.websocket import (
    GOING_AWAY,
    POLICY_VIOLATION,
    FrameWalker,
    accept_key,
    close_frame,
)


def frame(size: int, *, opcode: int = 0x82, masked: bool = False) -> bytes:
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((opcode, bit | size))
    elif size < 65536:
        head = bytes((opcode, bit | 126)) + pack("!H", size)
    else:
        head = bytes((opcode, bit | 127)) + pack("!Q", size)
    return head + (b"mask" if masked else b"") + b"x" * size


SIZES = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 65535, 65536]))


@given(st.lists(SIZES, max_size=6), st.lists(st.integers(1, 70_000)), st.booleans())
def test_the_first_boundary_is_where_the_first_frame_ends(
    sizes: list[int], cuts: list[int], masked: bool
) -> None:
    frames = [frame(size, masked=masked) for size in sizes]
    data = b"".join(frames)
    ends = {0}
    for one in frames:
        ends.add(max(ends) + len(one))
    walker, position = FrameWalker(), 0
    for cut in [*cuts, len(data)]:
        piece = data[position : position + cut]
        boundary = walker.boundary_in(piece)
        inside = [end for end in sorted(ends) if position <= end <= position + len(piece)]
        assert boundary == (inside[0] - position if inside else None)
        position += len(piece)
        assert walker.at_boundary == (position in ends)


def test_a_frame_cut_in_its_head_is_no_boundary() -> None:
    walker = FrameWalker()
    for byte in frame(65536)[:9]:
        walker.boundary_in(bytes((byte,)))
        assert not walker.at_boundary


def test_a_length_nobody_sends_is_walked_in_no_time() -> None:
    walker = FrameWalker()
    walker.boundary_in(b"\x82\x7f" + b"\x7f" * 8)
    assert not walker.at_boundary
    assert walker.boundary_in(b"x" * 100) is None


@given(st.text(max_size=300))
@example("x" + "é" * 100)
def test_a_close_frame_is_one_whole_short_frame(reason: str) -> None:
    """A control frame has at most 125 bytes, RFC 6455 §5.5; its reason is UTF-8, §5.5.1."""
    closing = close_frame(POLICY_VIOLATION, reason)
    walker = FrameWalker()
    walker.boundary_in(closing)

    assert walker.at_boundary
    assert closing[0] == 0x88
    assert closing[1] == len(closing) - 2 <= 125
    assert reason.startswith(closing[4:].decode())


def test_the_codes_are_those_of_the_standard() -> None:
    assert (GOING_AWAY, POLICY_VIOLATION) == (1001, 1008)
    assert close_frame(GOING_AWAY, "") == b"\x88\x02\x03\xe9"


@pytest.mark.parametrize(
    ("key", "accept"), [(b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]
)
def test_the_accept_key_is_that_of_the_standards_example(key: bytes, accept: bytes) -> None:
    assert accept_key(key) == accept
