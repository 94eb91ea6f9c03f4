"""The application that `tport selftest` puts behind its agent: small, and honest about what it got.

GET  /         "ok"
GET  /headers  the request's headers, as JSON: [[name, value], …]
GET  /events   EVENTS server-sent events, GAP seconds apart, each the moment of its sending, on trio's clock
GET  /bytes    as many bytes as it was made for
POST /sum      the SHA-256 of the body, hex
GET  /echo     a WebSocket that sends every message back
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
import trio

from tport.engine.net.exchange import Exchange
from tport.engine.net.http1 import serve_http1
from tport.engine.proto.framing import of_length
from tport.engine.proto.websocket import accept_key
from tport.engine.proto.websocket_frames import CLOSE, FrameReader, write_frame
from tport.engine.selftest.payload import EVENTS, GAP, LARGEST_MESSAGE, pieces

_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class Upstream:
    """An application; `size` bytes are at `/bytes`."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def serve(
        self, listener: trio.SocketListener, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Serve `listener` until cancelled."""
        async with trio.open_nursery() as connections:
            task_status.started()
            await trio.serve_listeners(self._serve, [listener], handler_nursery=connections)

    async def _serve(self, stream: trio.SocketStream) -> None:
        await serve_http1(stream, self.answer)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        request = exchange.request
        match request.method, request.target.partition(b"?")[0]:
            case b"GET", b"/":
                await exchange.respond(200, [_TEXT], b"ok")
            case b"GET", b"/headers":
                seen = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in request.headers]
                json = (b"content-type", b"application/json")
                await exchange.respond(200, [json], msgspec.json.encode(seen))
            case b"GET", b"/events":
                await _send_events(exchange)
            case b"GET", b"/bytes":
                await self._send_bytes(exchange)
            case b"POST", b"/sum":
                await _sum(exchange)
            case b"GET", b"/echo" if request.upgrade:
                await _echo(exchange)
            case _:
                await exchange.respond(404, [_TEXT], b"there is nothing here")

    async def _send_bytes(self, exchange: Exchange) -> None:
        kind = (b"content-type", b"application/octet-stream")
        await exchange.send_head(200, [kind], framing=of_length(self._size))
        for piece in pieces(self._size):
            await exchange.send_body(piece)
        await exchange.finish()


async def _send_events(exchange: Exchange) -> None:
    kind = (b"content-type", b"text/event-stream")
    await exchange.send_head(200, [kind, (b"cache-control", b"no-store")])
    for number in range(EVENTS):
        if number:
            await trio.sleep(GAP)
        await exchange.send_body(f"data: {trio.current_time()!r}\n\n".encode())
    await exchange.finish()


async def _sum(exchange: Exchange) -> None:
    digest = hashlib.sha256()
    while piece := await exchange.receive_body():
        digest.update(piece)
    await exchange.respond(200, [_TEXT], digest.hexdigest().encode())


async def _echo(exchange: Exchange) -> None:
    [key] = exchange.request.values(b"sec-websocket-key")
    stream = await exchange.upgrade([(b"sec-websocket-accept", accept_key(key))])
    reader = FrameReader(LARGEST_MESSAGE)
    try:
        while data := await stream.receive_some():
            for frame in reader.feed(bytes(data)):
                await stream.send_all(write_frame(frame.opcode, frame.payload))
                if frame.opcode == CLOSE:
                    return
    except trio.BrokenResourceError:
        pass  # the visitor went, which is no news to anybody
