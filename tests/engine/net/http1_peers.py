"""A client that speaks bytes to the server under test, over a stream in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import memory_stream_pair

from tport.engine.net.http1 import Exchange, serve_http1

MemoryStream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
Handle = Callable[[Exchange], Awaitable[None]]


@asynccontextmanager
async def connected(handle: Handle, **options: Any) -> AsyncIterator[MemoryStream]:
    """Serve one connection and give its client's end. Leaving waits for the server to end."""
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_http1(server, handle, **options))
        yield client


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


async def read_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    """Read up to and including `end`; nothing may follow it."""
    data = b""
    while not data.endswith(end):
        piece = await stream.receive_some()
        assert piece, f"ended after {data!r}"
        data += piece
    return data


async def converse(handle: Handle, sent: bytes, **options: Any) -> bytes:
    """Send everything at once, close this direction, and return all that comes back."""
    async with connected(handle, **options) as client:
        await client.send_all(sent)
        await client.send_eof()
        return await read_all(client)


async def echo(exchange: Exchange) -> None:
    """Answer with method, target and body."""
    body = bytearray()
    while data := await exchange.receive_body():
        body += data
    request = exchange.request
    await exchange.respond(200, [], b"%b %b %b" % (request.method, request.target, bytes(body)))


def get(target: bytes = b"/", *lines: bytes, version: bytes = b"1.1") -> bytes:
    head = b"GET %b HTTP/%b\r\nHost: a.test\r\n" % (target, version)
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(body: bytes, *lines: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a.test\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
