"""WebSockets through a tunnel: frames both ways, and how each end hears of the other's."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.proxy.ends import Agent, Client, World, open_world
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.tunnel import (
    ResponseHead,
)
from tport.engine.proto.websocket import close_frame
from tport.engine.proxy.passage import CLOSE_DEADLINE, LATE_NEWS

UPGRADE = (
    "GET /ws HTTP/1.1",
    "Host: grafana.proxy.test",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def open_websocket(world: World, agent: Agent) -> tuple[Client, MuxStream]:
    client = world.client()
    await client.send(*UPGRADE)
    request = await agent.next()
    assert request.head.upgrade == b"websocket"
    await request.say(ResponseHead(status=101, reason=b"", headers=b"", length=0))
    assert (await client.answer()).status == 101
    return client, request.stream


async def test_frames_pass_both_ways_and_a_close_ends_both() -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await client.stream.send_all(b"\x81\x80mask")
        assert await app.receive_some() == b"\x81\x80mask"
        await app.send_all(b"\x81\x02hi")
        assert await client.stream.receive_some() == b"\x81\x02hi"
        await app.aclose()

        assert await client.stream.receive_some() == b""


async def test_the_applications_last_words_arrive_though_the_browser_still_talks() -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await app.send_all(b"\x81\x7e\x75\x30" + b"x" * 30_000)
        await app.aclose()
        await client.stream.send_all(b"\x81\x80mask")

        data = b""
        while piece := await client.stream.receive_some():
            data += piece
        assert len(data) == 30_004


async def test_a_browser_that_leaves_ends_it_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await client.close()
        with trio.fail_after(5):
            try:
                while await app.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        app.reset()
        await wait_all_tasks_blocked()
    assert not caplog.records


async def test_an_application_that_breaks_off_ends_it_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        app.reset()

        assert await client.stream.receive_some() == b""
        await wait_all_tasks_blocked()
    assert not caplog.records


async def test_an_ended_session_closes_it_with_a_reason_at_once_when_idle() -> None:
    async with open_world() as world:
        client, _ = await open_websocket(world, world.agent())
        await wait_all_tasks_blocked()
        world.live.cut("s1", "session ended")

        assert await client.stream.receive_some() == close_frame(1008, "session ended")
        await client.stream.send_all(close_frame(1008, ""))  # the browser's reply finds no reset
        await client.stream.aclose()


async def test_a_proxy_that_stops_has_browsers_connect_anew_and_cuts_nothing_else() -> None:
    """R-02: 1001 is what pages' scripts and libraries take for a reason to come back."""
    async with open_world() as world:
        agent = world.agent()
        client, _ = await open_websocket(world, agent)
        other = world.client()
        await other.get()
        request = await agent.next()
        await wait_all_tasks_blocked()
        assert world.forwarder.websockets == 1
        world.forwarder.close_websockets()

        reason = "the proxy stops or is being restarted"
        assert await client.stream.receive_some() == close_frame(1001, reason)
        await request.answer()
        assert (await other.answer()).status == 200
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert world.forwarder.websockets == 0


async def test_an_ended_session_closes_it_at_the_next_frame_boundary(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await app.send_all(b"\x81\x05he")
        assert await client.stream.receive_some() == b"\x81\x05he"
        world.live.cut("s1", "session ended")
        await app.send_all(b"llo\x81\x02hi")

        data = b""
        while piece := await client.stream.receive_some():
            data += piece
        assert data == b"llo" + close_frame(1008, "session ended")


async def test_an_agent_that_hears_first_of_a_sessions_end_does_not_keep_the_reason_back(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await wait_all_tasks_blocked()
        app.reset()
        await trio.sleep(LATE_NEWS / 2)
        world.live.cut("s1", "session ended")

        assert await client.stream.receive_some() == close_frame(1008, "session ended")


async def test_a_frame_that_never_ends_is_cut_in_time(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await app.send_all(b"\x81\x05he")
        assert await client.stream.receive_some() == b"\x81\x05he"
        world.live.cut("s1", "session ended")

        assert await client.stream.receive_some() == b""
        assert trio.current_time() == CLOSE_DEADLINE


async def test_what_is_left_of_a_frame_comes_in_its_pieces_before_the_close(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await app.send_all(b"\x81\x05h")
        assert await client.stream.receive_some() == b"\x81\x05h"
        world.live.cut("s1", "session ended")
        await app.send_all(b"el")
        assert await client.stream.receive_some() == b"el"
        await app.send_all(b"lo\x81\x02hi")
        assert await client.stream.receive_some() == b"lo"
        assert await client.stream.receive_some() == close_frame(1008, "session ended")
        await client.stream.send_all(b"\x88\x80mask")  # the browser's own close is waited for
        assert await client.stream.receive_some() == b""


async def test_an_application_that_ends_within_a_frame_ends_it_without_a_close(
    autojump_clock: MockClock,
) -> None:
    """A close frame in the middle of another would be read as that one's words."""
    async with open_world() as world:
        client, app = await open_websocket(world, world.agent())
        await app.send_all(b"\x81\x05he")
        assert await client.stream.receive_some() == b"\x81\x05he"
        world.live.cut("s1", "session ended")
        await app.aclose()
        assert await client.stream.receive_some() == b""
