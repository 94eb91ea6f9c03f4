"""The tunnel against a peer that means harm: AG-05 and AG-10 where the multiplexer decides."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tport.engine.defaults import INITIAL_WINDOW, MAX_STREAMS
from tport.engine.errors import RemoteProtocolError
from tport.engine.net.mux import Mux
from tport.engine.proto.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    PING,
    PROTOCOL_ERROR,
    RST,
    SLACK,
    SYN,
    WINDOW_UPDATE,
)

MIB = 1024 * 1024


def frame(kind: int, flags: int, stream_id: int, payload: bytes | int = 0) -> bytes:
    length = payload if isinstance(payload, int) else len(payload)
    body = b"" if isinstance(payload, int) else payload
    return HEADER.pack(0, kind, flags, stream_id, length) + body


GAVE_UP = frame(GO_AWAY, 0, 0, PROTOCOL_ERROR)


async def last_words(peer: trio.abc.ReceiveStream) -> bytes:
    """Return the last frame's worth of bytes that `peer` got before the end."""
    heard = bytearray()
    while data := await peer.receive_some():
        heard += data
    return bytes(heard[-HEADER.size :])


@pytest.mark.parametrize("target", [b"127.0.0.1:3025", b"169.254.169.254:80"])
async def test_ag_05_a_stream_opened_by_an_agent_ends_its_tunnel(
    target: bytes, autojump_clock: MockClock
) -> None:
    """AG-05: a tunnel cannot be used backwards, whatever the stream asks for. Others go on."""
    transport, agent = memory_stream_pair()
    proxy = Mux(transport, client=True, peer_may_open=False)
    other_transport, other_agent = memory_stream_pair()
    other = Mux(other_transport, client=True, peer_may_open=False)
    innocent = Mux(other_agent, client=False, peer_may_open=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        nursery.start_soon(innocent.run)

        await agent.send_all(frame(DATA, SYN, 2, target))
        with pytest.raises(RemoteProtocolError, match="opened stream 2, which is not its part"):
            await proxy.run()

        assert trio.current_time() < 1
        assert await last_words(agent) == GAVE_UP
        near, far = other.open_stream(), await innocent.accept()
        await far.send_all(b"unaffected")
        assert await near.receive_some() == b"unaffected"
        nursery.cancel_scope.cancel()


BREACHES = {
    "credit 0xffff0000, twice": (
        frame(WINDOW_UPDATE, SYN, 1)
        + frame(WINDOW_UPDATE, 0, 1, 0xFFFF0000)
        + frame(WINDOW_UPDATE, 0, 1, 0xFFFF0000),
        "window credit overflow",
    ),
    "credit one beyond what can be counted": (
        frame(WINDOW_UPDATE, SYN, 1, 2**31 - INITIAL_WINDOW),
        "window credit overflow",
    ),
    "DATA and SYN of the window and one byte": (
        frame(DATA, SYN, 1, INITIAL_WINDOW + 1),
        "receive window exceeded",
    ),
    "one byte beyond the window, in a second frame": (
        frame(DATA, SYN, 1, b"x" * INITIAL_WINDOW) + frame(DATA, 0, 1, b"x"),
        "receive window exceeded",
    ),
    "an id used again": (
        frame(WINDOW_UPDATE, SYN, 1) + frame(WINDOW_UPDATE, SYN, 1),
        "opened stream 1 again",
    ),
    "an id used again after its stream is over": (
        frame(WINDOW_UPDATE, SYN, 1) + frame(WINDOW_UPDATE, RST, 1) + frame(DATA, SYN, 1),
        "opened stream 1 again",
    ),
    "an id passed over, used twice": (
        frame(WINDOW_UPDATE, SYN, 5) + 2 * frame(WINDOW_UPDATE, SYN, 3),
        "opened stream 3 again",
    ),
    "an id passed over long ago": (
        frame(WINDOW_UPDATE, SYN, 1001) + frame(WINDOW_UPDATE, SYN, 1),
        "opened stream 1 again",
    ),
    "data for an id passed over": (
        frame(WINDOW_UPDATE, SYN, 5) + frame(DATA, 0, 3, b"x"),
        "stream 3 was never opened",
    ),
    "an id of the other side's parity": (frame(WINDOW_UPDATE, SYN, 2), "wrong parity"),
    "stream 0 opened": (frame(WINDOW_UPDATE, SYN, 0), "wrong parity"),
    "data for the session itself": (frame(DATA, 0, 0, b"x"), "stream 0 was never opened"),
    "data for a stream never opened": (frame(DATA, 0, 7, b"x"), "stream 7 was never opened"),
    "credit for a stream never opened": (frame(WINDOW_UPDATE, 0, 7, 1), "7 was never opened"),
    "credit for a stream that we never opened": (frame(WINDOW_UPDATE, 0, 2, 1), "2 was never"),
    "data after the end": (
        frame(DATA, SYN | FIN, 1) + frame(DATA, 0, 1, b"x"),
        "data after its end",
    ),
    "two ends": (frame(DATA, SYN | FIN, 1) + frame(DATA, FIN, 1), "ended twice"),
    "endless data for a stream that is over": (
        frame(WINDOW_UPDATE, SYN, 1) + frame(WINDOW_UPDATE, RST, 1) + frame(DATA, 0, 1, 2**32 - 1),
        "receive window exceeded",
    ),
    "a reserved flag": (frame(WINDOW_UPDATE, SYN | 16, 1), "reserved flags"),
    "an unknown frame type": (frame(4, 0, 0), "unknown frame type 4"),
    "another version": (b"\x01" + frame(PING, SYN, 0)[1:], "yamux version 1"),
    "a ping that is neither question nor answer": (frame(PING, SYN | ACK, 0), "ping"),
    "a ping on a stream": (frame(PING, SYN, 1), "ping on stream 1"),
    "a go-away with a code of its own": (frame(GO_AWAY, 0, 0, 3), "code 3"),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_ag_10_a_breach_ends_the_tunnel_and_the_peer_is_told(
    name: str, autojump_clock: MockClock
) -> None:
    """AG-10: arithmetic and ids are ours to check; each breach is GOAWAY(protocol) in < 1 s."""
    wire, complaint = BREACHES[name]
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=False, peer_may_open=True)

    await peer.send_all(wire)
    with pytest.raises(RemoteProtocolError, match=complaint):
        await mux.run()

    assert trio.current_time() < 1
    assert await last_words(peer) == GAVE_UP


async def flood(wire: bytes, *, times: int) -> int:
    """Send `wire` that often to a mux whose writes never end; return the most memory it took."""
    transport, peer = memory_stream_pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    mux = Mux(transport, client=False, peer_may_open=True)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < times and not mux.closed:
            await peer.send_all(wire * 1000)
            sent += 1000
            await wait_all_tasks_blocked()

    tracemalloc.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with pytest.raises(RemoteProtocolError, match="does not read our answers"):
                await mux.run()
            nursery.cancel_scope.cancel()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_ag_10_pings_of_a_peer_that_does_not_read_end_the_tunnel(
    autojump_clock: MockClock,
) -> None:
    """AG-10, CVE-2024-32984: a million pings, no answer taken, and memory stays where it was."""
    assert await flood(frame(PING, SYN, 0, 7), times=10**6) < 16 * MIB


async def test_ag_10_streams_opened_by_a_peer_that_does_not_read_end_the_tunnel(
    autojump_clock: MockClock,
) -> None:
    """AG-10: beyond the limit each is owed a reset; those may not pile up either."""
    transport, peer = memory_stream_pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    mux = Mux(transport, client=False, peer_may_open=True)
    for stream_id in range(1, 20_001, 2):
        await peer.send_all(frame(WINDOW_UPDATE, SYN, stream_id))

    with pytest.raises(RemoteProtocolError, match="does not read our answers"):
        await mux.run()

    assert mux.streams <= MAX_STREAMS + SLACK


async def test_ag_10_streams_opened_and_reset_at_once_hold_nothing(
    autojump_clock: MockClock,
) -> None:
    """AG-10: "rapid reset". Nobody accepts, 10,000 come and go, and no more than may be open stays."""
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=False, peer_may_open=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        for stream_id in range(1, 20_001, 2):
            await peer.send_all(frame(DATA, SYN, stream_id, b"abc"))
            await peer.send_all(frame(WINDOW_UPDATE, RST, stream_id))
            if stream_id % 100 == 1:
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()

        assert mux.streams <= MAX_STREAMS + SLACK
        assert mux._connection.stream_count == 0
        nursery.cancel_scope.cancel()


async def test_ag_10_a_window_full_of_tiny_frames_costs_about_its_bytes(
    autojump_clock: MockClock,
) -> None:
    """AG-10: 128 Ki frames of two bytes fill a window; an object for each would be 7 MiB."""
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=False, peer_may_open=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await peer.send_all(frame(WINDOW_UPDATE, SYN, 1))
        stream = await mux.accept()
        tiny = frame(DATA, 0, 1, b"xy") * 4096
        tracemalloc.start()
        try:
            for _ in range(INITIAL_WINDOW // 2 // 4096):
                await peer.send_all(tiny)
                await wait_all_tasks_blocked()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

        assert INITIAL_WINDOW <= held < 4 * INITIAL_WINDOW
        assert len(await stream.receive_some()) > 4096
        nursery.cancel_scope.cancel()
