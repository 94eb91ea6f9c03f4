"""Whole WebSocket frames come out as they went in, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.websocket import FrameWalker
from tport.engine.proto.websocket_frames import BINARY, TEXT, Frame, FrameReader, write_frame

LIMIT = 70_000
PAYLOADS = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([125, 126, 65_535, 65_536, LIMIT]).map(lambda size: b"x" * size),
)
MESSAGES = st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), PAYLOADS), max_size=4)
KEYS = st.one_of(st.none(), st.binary(min_size=4, max_size=4))


@given(MESSAGES, KEYS, st.lists(st.integers(1, 70_000), max_size=8))
def test_frames_are_read_as_they_were_written_in_any_cut(
    messages: list[tuple[int, bytes]], key: bytes | None, cuts: list[int]
) -> None:
    data = b"".join(write_frame(opcode, payload, key=key) for opcode, payload in messages)
    reader, read, walker = FrameReader(LIMIT), list[Frame](), FrameWalker()

    for cut in [*cuts, len(data)]:
        read += reader.feed(data[:cut])
        walker.boundary_in(data[:cut])
        data = data[cut:]

    assert read == messages
    assert walker.at_boundary  # the relay sees the same frames


def test_a_client_s_frame_hides_its_payload_by_its_key() -> None:
    """RFC 6455 §5.7: the masked "Hello"."""
    written = write_frame(TEXT, b"Hello", key=b"\x37\xfa\x21\x3d")

    assert written == b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (write_frame(BINARY, b"x" * (LIMIT + 1))[:10], "at most 70000"),
        (b"\x01\x01a", "several frames"),
        (b"\x80\x01a", "several frames"),
    ],
)
def test_what_would_fill_memory_or_needs_more_than_a_frame_is_refused(
    data: bytes, why: str
) -> None:
    """Too long: at its head, before its payload."""
    with pytest.raises(RemoteProtocolError, match=why):
        FrameReader(LIMIT).feed(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    try:
        frames = FrameReader(100).feed(data)
    except RemoteProtocolError:
        return
    assert sum(len(frame.payload) for frame in frames) <= len(data)
