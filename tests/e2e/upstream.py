"""An application for tests, a program of its own: `python upstream.py` prints its port, then what it is asked.

GET  /bytes?size=N   N bytes, streamed; the same for every caller (`block` says which)
POST /sum            the SHA-256 of the body, in hex, read as it comes
GET  /events?n=N     N server-sent events, one a second, each the time of its sending
GET  /echo           a WebSocket, whose messages come back; none may have more than 125 bytes
GET  /anything       "hello"

`python upstream.py careful` refuses a POST whose Origin is another than the Host it is asked for.
"""

from __future__ import annotations

import base64
import hashlib
import random
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MIB = 1024 * 1024


def blocks(size: int) -> Iterator[bytes]:
    """Yield `size` bytes in pieces of at most 1 MiB; no two pieces are the same."""
    noise = random.Random(1).randbytes(MIB)
    for number in range((size + MIB - 1) // MIB):
        start = number.to_bytes(8, "big")
        yield (start + noise[8:])[: min(MIB, size - number * MIB)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if parts.path == "/bytes":
            size = int(query["size"][0])
            self._begin("application/octet-stream", size)
            for block in blocks(size):
                self.wfile.write(block)
        elif parts.path == "/events":
            self._begin("text/event-stream", None)
            for _ in range(int(query["n"][0])):
                self._chunk(f"data: {time.time()}\n\n".encode())
                time.sleep(1)
            self.wfile.write(b"0\r\n\r\n")
        elif parts.path == "/echo":
            self._echo()
        else:
            self._begin("text/plain", 5)
            self.wfile.write(b"hello")

    def do_POST(self) -> None:
        origin = self.headers.get("Origin")
        if "careful" in sys.argv and origin and urlsplit(origin).netloc != self.headers["Host"]:
            self.send_error(403)
            return
        digest = hashlib.sha256()
        for piece in self._body():
            digest.update(piece)
        answer = digest.hexdigest().encode()
        self._begin("text/plain", len(answer))
        self.wfile.write(answer)

    def _begin(self, kind: str, length: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _echo(self) -> None:
        """Send each frame back unmasked, until there are no more. Source: RFC 6455 §1.3, §5.2."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Connection", "Upgrade"), ("Upgrade", "websocket")):
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while len(head := self.rfile.read(6)) == 6:
            data = self.rfile.read(head[1] & 0x7F)
            plain = bytes(byte ^ head[2 + place % 4] for place, byte in enumerate(data))
            self.wfile.write(bytes([head[0], len(plain)]) + plain)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while left := int(self.rfile.readline().partition(b";")[0], 16):
                yield from self._exactly(left)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield from self._exactly(int(self.headers.get("Content-Length", "0")))

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read1(min(left, MIB))
            if not piece:
                raise EOFError("the body was cut short")
            left -= len(piece)
            yield piece

    def log_message(self, format: str, *args: object) -> None:
        """Print the request line: what reached the application."""
        sys.stdout.write(f"{self.requestline}\n")
        sys.stdout.flush()


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
