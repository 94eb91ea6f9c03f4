"""The channel between two processes: whole messages, connections along with them, and its end."""

from __future__ import annotations

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.workers.channel import Channel, channel_pair
from tport.engine.workers.messages import (
    MAX_MESSAGE,
    Alive,
    Arrived,
    Ask,
    HandOver,
    Reload,
    Serving,
    pack,
)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    a, b = map(Channel, channel_pair())
    yield a, b
    a.close()
    b.close()


@pytest.fixture
async def raw() -> AsyncIterator[tuple[socket.socket, Channel]]:
    """An end on which anything can be sent, and the other as a channel."""
    a, b = channel_pair()
    channel = Channel(b)
    yield a, channel
    a.close()
    channel.close()


async def test_messages_come_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    a, b = ends
    large = Arrived("192.0.2.1", bytes(32 * 1024))
    await a.send(Serving())
    await a.send(large)
    await b.send(Reload())

    assert await b.receive() == (Serving(), None)
    assert await b.receive() == (large, None)
    assert await a.receive() == (Reload(), None)


async def test_a_connection_goes_along_and_the_senders_copy_is_its_own(
    ends: tuple[Channel, Channel],
) -> None:
    a, b = ends
    near, far = socket.socketpair()
    with near:
        with far:
            await a.send(HandOver("id", "192.0.2.1", b"hello"), far)
        message, carried = await b.receive()
        assert message == HandOver("id", "192.0.2.1", b"hello")
        assert carried is not None
        with carried:
            assert not carried.get_inheritable()
            near.sendall(b"still there")
            assert carried.recv(100) == b"still there"
        assert near.recv(100) == b""


async def test_the_end_of_the_other_side_is_seen_by_who_reads_and_who_sends(
    ends: tuple[Channel, Channel],
) -> None:
    a, b = ends
    await a.send(Alive())
    a.close()

    assert await b.receive() == (Alive(), None)
    with pytest.raises(ConnectionProblem):
        await b.receive()
    with pytest.raises(ConnectionProblem):
        await b.send(Alive())


async def test_a_message_that_is_too_long_costs_itself_and_not_the_channel(
    ends: tuple[Channel, Channel],
) -> None:
    a, b = ends
    with pytest.raises(ConnectionProblem, match="at most"):
        await a.send(Arrived("192.0.2.1", bytes(MAX_MESSAGE)))
    await a.send(Alive())

    assert await b.receive() == (Alive(), None)


async def test_who_does_not_read_is_not_waited_for_for_ever(
    autojump_clock: MockClock, ends: tuple[Channel, Channel]
) -> None:
    a, _ = ends

    async def send_for_ever() -> None:
        while True:
            await a.send(Arrived("", bytes(16 * 1024)))

    with trio.fail_after(60), pytest.raises(ConnectionProblem, match="did not read"):
        await send_for_ever()


async def test_the_connection_that_goes_along_is_the_one_meant_though_it_was_closed_meanwhile() -> (
    None
):
    """A file's number is soon another's: somebody else's connection must not go in its place."""
    end, other_end = channel_pair()
    here, there = Channel(end), Channel(other_end)
    meant, its_client = socket.socketpair()
    number = meant.fileno()
    with its_client:
        its_client.send(b"meant")
        with suppress(BlockingIOError):
            while True:  # until there is no more room
                end.send(pack(Alive()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.send, Ask(), meant)
            await wait_all_tasks_blocked()
            meant.close()
            other, others_client = socket.socketpair()
            with other, others_client:
                assert number in {other.fileno(), others_client.fileno()}
                while (message := await there.receive())[0] == Alive():
                    pass
                assert message[1] is not None
                with message[1] as carried:
                    carried.setblocking(False)
                    assert carried.recv(100) == b"meant"
    here.close()
    there.close()


async def test_a_connection_that_was_closed_before_goes_nowhere(
    ends: tuple[Channel, Channel],
) -> None:
    here, _ = ends
    gone, client = socket.socketpair()
    gone.close()
    with client, pytest.raises(ConnectionProblem, match="can't go along"):
        await here.send(Ask(), gone)


async def test_what_is_no_message_is_refused_and_what_came_with_it_closed(
    raw: tuple[socket.socket, Channel],
) -> None:
    end, channel = raw
    near, far = socket.socketpair()
    with near:
        with far:
            socket.send_fds(end, [b"nonsense"], [far.fileno(), far.fileno()])
        with pytest.raises(RemoteProtocolError):
            await channel.receive()
        assert near.recv(1) == b""

    end.send(bytes(MAX_MESSAGE + 1))
    with pytest.raises(RemoteProtocolError, match="over"):
        await channel.receive()


async def test_of_several_connections_the_first_counts(
    raw: tuple[socket.socket, Channel],
) -> None:
    end, channel = raw
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    with a, c:
        with b, d:
            socket.send_fds(end, [pack(Ask())], [b.fileno(), d.fileno()])
        _, carried = await channel.receive()
        assert carried is not None
        with carried:
            a.sendall(b"x")
            assert carried.recv(1) == b"x"
        assert c.recv(1) == b"", "the other one is closed"


async def test_a_process_that_may_open_no_more_files_loses_the_connection_not_the_message(
    ends: tuple[Channel, Channel],
) -> None:
    a, b = ends
    near, far = socket.socketpair()
    with near, far:
        await a.send(Ask(), far)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (far.fileno(), hard))
        try:
            message, carried = await b.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (message, carried) == (Ask(), None)
