"""Probes learn whether the process lives, whether it is ready, and why not; and nothing else."""

from __future__ import annotations

import json

import pytest
import trio

from tests.stack import Answer, read_answer
from tport.engine.diag import serve_diagnostics


async def ask(nursery: trio.Nursery, path: str, *reasons: str) -> Answer:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(serve_diagnostics, listener, lambda: reasons)
    async with await trio.open_tcp_stream(*listener.socket.getsockname()) as client:
        await client.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return await read_answer(client)


@pytest.mark.parametrize("path", ["/healthz", "/healthz?probe=1", "/readyz"])
async def test_a_good_process_is_ok(nursery: trio.Nursery, path: str) -> None:
    answer = await ask(nursery, path)
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "ok")
    assert answer.header("cache-control") == "no-store"


async def test_a_degraded_one_lives_and_is_not_ready_and_says_why(nursery: trio.Nursery) -> None:
    ready = await ask(nursery, "/readyz", "the clock went back")
    assert ready.status == 503
    assert json.loads(ready.body) == {"status": "degraded", "why": ["the clock went back"]}
    assert (await ask(nursery, "/healthz", "the clock went back")).status == 200


@pytest.mark.parametrize("path", ["/", "/debug/pprof", "/metrics", "/healthz/"])
async def test_there_is_nothing_else(nursery: trio.Nursery, path: str) -> None:
    assert (await ask(nursery, path)).status == 404
