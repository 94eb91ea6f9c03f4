import logging
import ssl
from collections.abc import Callable
from typing import NoReturn

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.engine.net.http1_peers import (
    Handle,
    connected,
    converse,
    echo,
    get,
    post,
    read_all,
    read_until,
)
from tests.engine.net.test_tcp import pair
from tport.engine.errors import AccessDenied, RemoteProtocolError, TportError
from tport.engine.net.http1 import ClientGone, Drain, Exchange, serve_http1
from tport.engine.net.tls_stream import TlsStream
from tport.engine.proto.framing import CHUNKED, of_length
from tport.engine.proto.head_meaning import BadHead

OK = b"HTTP/1.1 200 OK\r\ncontent-length: "
HANDSHAKE = get(
    b"/chat",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def never(exchange: Exchange) -> None:
    await trio.sleep_forever()


# --- keeping the connection ------------------------------------------------------------------


async def test_requests_follow_one_another_on_one_connection() -> None:
    async with connected(echo) as client:
        for target in (b"/1", b"/2"):
            await client.send_all(get(target))
            assert await read_until(client, target + b" ") == OK + b"7\r\n\r\nGET " + target + b" "
        await client.aclose()


async def test_pipelined_requests_are_answered_in_turn() -> None:
    sent = get(b"/1") + post(b"3\r\nabc\r\n0\r\n\r\n", b"Transfer-Encoding: chunked") + get(b"/3")

    answers = await converse(echo, sent)

    assert (
        answers
        == OK + b"7\r\n\r\nGET /1 " + OK + b"10\r\n\r\nPOST / abc" + OK + b"7\r\n\r\nGET /3 "
    )


@pytest.mark.parametrize(
    "request_",
    [get(b"/", b"Connection: close"), get(version=b"1.0"), b"\r\n" + get(version=b"1.0")],
)
async def test_a_client_that_wants_one_answer_gets_one(
    request_: bytes, autojump_clock: MockClock
) -> None:
    async with connected(echo) as client:
        await client.send_all(request_ + get(b"/never"))

        assert await read_all(client) == (OK + b"6\r\nconnection: close\r\n\r\nGET / ")


async def test_an_idle_connection_ends_after_a_minute(autojump_clock: MockClock) -> None:
    async with connected(echo) as client:
        await client.send_all(get())
        await read_until(client, b"GET / ")
        answered = trio.current_time()

        assert await read_all(client) == b""
        assert trio.current_time() == answered + 60


async def test_a_drain_ends_idle_connections_at_once_and_busy_ones_after_their_answer(
    autojump_clock: MockClock,
) -> None:
    drain = Drain()

    async def slow(exchange: Exchange) -> None:
        await trio.sleep(5)
        await echo(exchange)

    async with connected(slow, drain=drain) as busy, connected(slow, drain=drain) as idle:
        await busy.send_all(get())
        await wait_all_tasks_blocked()
        drain.begin()

        assert await read_all(idle) == b""
        assert trio.current_time() == 0
        assert (await read_all(busy)).endswith(b"GET / ")
        assert trio.current_time() == 5


# --- heads -----------------------------------------------------------------------------------


async def test_a_head_may_come_byte_by_byte() -> None:
    async with connected(echo) as client:
        for byte in get(b"/slow"):
            await client.send_all(bytes((byte,)))
            await wait_all_tasks_blocked()
        assert (await read_until(client, b"GET /slow ")).startswith(OK)
        await client.aclose()


async def test_a_bad_head_is_answered_and_ends_the_connection() -> None:
    """HTTP-01: one 400, and the smuggled request is never seen."""
    smuggled = b"0\r\n\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"

    answer = await converse(
        echo, post(smuggled, b"Content-Length: 5", b"Transfer-Encoding: chunked")
    )

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Content-Length and Transfer-Encoding exclude each other" in answer


async def test_the_page_of_a_refusal_can_be_given() -> None:
    def refusal(bad: BadHead) -> tuple[list[tuple[bytes, bytes]], bytes]:
        return [(b"clear-site-data", b'"cookies"')], b"%d" % bad.status

    answer = await converse(echo, get(b"/", b"X: " + b"y" * 20_000), refusal=refusal)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'clear-site-data: "cookies"\r\n' in answer
    assert answer.endswith(b"\r\n\r\n431")


async def test_an_endless_head_is_refused_at_64_kib(autojump_clock: MockClock) -> None:
    """DOS-02."""
    answer = await converse(echo, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000)

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_slow_head_is_given_ten_seconds_in_all(autojump_clock: MockClock) -> None:
    """DOS-01: from its first byte, however steadily it drips."""
    async with connected(echo) as client:
        await trio.sleep(20)
        for byte in b"GET / HTTP":
            await client.send_all(bytes((byte,)))
            await trio.sleep(0.999)
        await client.send_all(b"/")

        assert (await read_all(client)).startswith(b"HTTP/1.1 408 ")
        assert 30 <= trio.current_time() <= 31  # and no longer than a second to say so


async def test_a_client_that_goes_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    for sent in (b"", b"GET", post(b"ab", b"Content-Length: 3")):
        assert await converse(echo, sent) == b""
    assert not caplog.records


# --- bodies ----------------------------------------------------------------------------------


async def test_a_body_is_asked_for_when_the_handler_wants_it() -> None:
    async with connected(echo) as client:
        await client.send_all(post(b"", b"Expect: 100-continue", b"Content-Length: 3"))

        assert await read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send_all(b"abc")
        assert (await read_until(client, b"abc")).startswith(OK)
        await client.aclose()


async def test_a_body_that_did_not_wait_is_not_asked_for() -> None:
    answer = await converse(echo, post(b"abc", b"Expect: 100-continue", b"Content-Length: 3"))

    assert answer == OK + b"10\r\n\r\nPOST / abc"


async def refuse(exchange: Exchange) -> None:
    await exchange.respond(401, [], b"no")


async def test_a_refused_body_is_never_asked_for(autojump_clock: MockClock) -> None:
    """HTTP-10: and since nobody knows whether it comes, the connection ends."""
    async with connected(refuse) as client:
        await client.send_all(post(b"", b"Expect: 100-continue", b"Content-Length: 3"))

        answer = await read_all(client)

    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"connection: close" in answer


async def test_a_small_body_nobody_read_is_skipped() -> None:
    """HTTP-10."""
    answers = await converse(refuse, post(b"x" * 60_000, b"Content-Length: 60000") + get())

    assert answers.count(b"HTTP/1.1 401") == 2
    assert b"close" not in answers


@pytest.mark.parametrize("framing", [b"Content-Length: 10000000", b"Transfer-Encoding: chunked"])
async def test_an_early_answer_to_a_large_upload_ends_the_connection(
    framing: bytes, autojump_clock: MockClock
) -> None:
    """HTTP-10: the client gets it, and what it had on its way is no request."""
    async with connected(refuse) as client:
        await client.send_all(post(get(b"/smuggled") * 10, framing))

        answer = await read_all(client)

    assert (
        answer == b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    )


async def test_a_body_with_broken_framing_is_a_400_and_the_end() -> None:
    """HTTP-04."""
    sent = post(b"5;x\r\nhello\r\n0\r\n\r\n" + get(b"/2"), b"Transfer-Encoding: chunked")

    answer = await converse(echo, sent)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


async def drip(client: trio.abc.SendStream) -> NoReturn:
    while True:
        await client.send_all(b"x" * 100)
        await trio.sleep(1)


async def test_a_slow_body_ends_the_connection(autojump_clock: MockClock) -> None:
    """DOS-01: 500 bytes a second over 30 s, after 10 s of grace."""
    async with connected(echo) as client:
        await client.send_all(post(b"", b"Content-Length: 1000000"))
        with pytest.raises(trio.BrokenResourceError):
            await drip(client)
        assert 40 <= trio.current_time() <= 43
        assert (await read_all(client)).startswith(b"HTTP/1.1 408 ")


async def test_a_body_at_a_fair_rate_may_take_as_long_as_it_takes(
    autojump_clock: MockClock,
) -> None:
    async with connected(echo) as client:
        await client.send_all(post(b"", b"Content-Length: 100000"))
        for _ in range(100):
            await client.send_all(b"x" * 1000)
            await trio.sleep(1.5)
        assert (await read_until(client, b"x" * 1000)).startswith(OK)
        await client.aclose()


async def test_a_handler_that_takes_its_time_is_not_the_client_s_fault(
    autojump_clock: MockClock,
) -> None:
    async def late(exchange: Exchange) -> None:
        await trio.sleep(1000)
        await echo(exchange)

    assert (await converse(late, post(b"abc", b"Content-Length: 3"))).endswith(b"POST / abc")


async def test_nothing_is_read_ahead_of_a_pending_answer() -> None:
    """DOS-04: a client that pipelines without end has to wait."""
    client, server = memory_stream_pair()
    received = 0
    receive_some = server.receive_some

    async def count(max_bytes: int | None = None) -> bytes:
        nonlocal received
        data = bytes(await receive_some(max_bytes))
        received += len(data)
        return data

    server.receive_some = count  # type: ignore[method-assign]  # counts, and changes nothing
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http1, server, never)
        await client.send_all(get() * 50_000)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert received <= 65536


