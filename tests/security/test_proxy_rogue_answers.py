"""What an agent in the enemy's hands may say to a browser through the proxy: nothing but an answer.

Its certificate is genuine and it offers an application of its own, `mine`. Honest agents never say
any of this (`agent.rewrite` sees to it); the proxy believes none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.rogue import Tunnel, open_rogue_agent
from tests.stack import DOMAIN, Person, Stack, open_stack, read_all
from tport.engine.proto.tunnel import Accepted, Inbox, NoAnswer, ResponseHead, pack, request_decoder
from tport.engine.proxy.passage import MOST_PATIENT
from tport.engine.types.app import App

MINE = App(name="mine", uri="http://127.0.0.1:1")


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


async def _serve(tunnel: Tunnel, words: bytes) -> None:
    """Answer every request with these bytes."""
    while True:
        stream, inbox = await tunnel.mux.accept(), Inbox()
        while inbox.take(request_decoder) is None:
            data = await stream.receive_some()
            if not data:
                break
            inbox.feed(data)
        try:
            await stream.send_last(words)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the proxy had enough


@asynccontextmanager
async def answering(stack: Stack, words: bytes) -> AsyncIterator[None]:
    """`mine` is offered by a rogue agent that answers with these bytes, whatever it is asked."""
    async with (
        open_rogue_agent(stack) as agent,
        agent.tunnel(MINE) as tunnel,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_serve, tunnel, words)
        yield
        nursery.cancel_scope.cancel()


def response(*headers: tuple[bytes, bytes], status: int = 200, length: int | None = 2) -> bytes:
    block = b"".join([b"%b: %b\r\n" % header for header in headers])
    head = ResponseHead(status=status, reason=b"", headers=block, length=length)
    return pack(head) + b"ok"


async def conversation(stack: Stack, alice: Person, method: str = "GET") -> bytes:
    """Ask twice on one connection; return all that the browser gets."""
    await alice.open("mine")
    host = stack.host("mine")
    lines = [f"{method} / HTTP/1.1", f"Host: {host}", f"Cookie: {alice.cookie('mine')}"]
    ask = "\r\n".join([*lines, "", ""]).encode()
    last = ask.replace(b"Host:", b"Connection: close\r\nHost:")
    with trio.fail_after(10):
        async with await stack.connect(host) as tls:
            await tls.send_all(ask + last)
            try:
                return await read_all(tls)
            except trio.BrokenResourceError:
                return b""


PLANTS = [
    (b"Set-Cookie", b"__Host-tport_app_00000000=evil; Secure; Path=/"),
    (b"SET-COOKIE", b"tossed=1; Domain=" + DOMAIN.encode()),
    (b"set-cookie", b"tossed=1; Domain=" + DOMAIN.encode()),
    (b"Clear-Site-Data", b'"cookies"'),
    (b"alt-svc", b'h2="evil.test:443"'),
    (b"Strict-Transport-Security", b"max-age=1; includeSubDomains"),
    (b"Teleport-Jwt-Assertion", b"ey.stolen"),
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant[0].decode())
async def test_web_04_no_spelling_of_a_header_gets_past_the_proxy(
    stack: Stack, alice: Person, plant: tuple[bytes, bytes]
) -> None:
    """WEB-03, WEB-04, HTTP-16: cookies of ours or for others, emptied jars, other servers."""
    async with answering(stack, response(plant, (b"X-Other", b"kept"))):
        said = await conversation(stack, alice)

    assert said.count(b"HTTP/1.1 200") == 2
    assert said.lower().count(b"x-other: kept") == 2
    assert b"evil" not in said
    assert b"stolen" not in said
    assert b"domain" not in said.lower()
    assert b"clear-site-data" not in said.lower()
    assert b"includesubdomains" not in said.lower()


@pytest.mark.parametrize(
    "name",
    [b"Transfer-Encoding", b"content-length", b"Connection", b"Upgrade", b"Keep-Alive", b"Trailer"],
)
async def test_http_16_an_agent_frames_no_answer(stack: Stack, alice: Person, name: bytes) -> None:
    """HTTP-16: framing is the proxy's own, whatever headers an agent sends along."""
    value = b"60" if name == b"content-length" else b"chunked"
    async with answering(stack, response((name, value))):
        said = await conversation(stack, alice)

    assert said.count(b"HTTP/1.1 200") == 2
    assert said.count(b"content-length: 2\r\n") == 2
    assert b"chunked" not in said


async def test_http_16_a_line_that_hides_in_another_is_judged_like_any(
    stack: Stack, alice: Person
) -> None:
    hidden = b"y\r\nset-COOKIE: __Host-tport_web_x=evil\r\nTransfer-Encoding: chunked\r\nz: 1"
    async with answering(stack, response((b"x", hidden))):
        said = await conversation(stack, alice)

    assert said.count(b"\r\nz: 1\r\n") == 2
    assert said.count(b"content-length: 2\r\n") == 2
    assert b"evil" not in said
    assert b"chunked" not in said


@pytest.mark.parametrize(
    "words",
    [
        response((b"X: y\nSet-Cookie", b"a=b")),
        response((b"x", b"y\nSet-Cookie: a=b")),
        response((b"x", b"y\r\n folded: z")),
        response((b"x", b"y\r\n\r\nHTTP/1.1 200 OK")),
        response((b"", b"y")),
        response(length=-1),
        response(length=2**63),
        response(length=1),  # and two bytes come
        response(length=3),
        response(status=99),
        response(status=-200),
        response(status=1000),
        response(status=101),
        pack(NoAnswer(kind="broken", hop="app", cause="x", waited=float("nan"))),
        pack(NoAnswer(kind="timeout", hop="app", cause="\r\nX: y", since="x", waited=-1e300)),
        b"\0\0\0\1\xc1",
        b"\xff\xff\xff\xff",
        b"",
    ],
    ids=lambda words: repr(words[:24]),
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_http_16_nonsense_of_an_agent_is_a_502_or_a_cut_and_no_bug(
    stack: Stack, alice: Person, words: bytes, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """HTTP-16: no header of its making, no answer that could end in two places, nothing but that hop to blame."""
    async with answering(stack, words):
        said = await conversation(stack, alice, method)
        other = await alice.get("echo")

    assert other.status == 200
    assert b"\r\nset-cookie" not in said.lower()
    assert b"content-length: -" not in said
    assert b"HTTP/1.1 500" not in said
    assert "failed" not in caplog.text, "a bug, by our own log"


@pytest.mark.parametrize(
    "words",
    [pack(Accepted()) * (MOST_PATIENT + 1) + response(), response((b"x", b"y" * 900_000))],
    ids=["the same again and again", "a head larger than any"],
)
async def test_ag_10_an_agent_keeps_no_request_busy_for_ever(
    stack: Stack, alice: Person, words: bytes
) -> None:
    """AG-10: neither by words that cost it nothing, nor by a head that never ends."""
    async with answering(stack, words):
        said = await conversation(stack, alice)

    assert said.startswith(b"HTTP/1.1 502 ")
    assert b"HTTP/1.1 200" not in said


async def test_http_16_an_agent_s_informational_answers_come_to_an_end(
    stack: Stack, alice: Person
) -> None:
    """HTTP-16: eight of them, as from an application."""
    hint = pack(ResponseHead(status=103, reason=b"", headers=b"", length=0))
    async with answering(stack, hint * 5000 + response()):
        said = await conversation(stack, alice)

    assert said.count(b"HTTP/1.1 103") <= 16
    assert b"HTTP/1.1 200" not in said
