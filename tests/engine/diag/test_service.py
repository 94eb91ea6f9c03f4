"""Probes learn whether the process lives, whether it is ready, and why not; and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import trio

from tests.stack import Answer, read_answer
from tport.engine.defaults import DIAG_CONNECTIONS
from tport.engine.diag.service import serve_diagnostics
from tport.engine.metrics.sample import Trouble

CLOCK = Trouble("auth", "the clock went back")
LATE = Trouble("proxy", "the certificate ends soon", degrades=False)


class Told:
    def __init__(self, *troubles: Trouble) -> None:
        self._troubles = troubles

    async def troubles(self) -> Sequence[Trouble]:
        return self._troubles

    async def metrics(self) -> str:
        return "tport_tunnels 3\n"


async def serve(nursery: trio.Nursery, *troubles: Trouble) -> trio.SocketListener:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(serve_diagnostics, listener, Told(*troubles))
    return listener


async def ask(
    nursery: trio.Nursery,
    path: str,
    *troubles: Trouble,
    method: str = "GET",
    accept: str = "*/*",
    host: str = "x",
) -> Answer:
    listener = await serve(nursery, *troubles)
    async with await trio.open_tcp_stream(*listener.socket.getsockname()) as client:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n"
        await client.send_all(head.encode())
        return await read_answer(client, method=method)


@pytest.mark.parametrize("path", ["/healthz", "/healthz?probe=1", "/readyz"])
async def test_a_good_process_is_ok(nursery: trio.Nursery, path: str) -> None:
    answer = await ask(nursery, path)
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "ok")
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("rebound.evil.test", 421), ("rebound.evil.test:3000", 421), ("EVIL.test.", 421)),
        *(("127.0.0.1:3000", 200), ("localhost", 200), ("[::1]:3000", 200), ("agent", 200)),
    ],
)
async def test_ag_18_no_page_in_a_browser_here_reads_it_by_a_name_of_its_own(
    nursery: trio.Nursery, path: str, host: str, status: int
) -> None:
    """AG-18: DNS rebinding; to the browser that is the page's own origin."""
    assert (await ask(nursery, path, host=host)).status == status


async def test_a_degraded_one_lives_and_is_not_ready_and_says_why(nursery: trio.Nursery) -> None:
    ready = await ask(nursery, "/readyz", CLOCK, LATE)
    assert ready.status == 503
    assert json.loads(ready.body) == {
        "status": "degraded",
        "why": ["auth: the clock went back"],
        "warnings": ["proxy: the certificate ends soon"],
        "degraded": ["auth"],
    }
    assert (await ask(nursery, "/healthz", CLOCK)).status == 200


async def test_a_warning_takes_nobody_out_of_a_balancer(nursery: trio.Nursery) -> None:
    ready = await ask(nursery, "/readyz", LATE)
    assert (ready.status, json.loads(ready.body)["status"]) == (200, "ok")


async def test_a_browser_is_told_in_words(nursery: trio.Nursery) -> None:
    ready = await ask(nursery, "/readyz", CLOCK, LATE, accept="text/html,*/*;q=0.8")
    assert ready.header("content-type").startswith("text/plain")
    assert ready.body.decode().splitlines() == [
        "degraded",
        "auth: the clock went back",
        "warning: proxy: the certificate ends soon",
    ]


async def test_figures_come_as_prometheus_reads_them(nursery: trio.Nursery) -> None:
    answer = await ask(nursery, "/metrics")
    assert answer.body == b"tport_tunnels 3\n"
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/", "/debug/pprof", "/metrics/", "/healthz/", "//metrics"])
async def test_there_is_nothing_else(nursery: trio.Nursery, path: str) -> None:
    assert (await ask(nursery, path)).status == 404


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed_by_it(nursery: trio.Nursery, method: str) -> None:
    answer = await ask(nursery, "/readyz", method=method)
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")


async def test_whoever_holds_connections_open_gets_no_more_than_there_are_places(
    nursery: trio.Nursery,
) -> None:
    listener = await serve(nursery)
    held = [
        await trio.open_tcp_stream(*listener.socket.getsockname()) for _ in range(DIAG_CONNECTIONS)
    ]
    await trio.testing.wait_all_tasks_blocked(0.05)
    async with await trio.open_tcp_stream(*listener.socket.getsockname()) as one_more:
        assert await one_more.receive_some() == b""
    await held.pop().aclose()
    await trio.testing.wait_all_tasks_blocked(0.05)
    async with await trio.open_tcp_stream(*listener.socket.getsockname()) as client:
        await client.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(client)).status == 200
    for stream in held:
        await stream.aclose()
