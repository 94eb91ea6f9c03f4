import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from tests.engine.net.http1_peers import MemoryStream, connected, echo, read_until
from tests.engine.net.test_tcp import pair
from tests.engine.net.test_tls_stream import over
from tport.engine.defaults import READ_SIZE
from tport.engine.errors import RemoteProtocolError
from tport.engine.net.http1 import Exchange
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.proto.framing import CHUNKED, NO_BODY, of_length
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.websocket import accept_key

HOST = (b"host", b"app.test")
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


@asynccontextmanager
async def asked(
    answer: bytes, *, method: bytes = b"GET", upgrade: bytes = b""
) -> AsyncIterator[tuple[ClientConnection, MemoryStream]]:
    """A connection that has sent a request to a peer who has sent `answer`, and that peer."""
    stream, peer = memory_stream_pair()
    connection = ClientConnection(stream)
    headers = [HOST, (b"sec-websocket-key", KEY)] if upgrade else [HOST]
    await connection.send_head(method, b"/", headers, NO_BODY, upgrade=upgrade)
    await peer.send_all(answer)
    yield connection, peer


async def read_body(connection: ClientConnection) -> bytes:
    body = b""
    while data := await connection.receive_body():
        body += data
    return body


async def test_requests_follow_one_another() -> None:
    """Against our own server: bodies of each framing, up and down."""
    async with connected(echo) as stream:
        connection = ClientConnection(stream)
        for framing in (of_length(6), CHUNKED):
            await connection.send_head(b"PUT", b"/a", [HOST], framing, body=b"abc")
            await connection.send_body(b"def")
            await connection.end_body()
            head = await connection.receive_head()

            assert (head.status, await read_body(connection)) == (200, b"PUT /a abcdef")
            assert connection.reusable
            assert connection.answer_begun
        await connection.send_head(b"GET", b"/b", [HOST], NO_BODY, keep_alive=False)
        assert (await connection.receive_head()).keep_alive is False
        assert await read_body(connection) == b"GET /b "
        assert not connection.reusable
        await connection.aclose()


async def test_an_answer_may_come_while_the_body_is_being_sent() -> None:
    stream, peer = memory_stream_pair()
    connection = ClientConnection(stream)
    await connection.send_head(b"PUT", b"/", [HOST], of_length(100), body=b"x")
    await peer.send_all(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")

    assert (await connection.receive_head()).status == 413
    assert await read_body(connection) == b"no"
    assert not connection.reusable  # its own body is still owed


async def test_an_answer_of_unknown_length_lasts_until_the_end() -> None:
    async with asked(b"HTTP/1.1 200 OK\r\n\r\nabc") as (connection, peer):
        await connection.receive_head()
        await peer.send_eof()
        assert await read_body(connection) == b"abc"
        assert not connection.reusable


async def test_tiny_chunks_of_an_event_stream_are_welcome() -> None:
    chunks = b"1\r\nx\r\n" * 2000
    async with asked(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks) as (
        connection,
        _,
    ):
        await connection.receive_head()
        assert await connection.receive_body() == b"x" * 2000


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", UpstreamGone),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", UpstreamGone),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", RemoteProtocolError),
    ],
)
async def test_half_an_answer_is_never_taken_for_a_whole_one(
    answer: bytes, error: type[Exception]
) -> None:
    async with asked(answer) as (connection, peer):
        await peer.send_eof()
        with pytest.raises(error):
            await _whole(connection)
        assert connection.answer_begun is (answer != b"")
        assert not connection.reusable


async def _whole(connection: ClientConnection) -> bytes:
    await connection.receive_head()
    return await read_body(connection)


async def test_informational_answers_are_delivered_and_counted() -> None:
    """HTTP-16: eight, and not 10,000."""
    hint = b"HTTP/1.1 103 Hint\r\nLink: x\r\n\r\n"
    async with asked(hint * 8 + b"HTTP/1.1 204 No\r\n\r\n" + hint * 9) as (connection, _):
        heads = [await connection.receive_head() for _ in range(9)]

        assert [head.status for head in heads] == [103] * 8 + [204]
        assert await read_body(connection) == b""
        assert not connection.reusable  # more came than was asked for

    async with asked(hint * 9) as (connection, _):
        for _ in range(8):
            await connection.receive_head()
        with pytest.raises(BadHead, match="more than 8"):
            await connection.receive_head()


@pytest.mark.parametrize(
    ("answer", "method"),
    [
        (b"HTTP/1.1 204 No\r\n\r\nbody", b"GET"),
        (b"HTTP/1.1 304 No\r\nContent-Length: 4\r\n\r\nbody", b"GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", b"HEAD"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\n", b"GET"),
    ],
)
async def test_a_connection_with_bytes_nobody_asked_for_is_not_kept(
    answer: bytes, method: bytes
) -> None:
    """HTTP-16: an answer that follows by itself would go to the next person's request."""
    async with asked(answer, method=method) as (connection, _):
        assert await _whole(connection) == (
            b"body" if method == b"GET" and b"200" in answer else b""
        )
        assert not connection.reusable


def switch(key: bytes) -> bytes:
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
    )


async def test_a_websocket_is_handed_over_with_what_came_early() -> None:
    async with asked(switch(KEY) + b"early", upgrade=b"websocket") as (connection, peer):
        request = await read_until(peer, b"\r\n\r\n")
        assert b"connection: upgrade\r\nupgrade: websocket\r\n" in request

        head = await connection.receive_head()
        stream, leftover = connection.detach()

        assert (head.status, head.upgrade, leftover) == (101, b"websocket", b"early")
        assert not connection.reusable
        await peer.send_all(b"more")
        assert await stream.receive_some() == b"more"


