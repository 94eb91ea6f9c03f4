"""Streams of a tunnel that are used by plain calls, without a task."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import (
    wait_all_tasks_blocked,
)

from tests.engine.net.mux_pairs import (
    tunnel,
)
from tport.engine.defaults import INITIAL_WINDOW, READ_SIZE
from tport.engine.net.flow import Flow
from tport.engine.net.mux_stream import MuxStream


async def test_who_needs_no_task_is_told_of_what_came_together_once_and_of_each_end() -> None:
    async with tunnel() as (proxy, agent):
        told: list[tuple[bytes, bool, bool]] = []

        def take(stream: MuxStream) -> None:
            def arrived() -> None:
                came = b"" if stream.is_cut else stream.receive_nowait() or b""
                told.append((came, stream.at_end, stream.is_cut))

            stream.on_arrival = arrived
            arrived()

        agent.take_streams(take)
        assert proxy.open_stream().send_last_nowait(b"all of it")
        await wait_all_tasks_blocked()
        cut = proxy.open_stream()
        await cut.send_all(b"some")
        await wait_all_tasks_blocked()
        cut.reset()
        await wait_all_tasks_blocked()

        assert told == [(b"all of it", True, False), (b"some", False, False), (b"", False, True)]


async def test_streams_that_came_before_are_given_to_who_takes_them() -> None:
    async with tunnel() as (proxy, agent):
        for name in (b"1", b"2"):
            assert proxy.open_stream().send_last_nowait(name)
        await wait_all_tasks_blocked()
        taken: list[bytes] = []
        agent.take_streams(lambda stream: taken.append(stream.receive_nowait() or b""))

        assert taken == [b"1", b"2"]


async def test_a_bug_with_one_stream_ends_that_one_and_not_its_tunnel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tunnel() as (proxy, agent):

        def take(stream: MuxStream) -> None:
            stream.on_arrival = None
            if stream.receive_nowait() == b"bug":
                raise RuntimeError("a bug, put there by a test")
            stream.send_last_nowait(b"answer")

        agent.take_streams(take)
        bad, good = proxy.open_stream(), proxy.open_stream()
        assert bad.send_last_nowait(b"bug")
        assert good.send_last_nowait(b"fine")

        assert await good.receive_some() == b"answer"
        with pytest.raises(trio.BrokenResourceError):
            await bad.receive_some()
        assert not agent.closed
    assert "a bug, put there by a test" in caplog.text


async def test_what_has_no_room_is_not_begun() -> None:
    async with tunnel() as (proxy, agent):
        stream = proxy.open_stream()
        assert not stream.send_last_nowait(b"x" * (INITIAL_WINDOW + 1))
        assert stream.send_last_nowait(b"x")

        got = await agent.accept()
        assert await got.receive_some() == b"x"
        assert await got.receive_some() == b""


async def test_what_has_no_room_is_kept_and_leaves_first_as_room_comes() -> None:
    async with tunnel() as (proxy, agent):
        stream = proxy.open_stream()
        told = [False]

        def go_on() -> None:
            told.append(stream.send_nowait(b""))

        stream.on_room = go_on
        assert not stream.send_nowait(b"x" * (INITIAL_WINDOW + 1))
        assert not stream.send_nowait(b"y")
        received = b""
        async with await agent.accept() as got:
            while len(received) < INITIAL_WINDOW + 2:
                received += await got.receive_some()
        assert told[-1]
        stream.on_room = None
        assert received == b"x" * (INITIAL_WINDOW + 1) + b"y"


@pytest.mark.parametrize("by_task", [False, True])
async def test_an_end_does_not_overtake_what_is_kept(by_task: bool) -> None:
    """A task waits for it; who closes at once has cut it."""
    async with tunnel() as (proxy, agent), trio.open_nursery() as nursery:
        stream = proxy.open_stream()
        assert not stream.send_nowait(b"x" * (INITIAL_WINDOW + 1))
        await wait_all_tasks_blocked()
        if by_task:
            nursery.start_soon(stream.send_eof)
        else:
            stream.close()
        got = await agent.accept()
        received = 0
        try:
            while data := await got.receive_some():
                received += len(data)
        except trio.BrokenResourceError:
            received = -1
        assert received == (INITIAL_WINDOW + 1 if by_task else -1)


async def test_a_flow_into_a_tunnel_holds_no_more_than_the_window_and_a_piece() -> None:
    """The peer reads nothing: of an endless source no more is taken than that."""

    class Endless:
        on_arrival: Callable[[], None] | None = None
        given = 0

        def receive_nowait(self) -> bytes:
            self.given += READ_SIZE
            return bytes(READ_SIZE)

    async with tunnel() as (proxy, agent), trio.open_nursery() as nursery:
        source = Endless()
        nursery.start_soon(Flow(source, proxy.open_stream()).run)
        await wait_all_tasks_blocked()
        got = await agent.accept()
        assert INITIAL_WINDOW <= source.given <= INITIAL_WINDOW + READ_SIZE

        for _ in range(20):  # and goes on as it reads
            await got.receive_some()
        await wait_all_tasks_blocked()
        assert source.given > INITIAL_WINDOW + READ_SIZE
        nursery.cancel_scope.cancel()
