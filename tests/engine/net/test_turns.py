"""What takes no waiting is answered without a task, and by no other rules than the rest."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.engine.net.http1_peers import echo, get, post, read_all, read_until
from tests.engine.net.test_tcp import pair
from tport.engine.net.http1 import Drain, Exchange, Limits, Work, open_http1, serve_http1
from tport.engine.net.tcp import TcpStream
from tport.engine.net.turns import Turns
from tport.engine.proto.framing import of_length

LONG = b"x" * 60_000


def answer(exchange: Exchange, body: bytes) -> None:
    exchange.answer_nowait(200, [], reason=b"", framing=of_length(len(body)), body=body)


class Server:
    """Takes what it is asked for, and notes how each request was answered.

    Attributes:
        taken: targets that were taken without a task.
        handled: targets that a task was given, from the start or later.
        waiting: what was taken and is not answered yet: `/later…`.
        came: set once something is taken.
        gone: set once a client went meanwhile.
    """

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.handled: list[bytes] = []
        self.waiting: list[tuple[Exchange, Turns]] = []
        self.came = trio.Event()
        self.gone = trio.Event()

    def take(self, exchange: Exchange, turns: Turns) -> bool:
        target = exchange.request.target
        if target.startswith(b"/slow"):
            return False
        if target == b"/bug":
            raise RuntimeError("a bug, put there by a test")
        self.taken.append(target)
        self.waiting.append((exchange, turns))
        self.came.set()
        turns.on_gone = self._gone
        trio.lowlevel.spawn_system_task(self._answer_soon)
        return True

    async def _answer_soon(self) -> None:
        """Stands for the tunnel's reader: the answer comes from another task."""
        await trio.lowlevel.checkpoint()
        self.answer_next()

    def answer_next(self) -> None:
        if not self.waiting or self.waiting[0][0].request.target.startswith(b"/later"):
            return
        exchange, turns = self.waiting.pop(0)
        answer(exchange, LONG if exchange.request.target == b"/long" else b"now")
        turns.done()

    def _gone(self) -> None:
        self.gone.set()
        self.waiting.clear()

    async def handle(self, exchange: Exchange) -> None:
        self.handled.append(exchange.request.target)
        await exchange.respond(200, [], b"by a task")


def tasks_of(nursery: trio.Nursery, stream: TcpStream) -> Callable[[Work], None]:
    """Stands for the owner of a connection: runs what needs a task, and closes what is over."""

    async def run(work: Work) -> None:
        if not await work():
            stream.close()

    return lambda work: nursery.start_soon(run, work)


@asynccontextmanager
async def connected(
    server: Server, *, limits: Limits = Limits(), drain: Drain | None = None
) -> AsyncIterator[TcpStream]:
    ours, theirs = pair()
    with trio.fail_after(20):
        async with ours, theirs, trio.open_nursery() as nursery:
            end = open_http1(
                theirs,
                server.handle,
                server.take,
                by_task=tasks_of(nursery, theirs),
                closed=theirs.close,
                limits=limits,
                drain=drain,
            )
            yield ours
            end()
            nursery.cancel_scope.cancel()


async def test_what_is_taken_is_answered_in_turn_and_no_task_is_asked() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/1") + get(b"/2") + get(b"/3"))
        said = b""
        while said.count(b"now") < 3:
            said += await client.receive_some()

    assert server.taken == [b"/1", b"/2", b"/3"]
    assert server.handled == []


@pytest.mark.parametrize(
    "request_",
    [get(b"/slow"), post(b"abc", b"Content-Length: 3"), get(b"/1", b"Host: again")],
    ids=["not-taken", "body", "bad"],
)
async def test_what_takes_waiting_is_left_to_the_task_and_then_others_are_taken_again(
    request_: bytes,
) -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/1"))
        await read_until(client, b"now")
        await client.send_all(request_)
        said = await client.receive_some()
        is_good = said.startswith(b"HTTP/1.1 200")
        if is_good:
            assert said.endswith(b"by a task")
            await client.send_all(get(b"/2"))
            await read_until(client, b"now")

    assert server.taken[0] == b"/1"
    assert server.taken[1:] == ([b"/2"] if is_good else [])


async def test_a_request_in_pieces_is_answered_like_one_that_comes_whole() -> None:
    server = Server()
    async with connected(server) as client:
        for at in range(1, len(get(b"/1"))):
            await client.send_all(get(b"/1")[:at])
            await wait_all_tasks_blocked(0.001)
            await client.send_all(get(b"/1")[at:])
            await read_until(client, b"by a task")
            await client.send_all(get(b"/2"))
            await read_until(client, b"now")

    assert set(server.handled) == {b"/1"}
    assert set(server.taken) == {b"/2"}


async def test_a_bug_while_taking_is_a_500_and_never_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(Server()) as client:
        await client.send_all(get(b"/bug"))
        assert (await client.receive_some()).startswith(b"HTTP/1.1 500 ")
    assert "a bug, put there by a test" in caplog.text


async def test_who_takes_may_leave_the_answer_to_the_task() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/later"))
        await wait_all_tasks_blocked(0.001)
        _, turns = server.waiting.pop()
        turns.wait(server.handle)
        await read_until(client, b"by a task")
        await client.send_all(get(b"/1"))
        await read_until(client, b"now")

    assert server.handled == [b"/later"]


