"""Diagnostics in the clear, for probes on this machine: /healthz and /readyz."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import trio

from tport.engine.net.http1 import Exchange, serve_http1

Degraded = Callable[[], Sequence[str]]


async def serve_diagnostics(
    listener: trio.SocketListener,
    degraded: Degraded,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    /healthz is 200 while the process answers; /readyz is 503 while `degraded` returns reasons,
    and tells them.
    """

    async def answer(exchange: Exchange) -> None:
        path = exchange.request.target.partition(b"?")[0]
        if path == b"/healthz":
            await _respond(exchange, 200, {"status": "ok"})
        elif path == b"/readyz":
            reasons = list(degraded())
            status = "degraded" if reasons else "ok"
            await _respond(exchange, 503 if reasons else 200, {"status": status, "why": reasons})
        else:
            await _respond(exchange, 404, {"error": "not-found", "paths": ["/healthz", "/readyz"]})

    async def serve(stream: trio.SocketStream) -> None:
        await serve_http1(stream, answer)

    await trio.serve_listeners(serve, [listener], task_status=task_status)


async def _respond(exchange: Exchange, status: int, body: dict[str, object]) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await exchange.respond(status, headers, json.dumps(body).encode() + b"\n")
