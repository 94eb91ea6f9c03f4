"""The HTTPS to CAs: what is sent, what is believed, and how it fails in words."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
import trio
import trustme
from trio.testing import MockClock

from tport.engine.errors import ConnectionProblem
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.proto.acme import Request
from tport.engine.proto.acme_answers import MAX_ANSWER, CaProblem, Directory, Response, read
from tport.engine.proxy.acme_ca import HttpsTransport

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Handle = Callable[[Exchange], Awaitable[None]]


class Server:
    def __init__(self, authority: trustme.CA, port: int) -> None:
        self.authority = authority.cert_pem.bytes().decode()
        self.url = f"https://localhost:{port}/x"

    async def ask(self, request: Request | None = None, authority: str = "") -> Response:
        transport = HttpsTransport(authority or self.authority, lambda: NOW)
        return await transport(request or Request(method="GET", url=self.url))


@asynccontextmanager
async def open_server(handle: Handle) -> AsyncIterator[Server]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await serve_http1(tls, handle)
        except trio.BrokenResourceError:
            pass  # a client that doesn't trust us

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, serve, [listener]))
        yield Server(authority, listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def test_a_request_says_who_asks_and_what_it_holds() -> None:
    seen: list[dict[bytes, bytes]] = []

    async def handle(exchange: Exchange) -> None:
        seen.append(dict(exchange.request.headers))
        await exchange.respond(200, [(b"Replay-Nonce", b"abc")], b"{}")

    async with open_server(handle) as server:
        request = Request(method="POST", url=server.url, body=b"{}", accept="application/x")
        response = await server.ask(request)

    assert (response.status, response.nonce, response.body) == (200, "abc", b"{}")
    assert seen[0][b"content-type"] == b"application/jose+json"
    assert seen[0][b"accept"] == b"application/x"
    assert seen[0][b"user-agent"].startswith(b"tport/")


async def test_a_redirect_is_not_followed() -> None:
    asked: list[bytes] = []

    async def handle(exchange: Exchange) -> None:
        asked.append(exchange.request.target)
        await exchange.respond(302, [(b"location", b"/elsewhere")])

    async with open_server(handle) as server:
        response = await server.ask()

    assert asked == [b"/x"]
    with pytest.raises(CaProblem, match="elsewhere"):
        read(response, Directory, "directory", 200)


async def test_an_answer_without_end_is_cut() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, [], b" " * (MAX_ANSWER * 8))

    async with open_server(handle) as server:
        response = await server.ask()

    assert len(response.body) <= 2 * MAX_ANSWER
    with pytest.raises(CaProblem, match="has over"):
        read(response, Directory, "directory", 200)


async def test_a_ca_with_another_authority_is_not_believed() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, [], b"{}")

    other = trustme.CA().cert_pem.bytes().decode()
    async with open_server(handle) as server:
        with pytest.raises(
            ConnectionProblem, match=r"localhost can't be reached: the certificate does not verify"
        ):
            await server.ask(authority=other)


async def test_a_ca_that_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async def handle(_exchange: Exchange) -> None:
        await trio.sleep_forever()

    autojump_clock.autojump_threshold = 0.5  # TLS takes real time
    async with open_server(handle) as server:
        with pytest.raises(ConnectionProblem, match="localhost does not answer in time"):
            await server.ask()


async def test_nobody_there_is_told_in_words() -> None:
    with pytest.raises(ConnectionProblem, match=r"127\.0\.0\.1 can't be reached: .*refused"):
        await HttpsTransport("", lambda: NOW)(Request(method="GET", url="https://127.0.0.1:1/dir"))


async def test_a_proxy_of_the_environment_that_can_not_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(ConnectionProblem, match="HTTPS_PROXY"):
        await HttpsTransport("", lambda: NOW)(Request(method="GET", url="https://ca.test/dir"))


@pytest.mark.parametrize(
    "url", ["https://[", "https://ca.test:port/", "https://\udc80/", "https://" + "b" * 80]
)
async def test_an_address_that_is_none_is_a_problem_with_the_ca(url: str) -> None:
    """The CA names the addresses to go on at."""
    transport = HttpsTransport("", lambda: NOW)

    with pytest.raises(ConnectionProblem):
        await transport(Request(method="GET", url=url))
