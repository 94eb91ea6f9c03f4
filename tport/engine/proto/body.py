"""HTTP/1.1 bodies: framed bytes in, payload out, and back. Sans-IO.

A reader takes what the network brought, cut anywhere, and returns the payload in it. Chunks are
merged, extensions refused, trailers checked and dropped: nothing of the sender's framing gets
past this hop (HTTP-04).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from tport.engine.defaults import FREE_CHUNKS, MAX_TRAILERS, SMALLEST_MEAN_CHUNK
from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.framing import Framing

LAST_CHUNK: Final = b"0\r\n\r\n"

_SIZE = re.compile(rb"\r\n([0-9a-fA-F]{1,8})\r\n")
_SIZE_BEGUN = re.compile(rb"(?:\r(?:\n(?:[0-9a-fA-F]{1,8}\r?)?)?)?")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")


class BodyReader(Protocol):
    """Takes a body apart.

    Attributes:
        done: the body has ended; `feed` may not be called again.
        leftover: the bytes after it, once it is done; b"" before.
    """

    done: bool
    leftover: bytes

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return the payload among them, possibly none.

        Raises:
            RemoteProtocolError: the framing is broken; where the message ends can't be known.
        """
        ...

    def end(self) -> None:
        """The peer has closed its side.

        Raises:
            RemoteProtocolError: the body is cut short.
        """
        ...


def body_reader(framing: Framing, *, tiny_chunks: bool = False) -> BodyReader:
    """Return the reader for a body framed so.

    `tiny_chunks` lifts the rule about their mean size: an application that streams events of
    ten bytes does nothing wrong, and back-pressure slows it down.
    """
    if framing.kind == "chunked":
        return ChunkedReader(tiny_chunks=tiny_chunks)
    if framing.kind == "until-close":
        return UntilCloseReader()
    return LengthReader(framing.length) if framing.length else _NOTHING


class LengthReader:
    """A body of so many bytes; 0: no body."""

    def __init__(self, length: int) -> None:
        self.done = length == 0
        self.leftover = b""
        self._length = length
        self._left = length

    def feed(self, data: bytes) -> bytes:
        if len(data) > self._left:
            data, self.leftover = data[: self._left], data[self._left :]
        self._left -= len(data)
        self.done = self._left == 0
        return data

    def end(self) -> None:
        if not self.done:
            got = self._length - self._left
            raise RemoteProtocolError(f"the body ended after {got} of {self._length} bytes")


class NoBodyReader:
    """A body that has ended before it began; one serves all, and so it takes nothing from anybody."""

    done = True
    leftover = b""

    def feed(self, data: bytes) -> bytes:
        raise AssertionError("bytes for a body that has ended")

    def end(self) -> None:
        """There is nothing to be cut short."""


_NOTHING: Final = NoBodyReader()


class UntilCloseReader:
    """A response body that lasts as long as the connection."""

    def __init__(self) -> None:
        self.done = False
        self.leftover = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        self.done = True


class ChunkedReader:
    """A chunked body: sizes of one to eight hex digits, CRLF and nothing else between."""

    def __init__(self, *, tiny_chunks: bool = False) -> None:
        self.done = False
        self.leftover = b""
        self._tiny_chunks = tiny_chunks
        # As if a chunk had just ended: then every size line begins with the CRLF of the last.
        self._pending = b"\r\n"
        self._left = 0  # bytes of the current chunk still to come
        self._in_trailers = False
        self._chunks = 0
        self._received = 0

    def feed(self, data: bytes) -> bytes:
        if self._pending:  # an unfinished size line or trailer: short, whatever the peer does
            data, self._pending = self._pending + data, b""
        payload: list[bytes] = []
        position, size = 0, len(data)
        while position < size and not self._in_trailers:
            if self._left:
                piece = data[position : position + self._left]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
                self._received += len(piece)
                continue
            line = _SIZE.match(data, position)
            if line is None:
                self._pending = data[position:]
                if not _SIZE_BEGUN.fullmatch(self._pending):
                    raise RemoteProtocolError("the chunked body is malformed")
                break
            self._left = int(line[1], 16)
            self._in_trailers = self._left == 0
            position = line.end()
            self._count_chunk()
        if self._in_trailers:
            self._read_trailers(data[position:])
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def end(self) -> None:
        if not self.done:
            raise RemoteProtocolError("the chunked body ended before its last chunk")

    def _count_chunk(self) -> None:
        self._chunks += 1
        if (
            self._chunks > FREE_CHUNKS
            and not self._tiny_chunks
            and self._received < SMALLEST_MEAN_CHUNK * (self._chunks - 1)
        ):
            raise RemoteProtocolError(
                f"{self._chunks} chunks of less than {SMALLEST_MEAN_CHUNK} bytes on average"
            )

    def _read_trailers(self, data: bytes) -> None:
        end = 0 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n") + 2
        if end == 1:  # not found
            if len(data) > MAX_TRAILERS:
                raise RemoteProtocolError(f"trailers of more than {MAX_TRAILERS} bytes")
            self._pending = data
            return
        end += 2
        if end > MAX_TRAILERS or not _TRAILERS.fullmatch(data, 0, end):
            raise RemoteProtocolError("the trailers of the chunked body are malformed")
        self.done = True
        self.leftover = data[end:]


def encode_chunk(data: bytes | bytearray) -> bytes:
    """Return `data` as one chunk; b"" for no data, since an empty chunk would end the body."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if data else b""