# --- answers ---------------------------------------------------------------------------------


async def stream_answer(exchange: Exchange) -> None:
    await exchange.send_head(200, [(b"x", b"y")])
    await exchange.send_body(b"hello ")
    await exchange.send_body(b"")
    await exchange.send_body(b"world")
    await exchange.finish()


async def test_an_answer_of_unknown_length_is_chunked() -> None:
    assert await converse(stream_answer, get()) == (
        b"HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n"
        b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"
    )


async def test_an_old_client_gets_it_until_the_end() -> None:
    assert await converse(stream_answer, get(version=b"1.0")) == (
        b"HTTP/1.1 200 OK\r\nx: y\r\nconnection: close\r\n\r\nhello world"
    )


async def test_head_and_body_may_leave_in_one_write() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], framing=CHUNKED, body=b"a")
        await exchange.send_body(b"b", end=True)
        assert (exchange.status, exchange.sent, exchange.finished) == (200, 2, True)

    async with connected(answer) as client:
        await client.send_all(get())
        assert (await client.receive_some()).endswith(b"\r\n\r\n1\r\na\r\n")
        assert await client.receive_some() == b"1\r\nb\r\n0\r\n\r\n"
        await client.aclose()


async def test_an_answer_to_head_tells_the_length_and_has_no_body() -> None:
    answers = await converse(echo, get().replace(b"GET", b"HEAD") * 2)

    assert answers == (OK + b"7\r\n\r\n") * 2


