"""The debug app shows what an application gets to see: all of it, as text, never as markup."""

from __future__ import annotations

import pytest
import trio
from starlette.types import Message
from trio.testing import memory_stream_pair

from tests.stack import Answer, read_answer
from tport.engine.agent.debug_app import DEFINITION, debug_app
from tport.engine.net.asgi import run_asgi
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.types.app import check_app_name


async def ask(nursery: trio.Nursery, *lines: str, body: bytes = b"", method: str = "GET") -> Answer:
    ours, its = memory_stream_pair()

    async def answer(exchange: Exchange) -> None:
        await run_asgi(debug_app, exchange, scheme="http")

    nursery.start_soon(serve_http1, its, answer)
    await ours.send_all("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    return await read_answer(ours, method=method)


async def test_programs_get_the_request_as_text(nursery: trio.Nursery) -> None:
    answer = await ask(
        nursery,
        "POST /a%20b?x=1 HTTP/1.1",
        "Host: localhost",
        "Teleport-Jwt-Assertion: eyJ",
        "Content-Length: 4",
        body=b"body",
    )
    text = answer.body.decode()

    assert text.startswith("POST /a%20b?x=1 HTTP/1.1\n")
    assert "teleport-jwt-assertion: eyJ\n" in text
    assert "(4 bytes of body)" in text
    assert answer.header("cache-control") == "no-store"


async def test_people_get_a_page_in_which_nothing_is_markup(nursery: trio.Nursery) -> None:
    answer = await ask(
        nursery,
        "GET /?<script>alert(1)</script> HTTP/1.1".replace("<", "%3C"),
        "Host: localhost",
        "Accept: text/html",
        "X-Odd: <script>alert(2)</script>",
        "X-Brace: {line}{0}",
    )
    page = answer.body.decode()

    assert answer.header("content-type").startswith("text/html")
    assert "<script" not in page
    assert "&lt;script&gt;alert(2)" in page
    assert "{line}{0}" in page
    assert "default-src 'none'" in answer.header("content-security-policy")


async def test_head_is_answered_without_a_body(nursery: trio.Nursery) -> None:
    answer = await ask(nursery, "HEAD / HTTP/1.1", "Host: localhost", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_a_body_is_counted_not_kept(nursery: trio.Nursery, size: int) -> None:
    answer = await ask(
        nursery,
        "POST / HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {size}",
        body=b"x" * size,
    )
    assert f"({size} bytes of body)" in answer.body.decode()


def test_its_definition_is_one_that_an_agent_may_offer() -> None:
    assert check_app_name(DEFINITION.name) == "dumper"


async def test_who_leaves_before_the_request_was_whole_gets_no_answer() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return messages.pop(0)

    async def send(message: Message) -> None:
        pytest.fail(f"it said {message!r}")

    await debug_app({"type": "http"}, receive, send)