async def test_a_switch_to_another_s_handshake_is_refused() -> None:
    """HTTP-09."""
    async with asked(switch(b"AAAAAAAAAAAAAAAAAAAAAA=="), upgrade=b"websocket") as (c, _):
        with pytest.raises(BadHead, match="another WebSocket handshake") as refused:
            await c.receive_head()
    assert refused.value.status == 502


async def test_a_switch_that_nobody_asked_for_is_refused() -> None:
    """HTTP-09, HTTP-16."""
    async with asked(switch(KEY)) as (connection, _):
        with pytest.raises(BadHead, match="unasked"):
            await connection.receive_head()


async def test_a_request_keeps_to_its_length() -> None:
    stream, _ = memory_stream_pair()
    connection = ClientConnection(stream)
    await connection.send_head(b"PUT", b"/", [HOST], of_length(3), body=b"ab")
    with pytest.raises(RemoteProtocolError, match="1 bytes of the request are missing"):
        await connection.end_body()
    with pytest.raises(RemoteProtocolError, match="longer"):
        await connection.send_body(b"cd")


async def test_a_kept_connection_that_stirs_is_noticed() -> None:
    """Whether bytes came or its end: neither may meet the next request."""
    for last_words in (b"HTTP/1.1 408 Timeout\r\n\r\n", b""):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            stream = await trio.testing.open_stream_to_socket_listener(listener)
            peer = await listener.accept()
            async with stream, peer:
                connection = ClientConnection(stream)
                assert not connection.has_stirred()
                await (peer.send_all(last_words) if last_words else peer.send_eof())
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(stream.socket)
                assert connection.has_stirred()


OWN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
RECORD = 16 * 1024  # bytes, of TLS
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


async def test_what_came_but_was_not_told_yet_is_noticed_before_a_connection_is_used_again() -> (
    None
):
    """HTTP-16: in the same pass as the next request; it would be taken for that one's answer."""
    ours, application = pair()
    async with ours, application:
        connection = ClientConnection(ours)
        assert connection.ask_nowait(b"GET", b"/", [HOST])
        await application.send_all(OWN)
        await wait_all_tasks_blocked(0.001)
        assert connection.head_nowait()
        assert connection.body_here() == b"hi"
        assert connection.reusable
        before = connection.has_stirred()
        application.socket.send(POISON)  # and nothing that runs has heard of it

        assert (before, connection.has_stirred()) == (False, True)


@pytest.mark.parametrize("more", ["goodbye", "answer"])
async def test_in_tls_too_a_connection_on_which_more_came_is_not_used_again(more: str) -> None:
    """HTTP-16: what was read with the answer's last record stirs no socket any more."""
    ours, application = await over(pair(), ragged_end=True)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    size = READ_SIZE - len(head % 10_000)  # so that a read ends where the answer does
    answer = head % size + bytes(size)
    async with ours, application:
        connection = ClientConnection(ours)
        await connection.send_head(b"GET", b"/", [HOST], NO_BODY)
        for start in range(0, READ_SIZE, RECORD):
            application._tls.write(answer[start : start + RECORD])
        sent = application._outgoing.read()
        if more == "goodbye":
            with suppress(ssl.SSLWantReadError):
                application._tls.unwrap()
        else:
            application._tls.write(POISON)
        await application.transport.send_all(sent + application._outgoing.read())
        await wait_all_tasks_blocked(0.001)
        assert (await connection.receive_head()).status == 200
        assert len(await read_body(connection)) == size

        usable = connection.reusable
        assert not usable or connection.has_stirred()
        assert not (usable and not connection.has_stirred())


async def test_a_write_to_a_closed_application_is_told() -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.abort()
        await trio.lowlevel.checkpoint()

    async with connected(hang_up) as stream:
        connection = ClientConnection(stream)
        await connection.send_head(b"PUT", b"/", [HOST], CHUNKED)
        await wait_all_tasks_blocked()
        with pytest.raises(UpstreamGone):
            await connection.send_body(b"x")
        with pytest.raises(UpstreamGone, match="without an answer"):
            await connection.receive_head()


async def test_without_a_task_a_head_is_taken_once_all_of_it_is_here_and_is_the_final_one() -> None:
    ours, application = pair()
    async with ours, application:
        connection = ClientConnection(ours)
        assert connection.ask_nowait(b"GET", b"/", [(b"host", b"a")])
        assert (await application.receive_some()).startswith(b"GET / HTTP/1.1\r\n")
        assert connection.head_nowait() is None
        await application.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-")
        await wait_all_tasks_blocked(0.001)
        assert connection.head_nowait() is None, "who can wait passes it on"
        assert connection.answer_begun
        assert (await connection.receive_head()).status == 103
        assert connection.head_nowait() is None
        await application.send_all(b"Length: 2\r\n\r\nhi")
        await wait_all_tasks_blocked(0.001)
        head = connection.head_nowait()

        assert head is not None
        assert head.status == 200
        assert connection.body_here() == b"hi"
        assert connection.reusable
        assert not connection.has_stirred()


async def test_without_a_task_an_end_instead_of_an_answer_is_found_by_who_waits() -> None:
    ours, application = pair()
    async with ours:
        connection = ClientConnection(ours)
        assert connection.ask_nowait(b"GET", b"/", [(b"host", b"a")])
        await application.aclose()
        await wait_all_tasks_blocked(0.001)

        assert connection.head_nowait() is None
        assert connection.has_stirred()
        with pytest.raises(UpstreamGone):
            await connection.receive_head()
