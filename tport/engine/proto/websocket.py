"""Just enough of RFC 6455 to find where one frame ends and the next begins. Sans-IO.

tport relays WebSocket bytes as they are. Only to end a connection properly, with a reason the
page can read, must it know a frame boundary in what goes to the browser: a close frame in the
middle of another one would be taken for its payload.
"""

from __future__ import annotations

import base64
import hashlib
from struct import Struct
from typing import Final

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008  # RFC 6455 §7.4.1; what a session's end is told with
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3

_U16 = Struct("!H")
_U64 = Struct("!Q")


class FrameWalker:
    """Follows unmasked frames (server → client) through a byte stream, in O(frames) time."""

    def __init__(self) -> None:
        self._left = 0  # payload bytes of the current frame still to come
        self._head = b""  # of a frame whose head is not whole yet

    @property
    def at_boundary(self) -> bool:
        """Whether a frame of ours could stand right after the bytes walked so far."""
        return self._left == 0 and not self._head

    def boundary_in(self, data: bytes) -> int | None:
        """Walk `data`; return how many of its bytes end the first frame that ends in it, or None.

        0 means: a boundary was there before the first byte.
        """
        first = 0 if self.at_boundary else None
        position = 0
        while position < len(data):
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
            else:
                position = self._walk_head(data, position)
            if first is None and self.at_boundary:
                first = position
        return first

    def _walk_head(self, data: bytes, position: int) -> int:
        """Take head bytes one frame's worth; set `_left` when the head is whole."""
        held = len(self._head)
        window = self._head + data[position : position + 14 - held]  # 14: the longest head
        size = frame_head_size(window)
        if size is None or len(window) < size:
            self._head = window
            return position + len(window) - held
        self._left = frame_payload_length(window)
        self._head = b""
        return position + size - held


def frame_head_size(window: bytes | bytearray) -> int | None:
    """Return how long the head at the front of `window` is; None: fewer than 2 bytes don't tell."""
    if len(window) < 2:
        return None
    short = window[1] & 0x7F
    return 2 + (2 if short == 126 else 8 if short == 127 else 0) + (4 if window[1] & 0x80 else 0)


def frame_payload_length(window: bytes | bytearray) -> int:
    """Return how many bytes of payload follow the whole head at the front of `window`."""
    short = window[1] & 0x7F
    if short == 126:
        return int(_U16.unpack_from(window, 2)[0])
    if short == 127:
        return int(_U64.unpack_from(window, 2)[0])
    return short


def close_frame(code: int, reason: str) -> bytes:
    """Return an unmasked close frame; `reason` is cut at 123 bytes (RFC 6455 §5.5), a character whole."""
    text = reason.encode()[:123].decode(errors="ignore")
    payload = _U16.pack(code) + text.encode()
    return bytes((0x88, len(payload))) + payload


def accept_key(key: bytes) -> bytes:
    """Return the `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
