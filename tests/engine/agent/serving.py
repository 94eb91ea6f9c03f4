"""An application on a port of this machine, as badly behaved as a test wants it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trustme

from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import accept_tls

Answer = Callable[[Exchange], Awaitable[None]]


@asynccontextmanager
async def serving(
    answer: Answer, *, tls: trustme.LeafCert | None = None, clients: trustme.CA | None = None
) -> AsyncIterator[int]:
    """Run an application on a port of this machine; `clients`: whose certificates it demands."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            if tls is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.configure_cert(context)
                if clients is not None:
                    clients.configure_trust(context)
                    context.verify_mode = ssl.CERT_REQUIRED
                await serve_http1(await accept_tls(stream, context, ragged_end=True), answer)
            elif (first := await stream.receive_some())[:1] == b"\x16":  # TLS, to one without
                await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await stream.aclose()
            else:
                await serve_http1(PrefixedStream(bytes(first), stream), answer)
        except (ConnectionProblem, RemoteProtocolError, trio.BrokenResourceError):
            pass  # hung up, or no TLS: as some tests want it

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()
