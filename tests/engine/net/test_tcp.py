"""TCP without a detour keeps a stream's promises, and lets others run."""

import socket
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tport.engine.net.sockets import is_readable
from tport.engine.net.tcp import STREAK, TcpStream, direct

BULK = bytes(range(256)) * 40_000  # 10 MB: more than any socket's buffers


def pair() -> tuple[TcpStream, TcpStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return TcpStream(ours), TcpStream(theirs)


async def test_bytes_arrive_as_they_were_sent_both_ways_at_once() -> None:
    a, b = pair()
    got = {a: bytearray(), b: bytearray()}

    async def send(stream: TcpStream) -> None:
        await stream.send_all(memoryview(BULK))
        await stream.send_eof()

    async def receive(stream: TcpStream) -> None:
        while data := await stream.receive_some():
            got[stream] += data

    async with a, b, trio.open_nursery() as nursery:
        for stream in (a, b):
            nursery.start_soon(send, stream)
            nursery.start_soon(receive, stream)

    assert got == {a: BULK, b: BULK}


async def test_who_never_has_to_wait_lets_others_run_nevertheless() -> None:
    a, b = pair()
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            await trio.lowlevel.checkpoint()
            ran += 1

    async with a, b, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        before = ran
        for _ in range(10 * STREAK):
            await a.send_all(b"x")
            assert await b.receive_some() == b"x"
        nursery.cancel_scope.cancel()

    assert ran - before >= 10


async def test_a_limit_is_kept_and_must_be_one() -> None:
    a, b = pair()
    async with a, b:
        await a.send_all(b"hello")
        assert await b.receive_some(2) == b"he"
        assert await b.receive_some(100) == b"llo"
        with pytest.raises(ValueError, match=">= 1"):
            await b.receive_some(0)


async def test_a_reset_is_a_break_for_who_receives_and_who_sends() -> None:
    a, b = pair()
    async with b:
        a.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await a.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await b.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await b.send_all(BULK)


async def test_a_reset_that_a_sender_was_told_of_is_no_clean_end_for_who_reads() -> None:
    """The kernel says it once: an answer that was cut would be taken for whole."""
    a, b = pair()
    async with b:
        a.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await a.aclose()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            b.send_nowait(b"x")
        with pytest.raises(trio.BrokenResourceError):
            b.receive_nowait()


async def test_closing_wakes_who_waits_and_closed_is_closed() -> None:
    a, b = pair()
    async with b, trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await a.receive_some()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await a.aclose()
        await a.aclose()
        for use in (a.receive_some(), a.send_all(b"x"), a.send_eof()):
            with pytest.raises(trio.ClosedResourceError):
                await use


async def test_who_is_cancelled_loses_nothing() -> None:
    a, b = pair()
    async with a, b:
        with trio.move_on_after(0.01):
            await b.receive_some()
        await a.send_all(b"later")
        with trio.CancelScope() as scope:
            scope.cancel()
            await b.receive_some()
        assert scope.cancelled_caught
        assert await b.receive_some() == b"later"


async def test_a_stream_of_trios_is_taken_over_with_what_is_in_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = await trio.open_tcp_stream(*listener.getsockname())
        conn, _ = listener.accept()
        with conn:
            conn.send(b"before")
            async with direct(theirs) as stream:
                assert await stream.receive_some() == b"before"
                assert not is_readable(stream)
                conn.send(b"after")
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(stream.socket)
                assert is_readable(stream)
                assert await stream.receive_some() == b"after"


async def test_of_a_connection_that_another_process_has_nobody_is_told_here() -> None:
    """Closing our copy does not end its registration; its number is soon another's."""
    far, given = pair()
    copy = given.socket.dup()  # as another process would have it
    number = given.socket.fileno()
    given.disown()
    given.close()
    a, b = socket.socketpair()
    assert a.fileno() == number
    told: list[int] = []
    with copy, b:
        async with far, TcpStream(a) as next_one:
            await wait_all_tasks_blocked()
            next_one.on_arrival = lambda: told.append(1)
            await far.send_all(b"for the other process")
            await wait_all_tasks_blocked(0.01)
            assert told == []
            assert copy.recv(100) == b"for the other process"

            b.sendall(b"for us")
            await wait_all_tasks_blocked(0.01)
            assert told == [1]


async def test_what_was_closed_while_it_was_given_away_is_no_error_to_disown() -> None:
    far, given = pair()
    given.close()
    given.disown()
    given.close()

    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        await given.send_all(b"x")
    assert await far.receive_some() == b""
    far.close()