@pytest.mark.parametrize("status", [204, 304])
async def test_some_answers_have_no_body(status: int) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(status, [])
        await exchange.send_body(b"dropped")
        await exchange.finish()

    answers = await converse(answer, get() * 2)

    assert answers.count(b"HTTP/1.1 %d " % status) == 2
    assert b"dropped" not in answers
    assert b"transfer-encoding" not in answers


async def test_informational_answers_come_before_the_final_one() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(103, [(b"link", b"</a>")], reason=b"Hints")
        await echo(exchange)

    assert (await converse(answer, get())).startswith(
        b"HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n" + OK
    )
    assert (await converse(answer, get(version=b"1.0"))).startswith(OK)


async def test_a_short_answer_cuts_the_connection() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], framing=of_length(10), body=b"abc")
        with pytest.raises(RemoteProtocolError, match="3 bytes, not 10"):
            await exchange.finish()

    async with connected(answer) as client:
        await client.send_all(get() + get())
        assert await read_all(client) == OK + b"10\r\n\r\nabc"


async def test_nothing_is_sent_beyond_the_length_said() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], framing=of_length(3), body=b"abc")
        await exchange.send_body(b"d")

    assert await converse(answer, get()) == OK + b"3\r\n\r\nabc"


async def test_an_aborted_answer_never_looks_whole() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], body=b"abc")
        exchange.abort()
        with pytest.raises(ClientGone):
            await exchange.finish()

    assert (await converse(answer, get() * 2)).endswith(b"3\r\nabc\r\n")


