"""How long a tunnel lives, and what its end does to its streams; time is trio's autojump clock."""

from __future__ import annotations

from contextlib import suppress
from typing import NoReturn

import pytest
import trio
from trio.testing import (
    MockClock,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from tests.engine.net.mux_pairs import (
    connected,
    mux_pair,
    read_frames,
    read_to_end,
    tunnel,
)
from tport.engine.defaults import ECHO_DEADLINE
from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.mux import Mux
from tport.engine.proto.yamux import (
    DATA,
    GO_AWAY,
    HEADER,
    INTERNAL_ERROR,
    PING,
    PROTOCOL_ERROR,
    SYN,
    Connection,
)


async def test_a_silent_peer_is_dead_within_15_seconds(autojump_clock: MockClock) -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    stream = mux.open_stream()

    with pytest.raises(ConnectionProblem, match="no sign of life from the peer for 14 s"):
        await mux.run()

    assert trio.current_time() == ECHO_DEADLINE < 15
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    pings = [length for kind, flags, _, length in await read_frames(peer) if kind == PING]
    assert pings == [1, 2, 3]


async def test_who_did_not_run_for_a_while_takes_nobody_for_dead_before_reading(
    mock_clock: MockClock,
) -> None:
    """R-31, R-32: what the peer said meanwhile has come, and only waits to be read."""
    async with tunnel() as (proxy, agent):
        for _ in range(3):
            await wait_all_tasks_blocked()
            mock_clock.jump(20)  # both were stopped, or their machine had no time for them
        await wait_all_tasks_blocked()
        assert not proxy.closed
        assert not agent.closed


async def test_a_peer_that_is_dead_is_so_within_a_second_of_our_coming_back(
    mock_clock: MockClock,
) -> None:
    transport, _peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)

    async def run() -> None:
        with pytest.raises(ConnectionProblem, match="no sign of life"):
            await mux.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        mock_clock.jump(60)
        await wait_all_tasks_blocked()
        assert not mux.closed
        mock_clock.jump(1)


async def test_a_peer_that_does_not_even_read_is_dead_within_15_seconds(
    autojump_clock: MockClock,
) -> None:
    transport, _peer = memory_stream_pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    mux = Mux(transport, client=True, peer_may_open=False)

    with pytest.raises(ConnectionProblem, match="no sign of life"):
        await mux.run()

    assert trio.current_time() == ECHO_DEADLINE < 15


async def test_an_idle_tunnel_lives_as_long_as_pings_are_answered(
    autojump_clock: MockClock,
) -> None:
    async with tunnel() as (proxy, agent):
        await trio.sleep(3600)

        assert not proxy.closed
        assert not agent.closed
        assert trio.current_time() - proxy.last_heard <= 5
        assert proxy.rtt == 0


async def test_of_a_tunnel_at_rest_the_agent_alone_asks_whether_the_other_lives(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pings tell both: a proxy has hundreds of tunnels that rest."""
    asked: list[Connection] = []
    ping = Connection.ping

    def noted(self: Connection) -> int:
        asked.append(self)
        return ping(self)

    monkeypatch.setattr(Connection, "ping", noted)
    async with tunnel() as (proxy, agent):
        await trio.sleep(1)
        asked.clear()
        await trio.sleep(600)
        assert set(asked) == {agent._connection}
        assert len(asked) == 120

        asked.clear()
        streams = [proxy.open_stream(), proxy.open_stream()]
        await trio.sleep(20)
        assert proxy._connection in asked
        for stream in streams:
            stream.reset()


async def test_any_byte_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    """A peer busy sending one large frame may not get to its pong in time."""
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=False, peer_may_open=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await peer.send_all(HEADER.pack(0, DATA, SYN, 1, 1000))
        for _ in range(10):
            await trio.sleep(ECHO_DEADLINE - 1)
            await peer.send_all(b"x")
        assert not mux.closed
        nursery.cancel_scope.cancel()


async def test_go_away_lets_open_streams_finish_and_then_ends_the_tunnel_on_both_sides() -> None:
    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        nursery.start_soon(agent.run)
        left, right = await connected(proxy, agent)

        agent.go_away()
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionProblem, match="closed or closing"):
            proxy.open_stream()
        await left.send_all(b"question")
        assert await right.receive_some() == b"question"
        await right.send_all(b"answer")
        await right.aclose()
        assert await read_to_end(left) == b"answer"
        await wait_all_tasks_blocked()
        assert not proxy.closed
        await left.aclose()

        await proxy.wait_closed()
        await agent.wait_closed()
    with pytest.raises(ConnectionProblem):
        await agent.accept()


async def test_a_stream_opened_just_before_go_away_is_still_served() -> None:
    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        nursery.start_soon(agent.run)
        left = proxy.open_stream()
        await left.send_all(b"last one")
        proxy.go_away()

        async with await agent.accept() as right:
            assert await right.receive_some() == b"last one"
            await right.send_all(b"done")
        assert await read_to_end(left) == b"done"
        await left.aclose()


async def test_a_broken_transport_breaks_every_stream() -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    stream = mux.open_stream()

    async def expect_broken() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_broken)
        await wait_all_tasks_blocked()
        await peer.aclose()
        with pytest.raises(ConnectionProblem, match=r"the peer closed the tunnel|broke"):
            await mux.run()
    assert mux.closed
    with pytest.raises(ConnectionProblem, match="closed or closing"):
        mux.open_stream()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()
    assert mux.streams == 0


async def test_what_ended_cleanly_can_be_read_after_the_tunnel_is_gone() -> None:
    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        nursery.start_soon(agent.run)
        left, right = await connected(proxy, agent)
        await right.send_all(b"whole answer")
        await right.send_eof()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert await read_to_end(left) == b"whole answer"


async def test_cancelling_run_closes_the_transport() -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    stream = mux.open_stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    await read_frames(peer)  # comes to an end
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await mux.wait_closed()


@pytest.mark.parametrize(
    ("code", "said"), [(PROTOCOL_ERROR, "protocol error"), (INTERNAL_ERROR, "internal error")]
)
async def test_a_peer_that_gives_up_is_quoted(code: int, said: str) -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    await peer.send_all(HEADER.pack(0, GO_AWAY, 0, 0, code))

    with pytest.raises(ConnectionProblem, match=f"the peer gave up the tunnel: {said}"):
        await mux.run()


async def test_a_breach_is_answered_by_go_away_within_a_second_though_the_peer_does_not_read(
    autojump_clock: MockClock,
) -> None:
    transport, peer = memory_stream_pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    mux = Mux(transport, client=True, peer_may_open=False)
    await peer.send_all(b"\x01" * HEADER.size)

    with pytest.raises(RemoteProtocolError, match="yamux version 1, expected 0"):
        await mux.run()

    assert trio.current_time() == 1


@pytest.mark.parametrize("way", ["receive_data", "data_to_send"])
async def test_a_bug_in_the_tunnel_itself_ends_it_and_is_raised(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("a bug, put there by a test")

    async def run_proxy() -> None:
        with pytest.raises(ZeroDivisionError):
            await proxy.run()

    async def run_agent() -> None:
        with suppress(ConnectionProblem):
            await agent.run()

    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_proxy)
        nursery.start_soon(run_agent)
        await wait_all_tasks_blocked()
        monkeypatch.setattr(proxy._connection, way, bug)
        agent.go_away()  # something comes
        proxy.go_away()  # something is to be sent
