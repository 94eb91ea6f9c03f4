"""Whole frames of RFC 6455, written and read: for an end of a WebSocket, which a relay isn't. Sans-IO."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.websocket import frame_head_size, frame_payload_length

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8

_FIN: Final = 0x80
_MASKED: Final = 0x80
_KEY_SIZE: Final = 4
_U16 = Struct("!H")
_U64 = Struct("!Q")


class Frame(NamedTuple):
    """One frame, unmasked."""

    opcode: int
    payload: bytes


def write_frame(opcode: int, payload: bytes, *, key: bytes | None = None) -> bytes:
    """Return a whole message in one frame.

    Args:
        key: 4 random bytes that mask it, as a client's must be (§5.3); None: a server's.
    """
    size = len(payload)
    short, longer = size, b""
    if size > 0xFFFF:
        short, longer = 127, _U64.pack(size)
    elif size > 125:
        short, longer = 126, _U16.pack(size)
    head = bytes((_FIN | opcode, short | (0 if key is None else _MASKED))) + longer
    return head + (payload if key is None else key + _masked(payload, key))


class FrameReader:
    """Takes the bytes of one direction, cut anywhere, and gives its frames."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of payload in one frame; more is an error."""
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises:
            RemoteProtocolError: one is too long, or part of a message in several.
        """
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        head = frame_head_size(buffer)
        if head is None or len(buffer) < head:
            return None
        size = frame_payload_length(buffer)
        if size > self._limit:
            raise RemoteProtocolError(f"a WebSocket frame of {size} bytes, at most {self._limit}")
        opcode = buffer[0] & 0x0F
        if not buffer[0] & _FIN or opcode == 0:
            raise RemoteProtocolError("a WebSocket message in several frames")
        if len(buffer) < head + size:
            return None
        payload = bytes(buffer[head : head + size])
        if buffer[1] & _MASKED:
            payload = _masked(payload, bytes(buffer[head - _KEY_SIZE : head]))
        del buffer[: head + size]
        return Frame(opcode, payload)


def _masked(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask: as one large number, since a loop over bytes takes 100 times as long."""
    size = len(payload)
    stream = (key * (size // _KEY_SIZE + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)
