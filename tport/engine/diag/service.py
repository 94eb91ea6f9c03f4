"""Diagnostics in the clear, for this machine's probes and scrapers: /healthz, /readyz, /metrics.

The listener is one of its own: nothing of it is on the proxy's public port. What it tells has no
secret in it, but names applications and hosts, so it is meant for this machine or a network that
may know them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, Protocol

import trio

from tport.engine.defaults import DIAG_CONNECTIONS
from tport.engine.metrics.sample import Trouble
from tport.engine.metrics.text import CONTENT_TYPE
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.proto.host import is_address

PATHS: Final = ("/healthz", "/readyz", "/metrics")
_NO_STORE: Final = (b"cache-control", b"no-store")


class Diagnosis(Protocol):
    """What is told. Both take PATIENCE (`gather`) at most."""

    async def troubles(self) -> Sequence[Trouble]: ...

    async def metrics(self) -> str: ...


async def serve_diagnostics(
    listener: trio.SocketListener,
    diagnosis: Diagnosis,
    name: str = "",
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    /healthz is 200 while the process answers. /readyz is 200 while it does all that it is for, else
    503; it tells what is degraded and why, and warnings: as JSON, or as plain words for who asks
    for text, as browsers do. /metrics is for Prometheus.

    On a port of this machine alone nobody is answered who asks for any name but `localhost`, those below
    it, and `name`, by which the operator has it listen: that is a page in a browser here, whose own name
    has been made to lead to this machine (DNS rebinding).
    """
    is_local = ip_address(listener.socket.getsockname()[0]).is_loopback
    names = {"", "localhost", name.lower().removesuffix(".")}  # "": of HTTP/1.0, and of no browser
    room = trio.CapacityLimiter(DIAG_CONNECTIONS)

    async def answer(exchange: Exchange) -> None:
        request = exchange.request
        path = request.target.partition(b"?")[0].decode("latin-1")
        if is_local and request.host not in names and not _is_of_this_machine(request.host):
            await _json(exchange, 421, {"error": "misdirected-request"})
            return
        if path in PATHS and request.method not in (b"GET", b"HEAD"):
            await _json(exchange, 405, {"error": "method-not-allowed"}, (b"allow", b"GET, HEAD"))
        elif path == "/healthz":
            await _json(exchange, 200, {"status": "ok"})
        elif path == "/readyz":
            await _ready(exchange, await diagnosis.troubles())
        elif path == "/metrics":
            text = (await diagnosis.metrics()).encode()
            await exchange.respond(200, [(b"content-type", CONTENT_TYPE), _NO_STORE], text)
        else:
            await _json(exchange, 404, {"error": "not-found", "paths": list(PATHS)})

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            room.acquire_on_behalf_of_nowait(stream)
            try:
                await serve_http1(stream, answer)
            finally:
                room.release_on_behalf_of(stream)

    await trio.serve_listeners(serve, [listener], task_status=task_status)


def _is_of_this_machine(host: str) -> bool:
    """Tell whether no stranger can have given this host its address: it is one, or means this machine."""
    return is_address(host) or host.endswith(".localhost")


async def _ready(exchange: Exchange, troubles: Sequence[Trouble]) -> None:
    degraded = [trouble for trouble in troubles if trouble.degrades]
    warnings = [trouble for trouble in troubles if not trouble.degrades]
    status, words = (503, "degraded") if degraded else (200, "ok")
    accepted = next((value for name, value in exchange.request.headers if name == b"accept"), b"")
    if accepted.startswith(b"text/"):
        lines = (words, *map(said, degraded), *(f"warning: {said(each)}" for each in warnings))
        text = "".join(f"{line}\n" for line in lines)
        headers = [(b"content-type", b"text/plain; charset=utf-8"), _NO_STORE]
        await exchange.respond(status, headers, text.encode())
        return
    body: dict[str, object] = {
        "status": words,
        "why": [said(trouble) for trouble in degraded],
        "warnings": [said(trouble) for trouble in warnings],
        "degraded": sorted({trouble.part for trouble in degraded}),
    }
    await _json(exchange, status, body)


def said(trouble: Trouble) -> str:
    """Return a trouble as a line."""
    return f"{trouble.part}: {trouble.why}"


async def _json(
    exchange: Exchange, status: int, body: dict[str, object], *headers: tuple[bytes, bytes]
) -> None:
    told = [(b"content-type", b"application/json"), _NO_STORE, *headers]
    await exchange.respond(status, told, json.dumps(body).encode() + b"\n")
