"""What is sent through: how many events and messages; and bytes, any number, no two pieces the same. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

EVENTS: Final = 2  # server-sent ones in a stream
GAP: Final = 0.2  # s between two of them
LARGEST_MESSAGE: Final = 1024 * 1024  # bytes, of a WebSocket

BLOCK: Final = 64 * 1024  # bytes a piece; what a read takes at once
_COUNTER: Final = 8  # bytes at the front of each piece
_NOISE: Final = hashlib.shake_128(b"tport selftest").digest(BLOCK - _COUNTER)


def pieces(size: int) -> Iterator[bytes]:
    """Yield `size` bytes, at most BLOCK at a time; the same ones each time."""
    for number in range((size + BLOCK - 1) // BLOCK):
        piece = number.to_bytes(_COUNTER, "big") + _NOISE
        left = size - number * BLOCK
        yield piece if left >= BLOCK else piece[:left]


def checksum(some: Iterable[bytes]) -> str:
    """Return the SHA-256 of all pieces together, hex."""
    digest = hashlib.sha256()
    for piece in some:
        digest.update(piece)
    return digest.hexdigest()
