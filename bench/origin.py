"""An application for the bench, a program of its own: it echoes WebSockets and swallows uploads.

    python -m bench.origin      prints its port, then serves until it is ended

One thread, one epoll, nothing parsed twice: so that it costs a stack's figures as little as can be.
GET upgrades to a WebSocket, whose small text messages come back; of PUT and POST with a
Content-Length the body is thrown away by the kernel, and the answer says how much it was.
"""

from __future__ import annotations

import base64
import hashlib
import re
import select
import socket
import sys
from typing import Final

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY: Final = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^\r\n]+)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_PIECE: Final = 1 << 20  # bytes thrown away in one call
_MASKED: Final = 0x80
_CLOSE: Final = 8


class _Connection:
    """What one connection is at: a head, a body of which `left` bytes are to come, or messages."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""
        self._left = 0
        self._size = 0
        self._is_websocket = False

    def ready(self) -> bool:
        """Take what has come; False: the connection is over."""
        if self._left:
            return self._swallow()
        data = self.sock.recv(65536)
        if not data:
            return False
        self._buffer += data
        if self._is_websocket:
            return self._echo()
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if blank:
            self._buffer = rest
            return self._begin(head)
        return len(self._buffer) < 65536

    def _begin(self, head: bytes) -> bool:
        if key := _KEY.search(head):
            accept = base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest())
            self.sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self._is_websocket = True
            return not self._buffer or self._echo()
        length = _LENGTH.search(head)
        self._size = int(length[1]) if length else 0
        self._left = self._size - len(self._buffer)
        self._buffer = b""
        if self._left <= 0:
            self._answer()
        return True

    def _swallow(self) -> bool:
        # MSG_TRUNC: the kernel counts the bytes and copies none, see tcp(7).
        size = self.sock.recv_into(_SINK, min(self._left, _PIECE), socket.MSG_TRUNC)
        self._left -= size
        if size and not self._left:
            self._answer()
        return size > 0

    def _answer(self) -> None:
        body = b"%d" % self._size
        self._left = 0
        self.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _echo(self) -> bool:
        """Send each whole message back, unmasked; all in one call."""
        buffer, answer, at = self._buffer, [], 0
        while len(buffer) >= at + 6:
            size = buffer[at + 1] - _MASKED
            if not 0 <= size <= 125 or buffer[at] & 15 == _CLOSE:
                return False
            end = at + 6 + size
            if len(buffer) < end:
                break
            mask = int.from_bytes((buffer[at + 2 : at + 6] * 32)[:size])
            payload = (int.from_bytes(buffer[at + 6 : end]) ^ mask).to_bytes(size)
            answer.append(bytes((buffer[at], size)) + payload)
            at = end
        self._buffer = buffer[at:]
        self.sock.sendall(b"".join(answer))
        return True


_SINK: Final = bytearray(_PIECE)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, _Connection] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[sock.fileno()] = _Connection(sock)
                epoll.register(sock, select.EPOLLIN)
                continue
            try:
                is_on = connections[number].ready()
            except OSError:
                is_on = False
            if not is_on:
                epoll.unregister(number)
                connections.pop(number).sock.close()


if __name__ == "__main__":
    main()
