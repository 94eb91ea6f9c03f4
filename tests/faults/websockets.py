"""WebSockets through a cluster in the test's own run, byte by byte: who opens them, what agrees to them."""

from __future__ import annotations

from typing import Final

import trio

from tests.stack import Person, Stack, read_all, read_answer
from tport.engine.net.tls_stream import TlsStream

UPGRADE: Final = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",  # and what agrees to it: RFC 6455 §1.3
)
AGREED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class Upgrading:
    """Agrees to each WebSocket, and says nothing; /slow is answered when it may be."""

    def __init__(self, stack: Stack) -> None:
        self.asked, self.may = trio.Event(), trio.Event()
        self._app = stack.raw_app
        self._app.script = self._script

    async def _script(self, stream: trio.SocketStream) -> None:
        head = await self._app.take_head(stream)
        if b"upgrade: websocket" in head.lower():
            await stream.send_all(AGREED)
            await read_all(stream)
        elif head:
            self.asked.set()
            await self.may.wait()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")


async def send(person: Person, target: str, *lines: str) -> TlsStream:
    host, port = person.stack.host("raw"), person.stack.port
    head = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}", f"Cookie: {person.cookie('raw')}"]
    client = await person.stack.connect(host)
    await client.send_all("\r\n".join([*head, *lines, "", ""]).encode())
    return client


async def open_websocket(person: Person) -> TlsStream:
    client = await send(
        person,
        "/ws",
        *UPGRADE,
        f"Origin: https://{person.stack.host('raw')}:{person.stack.port}",
    )
    assert (await read_answer(client)).status == 101
    return client
