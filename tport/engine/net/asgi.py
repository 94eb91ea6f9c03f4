"""ASGI applications on our own connections: the web UI and other pages of tport's own.

Source: ASGI 3.0, "HTTP & WebSocket ASGI Message Format" 2.3. With 2.3 Starlette itself watches
for the client's going while it streams; from 2.4 on it would find out at the next send.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote

import trio

from tport.engine.defaults import MAX_OWN_BODY
from tport.engine.net.exchange import Exchange
from tport.engine.net.http1 import ClientGone
from tport.engine.proto.framing import of_length

logger = logging.getLogger(__name__)


# In the scope: a function to call once the application knows who asks; see Exchange.recognise.
RECOGNISE: Final = "tport.recognise"

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Address = tuple[str, int]

_SET_HERE = frozenset({b"connection", b"content-length", b"transfer-encoding", b"keep-alive"})


async def run_asgi(
    app: App,
    exchange: Exchange,
    *,
    scheme: str = "https",
    server: Address | None = None,
    client: Address | None = None,
    extra: Mapping[str, object] | None = None,
    max_body: int = MAX_OWN_BODY,
) -> None:
    """Let `app` answer the exchange.

    Args:
        extra: more entries for the scope, such as `state`.
        max_body: bytes of the request's body; more is 413, whatever the app says.

    Raises:
        Exception: what the app raised before its answer was whole. Afterwards it is logged.
    """
    await _Run(exchange, max_body).run(app, _scope(exchange, scheme, server, client, extra or {}))


def _scope(
    exchange: Exchange,
    scheme: str,
    server: Address | None,
    client: Address | None,
    extra: Mapping[str, object],
) -> Scope:
    request = exchange.request
    raw_path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": scheme,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "server": server,
        "client": client,
        RECOGNISE: exchange.recognise,
        **extra,
    }


class _Run:
    """One call of an application."""

    def __init__(self, exchange: Exchange, max_body: int) -> None:
        self._exchange = exchange
        self._max_body = max_body
        self._too_large = (exchange.request.framing.length or 0) > max_body
        self._start: Message | None = None  # sent with the first piece of the body
        self._told_end = False  # of the request's body
        self._answered = trio.Event()

    async def run(self, app: App, scope: Scope) -> None:
        try:
            if self._too_large:
                await self._refuse()
            else:
                await app(scope, self._receive, self._send)
        except Exception:
            if not self._exchange.finished:
                raise
            logger.exception("%s failed after its answer", scope["path"])

    async def _receive(self) -> Message:
        exchange = self._exchange
        if self._too_large or self._answered.is_set():
            return {"type": "http.disconnect"}
        if not exchange.body_done:
            try:
                data = await exchange.receive_body()
            except ClientGone:
                return {"type": "http.disconnect"}
            if exchange.received > self._max_body:
                self._too_large = True
                return {"type": "http.disconnect"}
            self._told_end = exchange.body_done
            return {"type": "http.request", "body": data, "more_body": not exchange.body_done}
        if not self._told_end:
            self._told_end = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._until_over()
        return {"type": "http.disconnect"}

    async def _until_over(self) -> None:
        """Wait for the client's going or the answer's end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_answered, nursery.cancel_scope)
            await self._exchange.wait_closed()
            nursery.cancel_scope.cancel()

    async def _stop_when_answered(self, scope: trio.CancelScope) -> None:
        await self._answered.wait()
        scope.cancel()

    async def _send(self, message: Message) -> None:
        if self._answered.is_set():
            return
        if self._too_large:
            await self._refuse()
            return
        match message["type"]:
            case "http.response.start":
                self._start = message
            case "http.response.body":
                more = bool(message.get("more_body", False))
                await self._send_body(bytes(message.get("body", b"")), more=more)
                if not more:
                    self._answered.set()
            case other:
                raise RuntimeError(f"ASGI message {other!r} means nothing in HTTP")

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        start, self._start = self._start, None
        if start is None:
            await self._exchange.send_body(data, end=not more)
            return
        headers = [(bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ())]
        if not any(name == b"date" for name, _ in headers):
            # RFC 9110 §6.6.1; agents and people compare clocks by it.
            headers.append((b"date", formatdate(usegmt=True).encode("ascii")))
        length = _content_length(headers)
        if length is None and not more:
            length = len(data)
        await self._exchange.send_head(
            start["status"],
            [field for field in headers if field[0] not in _SET_HERE],
            framing=None if length is None else of_length(length),
            body=data,
            end=not more,
        )

    async def _refuse(self) -> None:
        self._answered.set()
        if self._exchange.head_sent:
            self._exchange.abort()
            return
        self._exchange.keep_alive = False
        await self._exchange.respond(
            413,
            [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")],
            b"the request is longer than %d bytes\n" % self._max_body,
        )


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None