async def test_an_abort_is_a_reset_on_a_real_socket() -> None:
    """Even where only the end of the connection ends the body (HTTP/1.0)."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], body=b"abc")
        await wait_all_tasks_blocked()
        exchange.abort()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        nursery.start_soon(serve_http1, await listener.accept(), answer)
        async with client:
            await client.send_all(get(version=b"1.0"))
            with pytest.raises(trio.BrokenResourceError):
                await read_all(client)


async def test_a_client_that_reads_nothing_is_cut(autojump_clock: MockClock) -> None:
    """DOS-01: 60 s of standstill, and the time that a piece may take."""

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, [], b"x" * 100_000)

    client, server = memory_stream_pair()

    async def stuck() -> None:
        await trio.sleep_forever()

    server.send_stream.send_all_hook = stuck
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http1, server, answer)
        await client.send_all(get())
    assert 60 < trio.current_time() < 130


# --- failing ---------------------------------------------------------------------------------


async def deny(exchange: Exchange) -> None:
    await trio.lowlevel.checkpoint()
    raise AccessDenied("you may not", reason="secret")


async def test_an_error_on_purpose_is_told() -> None:
    answer_ = await converse(deny, get() * 2)

    assert answer_.count(b"HTTP/1.1 403 Forbidden\r\n") == 2
    assert b"you may not\n" in answer_
    assert b"secret" not in answer_


async def test_an_error_from_a_nursery_is_told_too() -> None:
    async def answer(exchange: Exchange) -> None:
        async with trio.open_nursery():
            raise AccessDenied("you may not")

    async def page(exchange: Exchange, error: TportError) -> None:
        await exchange.respond(error.status, [], b"page")

    answer_ = await converse(answer, get(), on_error=page)

    assert answer_.startswith(b"HTTP/1.1 403 ")
    assert answer_.endswith(b"page")


async def broken(exchange: Exchange) -> None:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError


async def silent(exchange: Exchange) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("handle", [broken, silent])
async def test_a_bug_is_logged_and_a_500(handle: Handle, caplog: pytest.LogCaptureFixture) -> None:
    answer = await converse(handle, get())

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert "ZeroDivision" not in answer.decode()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_bug_in_the_middle_cuts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], body=b"abc")
        raise ZeroDivisionError

    assert (await converse(answer, get() * 2)).endswith(b"3\r\nabc\r\n")
    assert "failed" in caplog.text


async def test_a_page_about_an_error_that_fails_itself_is_a_plain_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def page(exchange: Exchange, error: TportError) -> None:
        await broken(exchange)

    assert b"you may not" in await converse(deny, get(), on_error=page)
    assert "page about an error failed" in caplog.text


async def test_a_cancelled_server_cuts_its_connections() -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http1, server, never)
        await client.send_all(get())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await read_all(client) == b""


async def test_a_handler_learns_that_its_client_has_gone() -> None:
    gone = trio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.wait_closed()
        gone.set()
        await exchange.respond(200, [])

    async with connected(answer) as client:
        await client.send_all(get())
        await wait_all_tasks_blocked()
        assert not gone.is_set()
        await client.aclose()
    assert gone.is_set()


async def test_what_comes_while_one_waits_for_the_end_is_the_next_request(
    autojump_clock: MockClock,
) -> None:
    async def answer(exchange: Exchange) -> None:
        with trio.move_on_after(5):
            await exchange.wait_closed()
        await echo(exchange)

    async with connected(answer) as client:
        await client.send_all(get(b"/1"))
        await wait_all_tasks_blocked()
        await client.send_all(get(b"/2"))
        assert (await read_until(client, b"GET /2 ")).count(b"HTTP/1.1") == 2
        await client.aclose()


# --- upgrades --------------------------------------------------------------------------------


async def upgrade(exchange: Exchange) -> None:
    stream = await exchange.upgrade([(b"sec-websocket-accept", b"x")])
    async with stream:
        while data := await stream.receive_some():
            await stream.send_all(data.upper())


async def test_an_upgrade_hands_over_the_bytes_from_the_first() -> None:
    async with connected(upgrade) as client:
        await client.send_all(HANDSHAKE + b"early ")

        head = await read_until(client, b"EARLY ")
        await client.send_all(get())
        assert await read_until(client, b"\r\n\r\n") == get().upper()
        await client.aclose()
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n"
        b"connection: upgrade\r\nupgrade: websocket\r\n\r\nEARLY "
    )


async def test_bytes_after_a_refused_upgrade_are_no_request(autojump_clock: MockClock) -> None:
    """HTTP-09."""
    seen = []

    async def answer(exchange: Exchange) -> None:
        seen.append(exchange.request.target)
        await exchange.respond(426, [])

    async with connected(answer) as client:
        await client.send_all(HANDSHAKE + get(b"/admin"))
        answer_ = await read_all(client)

    assert (
        answer_
        == b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    assert seen == [b"/chat"]


async def test_an_open_websocket_may_be_silent_for_hours(autojump_clock: MockClock) -> None:
    async with connected(upgrade) as client:
        await client.send_all(HANDSHAKE)
        await read_until(client, b"\r\n\r\n")
        await trio.sleep(10_000)
        await client.send_all(b"a")
        assert await client.receive_some() == b"A"
        await client.aclose()


# --- under TLS -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server `a.test` and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("transports", [memory_stream_pair, pair])
async def test_only_a_whole_answer_ends_with_a_tls_goodbye(
    whole: bool,
    transports: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]],
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """So that an old client knows a cut answer; and a new one keeps its tickets."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(200, [], body=b"abc")
        if whole:
            await exchange.finish()
        else:
            exchange.abort()

    near, far = transports()
    server = TlsStream(near, contexts[0], server_side=True)
    client = TlsStream(far, contexts[1], server_side=False, server_name="a.test")

    async def serve() -> None:
        await server.do_handshake()
        await serve_http1(server, answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await client.do_handshake()
        await client.send_all(get(version=b"1.0"))
        if whole:
            assert (await read_all(client)).endswith(b"\r\n\r\nabc")
        else:
            with pytest.raises(trio.BrokenResourceError):
                await read_all(client)
        await client.aclose()


async def test_an_answer_is_whole_once_all_its_bytes_are_sent_before_it_is_finished() -> None:
    """Clients hang up as soon as they have them."""
    seen: list[bool] = []

    async def handle(exchange: Exchange) -> None:
        seen.append(exchange.is_whole)
        await exchange.send_head(200, [], framing=of_length(4))
        seen.append(exchange.is_whole)
        await exchange.send_body(b"ha")
        seen.append(exchange.is_whole)
        await exchange.send_body(b"lf")
        seen.append(exchange.is_whole)
        await exchange.finish()

    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http1, theirs, handle)
        await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while await ours.receive_some():
            pass

    assert seen == [False, False, False, True]
