"""What connections cost that do nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bench.door import Door, Failed
from bench.upstream import PAGE


@contextmanager
def idle_connections(door: Door, count: int) -> Iterator[None]:
    """Have `count` TLS connections that asked for a page, and rest now.

    Raises:
        Failed: one did not get its page.
    """
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = door.connect()
            opened.append(sock)
            ask(sock, door)
        yield
    finally:
        for sock in opened:
            sock.close()


def ask(sock: socket.socket, door: Door) -> None:
    """Get the page on a connection, which is kept.

    Raises:
        Failed: something else came.
    """
    lines = ["GET /page HTTP/1.1", f"Host: {door.host}:{door.port}", *door.headers, "", ""]
    sock.sendall("\r\n".join(lines).encode())
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < PAGE:
        piece = sock.recv(65536)
        data += piece
        if not piece or not data.startswith(b"HTTP/1.1 200"[: len(data)]):
            raise Failed(f"no page: {data[:200]!r}")
