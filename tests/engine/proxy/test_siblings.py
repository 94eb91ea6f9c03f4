"""Processes that share a port: who takes a connection, and when one that has just begun takes any."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import START
from tport.engine.net.accept import accept
from tport.engine.net.fair_share import PAUSE, FairShare, make_memory
from tport.engine.net.mux import Mux
from tport.engine.net.seats import Seat, Seats
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.proxy.settings import ROOM
from tport.engine.proxy.siblings import (
    FOUND,
    Alone,
    Arrival,
    elsewhere,
    take_over,
    wait_for_tunnels,
)
from tport.engine.proxy.tunnels import Tunnel, Tunnels
from tport.engine.types.app import App, AppServer
from tport.engine.types.identity import Identity


def offer(agent: str, *, refused: str = "") -> AppServer:
    app = App(name="grafana", uri="http://localhost:3000")
    return AppServer(app=app, labels={}, host_id=agent, refused=refused)


def tunnel(agent: str) -> Tunnel:
    identity = Identity(kind="agent", name=agent, cluster="main")
    return Tunnel(cast("Mux", None), identity, remote="192.0.2.1", since=START)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_memory(2)
    yield descriptor
    os.close(descriptor)


# --- Before the first browser ------------------------------------------------------------------------


async def test_a_process_waits_until_every_agent_that_offers_something_has_found_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    tunnels, ready = Tunnels(lambda: START), trio.Event()
    offered = [offer("a1"), offer("a2"), offer("a3", refused="another's")]

    async def wait() -> None:
        await wait_for_tunnels(tunnels, lambda: offered)
        ready.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    tunnels.add(tunnel("a1"))
    tunnels.add(tunnel("a3"))
    await wait_all_tasks_blocked()
    assert not ready.is_set()

    tunnels.add(tunnel("a2"))
    await wait_all_tasks_blocked()
    assert ready.is_set()


async def test_where_nothing_is_offered_it_does_not_wait_and_for_one_that_hangs_not_for_ever(
    autojump_clock: MockClock,
) -> None:
    began = trio.current_time()
    await wait_for_tunnels(Tunnels(lambda: START), list)
    assert trio.current_time() == began

    await wait_for_tunnels(Tunnels(lambda: START), lambda: [offer("a1")])
    assert trio.current_time() == began + FOUND


def test_only_who_shares_a_port_has_to_do_with_what_others_are_offered(memory: int) -> None:
    offered = [offer("a1", refused="another's")]
    is_offered = elsewhere(FairShare(memory, 0, 2), lambda: offered)
    assert not is_offered("grafana")

    offered.append(offer("a2"))
    assert is_offered("grafana")
    assert not is_offered("jupyter")
    assert not elsewhere(None, lambda: offered)("grafana")


# --- Handing over ------------------------------------------------------------------------------------


class Handed(Alone):
    """Siblings that have taken one connection for this process."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrivals = [arrival]

    async def next(self) -> Arrival:  # type: ignore[override] # Alone's never returns
        if self._arrivals:
            return self._arrivals.pop()
        return await super().next()


async def test_what_is_handed_over_is_served_with_what_came_before(nursery: trio.Nursery) -> None:
    stream = cast("TcpStream", object())
    served: list[tuple[TcpStream, str, bytes]] = []
    done = trio.Event()

    def welcome(stream: TcpStream, remote: str, received: bytes) -> None:
        served.append((stream, remote, received))
        done.set()

    nursery.start_soon(take_over, Handed(Arrival(stream, "192.0.2.1", b"hello")), welcome)
    with trio.fail_after(5):
        await done.wait()

    assert served == [(stream, "192.0.2.1", b"hello")]


async def test_a_process_alone_hands_nothing_over() -> None:
    stream = cast("PrefixedStream", object())

    assert not await Alone().hand_over("another", stream, "192.0.2.1")


# --- Accepting ---------------------------------------------------------------------------------------


@pytest.fixture
async def listener() -> AsyncIterator[trio.SocketListener]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener


async def test_of_two_that_are_idle_each_takes_its_share(
    memory: int, listener: trio.SocketListener
) -> None:
    """Without it the first to be woken would take them all."""
    shares = [FairShare(memory, index, 2) for index in range(2)]
    port = listener.socket.getsockname()[1]

    kept = ExitStack()

    def keep(stream: TcpStream, _seat: Seat, _peer: str) -> None:
        kept.callback(stream.close)

    async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
        clients.enter_context(kept)
        for share in shares:
            copy = trio.SocketListener(listener.socket.dup())
            nursery.start_soon(accept, copy, keep, Seats(ROOM), share)
        for number in range(20):
            await clients.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
            with trio.fail_after(10):
                while sum(share.count for share in shares) <= number:  # noqa: ASYNC110 - in real time
                    await trio.sleep(PAUSE)
        # Who paused takes what has come meanwhile, without asking again: one more now and then.
        assert all(9 <= share.count <= 11 for share in shares), [s.count for s in shares]
        nursery.cancel_scope.cancel()
    assert not shares[0].is_anothers_turn()


async def test_a_process_that_is_busy_is_not_waited_for(
    memory: int, listener: trio.SocketListener
) -> None:
    busy, ours = FairShare(memory, 0, 2), FairShare(memory, 1, 2)
    busy.begin()
    taken = trio.Event()

    def take(stream: TcpStream, seat: Seat, _peer: str) -> None:
        ours.add(5)
        taken.set()
        stream.close()
        seat.leave()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listener, take, Seats(ROOM), ours)
        for _ in range(2):
            taken = trio.Event()
            async with await trio.open_tcp_stream(*listener.socket.getsockname()[:2]):
                with trio.fail_after(10):
                    await taken.wait()
        assert ours.is_anothers_turn()
        nursery.cancel_scope.cancel()
