"""Port 80: pending challenges, the way to https, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from tests.stack import Answer, read_answer
from tport.engine.defaults import HTTP_CONNECTIONS
from tport.engine.proto.forwarded import parse_network
from tport.engine.proxy.clients import Clients
from tport.engine.proxy.http_door import HttpDoor

CHALLENGE = "/.well-known/acme-challenge"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with open_door() as port:
        yield port


@asynccontextmanager
async def open_door(clients: Clients | None = None) -> AsyncIterator[int]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    door = HttpDoor(
        proof=lambda host, token: "token.k" if (host, token) == ("a.test", "token") else None,
        is_known=lambda host: host in ("a.test", "b.test"),
        zones={"a.test"},
        port_suffix=":3080",
        clients=clients,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(door.serve, listener)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(
    port: int,
    target: str,
    host: str = "a.test",
    method: str = "GET",
    extra: str = "",
    before: bytes = b"",
) -> Answer:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n"
        await stream.send_all(before + head.encode())
        with trio.fail_after(5):
            return await read_answer(stream, method=method)


async def test_a_pending_challenge_is_answered_at_its_host(port: int) -> None:
    answer = await ask(port, f"{CHALLENGE}/token")
    assert (answer.status, answer.body) == (200, b"token.k")
    assert answer.header("content-type") == "application/octet-stream"


@pytest.mark.parametrize(
    ("host", "token"),
    [("b.test", "token"), ("a.test", "other"), ("a.test", ""), ("a.test", "token/x")],
)
async def test_tls_13_no_other_token_and_no_other_host_is(port: int, host: str, token: str) -> None:
    """The rest of a known host is sent to https, where the normal way in is."""
    answer = await ask(port, f"{CHALLENGE}/{token}", host)
    assert answer.status == 301
    assert answer.header("location") == f"https://{host}:3080{CHALLENGE}/{token}"


async def test_a_known_host_is_sent_to_https_with_path_and_query(port: int) -> None:
    answer = await ask(port, "/a/b?c=d", extra="X-Forwarded-Host: evil.test\r\n")
    assert answer.status == 301
    assert answer.header("location") == "https://a.test:3080/a/b?c=d"
    assert answer.closed


async def test_strangers_are_not_told_which_applications_there_are(port: int) -> None:
    """HTTP-07: a name right below the proxy's goes to https, whoever has it; so it is there."""
    answer = await ask(port, "/", "nobody.a.test")
    assert answer.status == 301
    assert answer.header("location") == "https://nobody.a.test:3080/"


@pytest.mark.parametrize(
    "host", ["evil.test", "127.0.0.1", "a.test.evil.test", "x.y.a.test", "test"]
)
async def test_nobody_is_sent_to_a_host_that_is_not_ours(port: int, host: str) -> None:
    answer = await ask(port, "/", host)
    assert answer.status == 404
    assert answer.header("location") == ""


async def test_a_form_is_not_sent_on(port: int) -> None:
    answer = await ask(port, "/login", method="POST", extra="Content-Length: 0\r\n")
    assert answer.status == 403


async def test_a_head_that_is_not_strict_is_refused(port: int) -> None:
    answer = await ask(
        port, "/", extra="Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", method="POST"
    )
    assert answer.status == 400


async def test_behind_a_load_balancer_its_header_comes_first() -> None:
    clients = Clients([parse_network("127.0.0.1/32")], proxy_protocol=True)
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n"
    async with open_door(clients) as port:
        answer = await ask(port, f"{CHALLENGE}/token", before=header)
        assert answer.body == b"token.k"

        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await ask(port, f"{CHALLENGE}/token")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "], ids=["nothing", "half a head"])
async def test_dos_01_whoever_holds_connections_keeps_no_ca_out(port: int, sent: bytes) -> None:
    """DOS-01: 250 from one address, of the 200 that there may be in all."""
    async with AsyncExitStack() as held:
        for _ in range(HTTP_CONNECTIONS + 50):
            stream = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.66")
            await held.enter_async_context(stream)
            if sent:
                await stream.send_all(sent)

        assert (await ask(port, f"{CHALLENGE}/token")).body == b"token.k"
