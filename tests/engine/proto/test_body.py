from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.body import (
    LAST_CHUNK,
    BodyReader,
    ChunkedReader,
    body_reader,
    encode_chunk,
)
from tport.engine.proto.framing import CHUNKED, NO_BODY, UNTIL_CLOSE, of_length


def read(reader: BodyReader, pieces: list[bytes]) -> bytes:
    payload = b""
    for piece in pieces:
        if reader.done:
            reader.leftover += piece
        else:
            payload += reader.feed(piece)
    return payload


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({c % (len(data) + 1) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


@given(
    st.lists(st.binary(min_size=1, max_size=300)), st.binary(max_size=20), st.lists(st.integers(0))
)
@example([b"x" * 70_000], b"GET", [1, 2, 3])
def test_chunks_come_back_whole_wherever_they_are_cut(
    pieces: list[bytes], after: bytes, cuts: list[int]
) -> None:
    wire = b"".join(map(encode_chunk, pieces)) + LAST_CHUNK + after
    reader = ChunkedReader()

    assert read(reader, cut(wire, cuts)) == b"".join(pieces)
    assert reader.done
    assert reader.leftover == after


@given(st.binary(max_size=60), st.lists(st.integers(0)))
@example(b"5\r\nhello\r\n0\r\na: b\r\n\r\nrest", [4, 19])
@example(b"0005\r\nhelloXX0\r\n\r\n", [])
def test_any_bytes_mean_the_same_wherever_they_are_cut(wire: bytes, cuts: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> object:
        reader = ChunkedReader()
        try:
            payload = read(reader, pieces)
        except RemoteProtocolError:
            return "malformed"
        return payload, reader.done, reader.leftover

    assert outcome(cut(wire, cuts)) == outcome([wire])


def test_an_empty_piece_does_not_end_a_chunked_body() -> None:
    assert encode_chunk(b"") == b""


def test_a_length_is_kept_to_the_byte() -> None:
    reader = body_reader(of_length(5))

    assert reader.feed(b"hel") == b"hel"
    with pytest.raises(RemoteProtocolError, match="after 3 of 5 bytes"):
        reader.end()
    assert reader.feed(b"loGET /") == b"lo"
    assert reader.done
    assert reader.leftover == b"GET /"


def test_no_body_is_done_before_it_begins() -> None:
    assert body_reader(NO_BODY).done
    assert body_reader(of_length(0)).done


def test_what_is_shared_by_all_without_a_body_keeps_nothing_of_any() -> None:
    with pytest.raises(AssertionError, match="has ended"):
        body_reader(NO_BODY).feed(b"GET /somebody-else's")

    assert body_reader(of_length(0)).leftover == b""


def test_only_the_end_of_the_connection_ends_an_unframed_body() -> None:
    reader = body_reader(UNTIL_CLOSE)

    assert reader.feed(b"a") == b"a"
    assert not reader.done
    reader.end()
    assert reader.done


def test_a_chunked_body_without_its_last_chunk_is_cut_short() -> None:
    reader = body_reader(CHUNKED)
    reader.feed(b"5\r\nhello\r\n")

    with pytest.raises(RemoteProtocolError, match="before its last chunk"):
        reader.end()


def test_tiny_chunks_are_refused_in_uploads_only() -> None:
    """DOS-03: 1,000 chunks are free, then they must hold 64 bytes on average."""
    wire = b"1\r\nx\r\n" * 1100

    with pytest.raises(RemoteProtocolError, match="1001 chunks"):
        body_reader(CHUNKED).feed(wire)
    assert body_reader(CHUNKED, tiny_chunks=True).feed(wire) == b"x" * 1100
    assert body_reader(CHUNKED).feed(encode_chunk(b"x" * 64) * 1100) == b"x" * 64 * 1100


def test_endless_trailers_are_refused() -> None:
    reader = ChunkedReader()
    pieces = [b"0\r\n", *[b"name: value\r\n"] * 1000]

    with pytest.raises(RemoteProtocolError, match="trailers"):
        read(reader, pieces)