async def test_a_request_left_to_a_task_that_is_cancelled_in_the_same_pass_is_heard_of_by_its_handler() -> (
    None
):
    """Nobody else would end it: it would go on in its tunnel, for an answer that nobody reads."""
    server = Server()
    ours, theirs = pair()
    with trio.fail_after(20):
        async with ours, theirs, trio.open_nursery() as nursery:
            by_task = tasks_of(nursery, theirs)
            open_http1(theirs, server.handle, server.take, by_task=by_task, closed=theirs.close)
            await ours.send_all(get(b"/later"))
            await server.came.wait()
            _, turns = server.waiting[0]
            nursery.cancel_scope.cancel()
            turns.wait(server.handle)

    assert server.handled == [b"/later"]


async def test_a_request_whose_connection_is_ended_meanwhile_is_left_by_its_taker() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/later"))
        await server.came.wait()

    assert server.gone.is_set()


async def test_a_bug_of_who_took_a_request_leaves_no_connection_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/later"))
        await server.came.wait()
        [(_, turns)] = server.waiting
        turns.on_gone = Mistake().made
        turns.abandon()
        turns.abandon()
        assert not turns.is_on
    assert "given up" in caplog.text


class Mistake:
    def made(self) -> None:
        raise RuntimeError("a bug, put there by a test")


async def test_who_breaks_the_connection_is_noticed_at_once() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/later"))
        await server.came.wait()
        linger = struct.pack("ii", 1, 0)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await client.aclose()
        await server.gone.wait()


async def test_who_sends_no_more_still_gets_the_answer_to_what_it_asked() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/later"))
        await client.send_eof()
        await server.came.wait()
        exchange, turns = server.waiting.pop()
        answer(exchange, b"after all")
        turns.done()
        assert (await read_all(client)).endswith(b"after all")


async def test_what_the_client_has_no_room_for_arrives_before_what_follows() -> None:
    server = Server()
    asked = 200  # 12 MB: more than any socket's buffers
    async with connected(server) as client:
        await client.send_all(get(b"/long") * asked + get(b"/1"))
        got = bytearray()
        while not got.endswith(b"now"):
            got += await client.receive_some()

    assert got.count(b"x") == asked * len(LONG)


async def test_what_is_read_ahead_of_an_answer_is_bounded() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/later"))
        with trio.move_on_after(1) as sending:
            for _ in range(1000):  # 33 MB: more than any socket's buffers
                await client.send_all(get(b"/1") * 1000)
        assert sending.cancelled_caught, "the client could send on and on"


async def test_an_idle_connection_ends_after_its_last_request() -> None:
    server = Server()
    async with connected(server, limits=Limits(idle=0.05)) as client:
        await client.send_all(get(b"/1"))
        assert (await read_all(client)).endswith(b"now")


async def test_a_service_that_stops_ends_idle_connections_and_lets_answers_go_out() -> None:
    server, drain = Server(), Drain()
    async with connected(server, drain=drain) as busy, connected(server, drain=drain) as idle:
        await busy.send_all(get(b"/later"))
        await server.came.wait()
        drain.begin()
        assert await read_all(idle) == b""
        exchange, turns = server.waiting.pop()
        answer(exchange, b"last")
        turns.done()
        said = await read_all(busy)

    assert b"connection: close\r\n" in said
    assert said.endswith(b"last")


async def test_who_has_just_connected_may_ask_once_while_a_service_stops_patiently() -> None:
    """R-02: no browser repeats what is refused on a connection just made. Who has asked before is ended."""
    server, drain = Server(), Drain()
    async with (
        connected(server, drain=drain) as new,
        connected(server, drain=drain) as silent,
        connected(server, drain=drain) as resting,
    ):
        await resting.send_all(get(b"/1"))
        await read_until(resting, b"now")
        drain.begin(patiently=True)
        assert await read_all(resting) == b""
        async with connected(server, drain=drain) as late:
            for each in (new, late):
                await each.send_all(get(b"/2"))
                said = await read_all(each)
                assert b"connection: close\r\n" in said
                assert said.endswith(b"now")
            await wait_all_tasks_blocked()
            assert silent.receive_nowait() is None
            drain.lose_patience()
            assert await read_all(silent) == b""


async def test_a_client_that_wants_one_answer_gets_one() -> None:
    server = Server()
    async with connected(server) as client:
        await client.send_all(get(b"/1", b"Connection: close") + get(b"/never"))
        said = await read_all(client)

    assert b"connection: close\r\n" in said
    assert server.taken == [b"/1"]


# --- The same bytes, whoever carries them ------------------------------------------------------------

_PARTS = [
    get(b"/1"),
    get(b"/2", b"Connection: close"),
    get(b"/3", version=b"1.0"),
    get(b"/4", b"Host: two"),
    post(b"abc", b"Content-Length: 3"),
    post(b"3\r\nabc\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    b"\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"nonsense\r\n\r\n",
]


async def _said(sent: bytes, *, by_task: bool) -> bytes:
    def take(exchange: Exchange, turns: Turns) -> bool:
        request = exchange.request
        if request.method != b"GET":
            return False
        body = b"GET %b " % request.target
        answer(exchange, body)
        trio.lowlevel.current_trio_token().run_sync_soon(turns.done)
        return True

    said = b""
    ours, theirs = pair()
    with trio.fail_after(20):
        async with ours, trio.open_nursery() as nursery:
            if by_task:
                nursery.start_soon(serve_http1, theirs, echo)
            else:
                open_http1(
                    theirs, echo, take, by_task=tasks_of(nursery, theirs), closed=theirs.close
                )
            await ours.send_all(sent)
            await ours.send_eof()
            said = await read_all(ours)
    return said


@given(st.lists(st.sampled_from(_PARTS), max_size=6))
def test_a_conversation_is_the_same_to_the_byte_with_a_task_and_without(parts: list[bytes]) -> None:
    sent = b"".join(parts)

    without = trio.run(partial(_said, sent, by_task=False))

    assert without == trio.run(partial(_said, sent, by_task=True))
