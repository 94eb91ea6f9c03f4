"""WebSocket round trips: a client of our own, for which Python does as little as can be done."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

from bench.door import Door, Failed

CONNECTIONS: Final = 64
PAYLOAD: Final = b"m" * 64
PATIENCE: Final = 10.0  # s without any message
_MASK: Final = b"\x12\x34\x56\x78"
_KEY: Final = base64.b64encode(bytes(16)).decode()


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """Return a text message of up to 125 bytes in one frame; a client's has a mask (RFC 6455 §5)."""
    if not mask:
        return bytes((0x81, len(payload))) + payload
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((0x81, 0x80 | len(payload))) + mask + masked


@dataclass(frozen=True)
class Trips:
    count: int
    seconds: float


def run(door: Door, seconds: float, connections: int = CONNECTIONS) -> Trips:
    """Send a message on each connection, and the next as soon as it has come back.

    Raises:
        Failed: no WebSocket, or it ended, or something else came back.
    """
    sockets = [_open(door) for _ in range(connections)]
    try:
        return _exchange(sockets, seconds)
    except OSError as problem:
        raise Failed(f"a WebSocket broke: {problem!r}") from problem
    finally:
        for sock in sockets:
            sock.close()


def _exchange(sockets: list[socket.socket], seconds: float) -> Trips:
    message, answer = frame(PAYLOAD, _MASK), frame(PAYLOAD)
    size = len(answer)
    epoll = select.epoll()
    by_number = {sock.fileno(): sock for sock in sockets}
    rest = dict.fromkeys(by_number, b"")
    for sock in sockets:
        sock.setblocking(False)
        epoll.register(sock, select.EPOLLIN)
        sock.sendall(message)  # a small one: there is room in any socket
    count = 0
    start = time.perf_counter()
    end = start + seconds
    while (now := time.perf_counter()) < end:
        ready = epoll.poll(PATIENCE)
        if not ready:
            raise Failed("a WebSocket stays silent")
        for number, _ in ready:
            sock = by_number[number]
            try:
                data = sock.recv(4096)
            except ssl.SSLWantReadError:
                continue
            if rest[number]:
                data = rest[number] + data
            if data == answer:
                rest[number] = b""
                count += 1
                sock.sendall(message)
            elif len(data) < size and data and answer.startswith(data):
                rest[number] = data
            else:
                raise Failed(f"a WebSocket said {data[:100]!r}")
    epoll.close()
    return Trips(count, now - start)


def _open(door: Door) -> socket.socket:
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {door.host}:{door.port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {_KEY}",
        f"Origin: {door.url('')}",
        *door.headers,
    ]
    sock = door.connect()
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        head += byte
    if not head.startswith(b"HTTP/1.1 101 "):
        sock.close()
        raise Failed(f"no WebSocket: {head[:200]!r}")
    return sock
