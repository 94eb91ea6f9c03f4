"""Starlette, the application we run, on our own connection loop."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.net.http1_peers import connected, converse, get, post, read_all, read_until
from tport.engine.net.asgi import Message, Receive, Scope, Send, run_asgi
from tport.engine.net.http1 import Exchange

FORM = b"Content-Type: application/x-www-form-urlencoded"


async def page(request: Request) -> Response:
    return JSONResponse(
        {
            "host": request.url.hostname,
            "query": request.url.query,
            "path": request.scope["path"],
            "raw": request.scope["raw_path"].decode(),
            "client": request.client.host if request.client else None,
            "who": request.scope["who"],
        }
    )


async def form(request: Request) -> Response:
    async with request.form() as fields:
        return PlainTextResponse(f"{fields['a']} and {fields['b']}")


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        await trio.sleep(1)
        yield b"two"

    return StreamingResponse(pieces())


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await trio.sleep_forever()

    return StreamingResponse(pieces())


async def fail(request: Request) -> Response:
    raise ZeroDivisionError


async def fail_later(request: Request) -> Response:
    async def task() -> None:
        raise ZeroDivisionError

    return PlainTextResponse("done", background=BackgroundTask(task))


def in_a_thread(request: Request) -> Response:
    return PlainTextResponse("from a thread")


site = Starlette(
    routes=[
        Route("/page/{rest:path}", page),
        Route("/form", form, methods=["POST"]),
        Route("/stream", stream),
        Route("/endless", endless),
        Route("/fail", fail),
        Route("/later", fail_later),
        Route("/thread", in_a_thread),
    ]
)


async def serve(exchange: Exchange) -> None:
    await run_asgi(
        site, exchange, server=("a.test", 443), client=("192.0.2.1", 1234), extra={"who": "alice"}
    )


async def test_a_page_knows_where_it_is() -> None:
    answer = await converse(serve, get(b"/page/a%2Fb%20c?d=%C3%A9"))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(
        b'{"host":"a.test","query":"d=%C3%A9","path":"/page/a/b c",'
        b'"raw":"/page/a%2Fb%20c","client":"192.0.2.1","who":"alice"}'
    )


async def test_pages_say_when_they_were_made() -> None:
    """RFC 9110 §6.6.1: whoever has a clock does."""
    answer = await converse(serve, get(b"/page/a"))

    (date,) = re.findall(rb"\r\ndate: ([^\r]+)\r\n", answer.lower())
    made = parsedate_to_datetime(date.decode())
    assert abs((datetime.now(UTC) - made).total_seconds()) < 60


async def test_pages_keep_the_connection() -> None:
    answers = await converse(serve, get(b"/thread") + get(b"/none") + get(b"/page/x"))

    assert [answers.count(b"HTTP/1.1 %d " % status) for status in (200, 404)] == [2, 1]
    assert b"content-length: 13\r\n" in answers


async def test_head_has_the_length_of_get_and_no_body() -> None:
    answers = await converse(serve, get(b"/thread").replace(b"GET", b"HEAD") * 2)

    assert answers.count(b"content-length: 13\r\n") == 2
    assert answers.endswith(b"\r\n\r\n")


async def test_a_form_is_read() -> None:
    body = post(b"a=1&b=%C3%A9", FORM, b"Content-Length: 12").replace(b"POST /", b"POST /form")
    multipart = (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="b"\r\n\r\n2\r\n--x--\r\n'
    )
    file = post(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(multipart), multipart),
        b"Content-Type: multipart/form-data; boundary=x",
        b"Transfer-Encoding: chunked",
    ).replace(b"POST /", b"POST /form")

    answers = await converse(serve, body + file)

    assert "1 and é".encode() in answers
    assert answers.endswith(b"1 and 2")


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 1048577", b""),
        (b"Transfer-Encoding: chunked", b"100001\r\na=" + b"x" * 0xFFFFF + b"\r\n0\r\n\r\n"),
    ],
)
async def test_a_form_of_more_than_a_mebibyte_is_refused(
    framing: bytes, body: bytes, autojump_clock: MockClock
) -> None:
    """DOS-07: whether it says so or not."""
    answer = await converse(serve, post(body, FORM, framing).replace(b"POST /", b"POST /form"))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_answer_is_streamed(autojump_clock: MockClock) -> None:
    async with connected(serve) as client:
        await client.send_all(get(b"/stream"))

        assert (await client.receive_some()).endswith(b"\r\n\r\n4\r\none \r\n")
        assert trio.current_time() == 0
        assert await read_until(client, b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
        await client.aclose()


async def test_a_stream_ends_when_its_client_has_gone() -> None:
    async with connected(serve) as client:
        await client.send_all(get(b"/endless"))
        await read_until(client, b"first\r\n")
        await client.aclose()


async def test_an_app_that_fails_is_a_500_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = await converse(serve, get(b"/fail") + get(b"/thread"))

    assert answers.startswith(b"HTTP/1.1 500 ")
    assert answers.endswith(b"from a thread")
    assert len(caplog.records) == 1
    assert "ZeroDivisionError" in caplog.text


async def test_a_task_that_fails_after_the_answer_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = await converse(serve, get(b"/later") + get(b"/thread"))

    assert b"done" in answers
    assert answers.endswith(b"from a thread")
    assert "/later failed after its answer" in caplog.text


async def test_an_app_that_stops_in_the_middle_is_cut_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def serve_half(exchange: Exchange) -> None:
        await run_asgi(half, exchange)

    assert (await converse(serve_half, get() * 2)).endswith(b"\r\n\r\n4\r\nhalf\r\n")


async def test_an_app_is_told_of_the_end_of_the_body_and_then_of_the_client() -> None:
    seen: list[Message] = []

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    async def serve_listen(exchange: Exchange) -> None:
        await run_asgi(listen, exchange)
        exchange.abort()

    async with connected(serve_listen) as client:
        await client.send_all(get())
        await wait_all_tasks_blocked()
        await client.send_eof()
        assert await read_all(client) == b""
    assert seen == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]
