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


async def serve(
    nursery: trio.Nursery, *troubles: Trouble, at: str = "127.0.0.1", name: str = ""
) -> trio.SocketListener:
    [listener] = await trio.open_tcp_listeners(0, host=at)
    await nursery.start(serve_diagnostics, listener, Told(*troubles), name)
    return listener


async def ask(
    nursery: trio.Nursery,
    path: str,
    *troubles: Trouble,
    method: str = "GET",
    accept: str = "*/*",
    host: str = "localhost",
    at: str = "127.0.0.1",
    name: str = "",
) -> Answer:
    listener = await serve(nursery, *troubles, at=at, name=name)
    async with await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]) as client:
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
        *(("x", 421), ("agent:3000", 421), ("localhost.evil.test", 421), ("wpad.local", 421)),
        *(("127.0.0.1:3000", 200), ("localhost", 200), ("[::1]:3000", 200), ("a.localhost", 200)),
    ],
)
async def test_ag_18_no_page_in_a_browser_here_reads_it_by_a_name_of_its_own(
    nursery: trio.Nursery, path: str, host: str, status: int
) -> None:
    """AG-18: DNS rebinding; to the browser that is the page's own origin. Who answers for a network's names
    makes one of a single label, too."""
    assert (await ask(nursery, path, host=host)).status == status


async def test_a_name_by_which_the_operator_has_it_listen_is_its_own(nursery: trio.Nursery) -> None:
    assert (await ask(nursery, "/readyz", host="Agent.:3000", name="agent")).status == 200
    assert (await ask(nursery, "/readyz", host="agent2", name="agent")).status == 421


@pytest.mark.parametrize("host", ["agent:3000", "agent.example.com:3000", "10.0.0.5:3000"])
async def test_on_an_address_for_others_it_is_asked_by_any_name(
    nursery: trio.Nursery, host: str
) -> None:
    """As Prometheus does: of a compose file's service, or by DNS."""
    assert (await ask(nursery, "/metrics", host=host, at="0.0.0.0")).status == 200


async def test_a_probe_of_http_1_0_needs_no_name(nursery: trio.Nursery) -> None:
    """As load balancers' do; no browser leaves it out."""
    listener = await serve(nursery)
    async with await trio.open_tcp_stream(*listener.socket.getsockname()) as client:
        await client.send_all(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert (await read_answer(client)).status == 200


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
        await client.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(client)).status == 200
    for stream in held:
        await stream.aclose()
