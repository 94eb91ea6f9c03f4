"""A proxy that is told to stop: what runs may end, and who holds a WebSocket is sent elsewhere."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.faults.websockets import Upgrading, open_websocket, send
from tests.stack import open_stack, read_all, read_answer
from tport.engine.defaults import DRAIN
from tport.engine.proto.websocket import close_frame

AWAY = close_frame(1001, "the proxy stops or is being restarted")


async def test_open_websockets_keep_no_stop_waiting_and_are_told_to_come_back() -> None:
    """R-02: at once, when nothing else runs: a WebSocket has no end to wait for."""
    async with open_stack(debug_app=False) as stack:
        app = Upgrading(stack)
        alice = await stack.user("alice")
        await alice.open("raw")
        sockets = [await open_websocket(alice) for _ in range(3)]
        began = trio.current_time()
        stack.stop.set()
        said = []
        for each in sockets:
            with trio.fail_after(10):
                said.append(await read_all(each))
            await trio.aclose_forcefully(each)
        took = trio.current_time() - began

    assert said == [AWAY] * 3
    assert took < DRAIN / 4
    assert not app.asked.is_set()


async def test_a_request_that_runs_keeps_websockets_open_until_it_has_ended() -> None:
    """R-02: no page is sent to a proxy that isn't there yet while this one still serves."""
    async with open_stack(debug_app=False) as stack:
        app = Upgrading(stack)
        alice = await stack.user("alice")
        await alice.open("raw")
        websocket = await open_websocket(alice)
        slow = await send(alice, "/slow")
        await app.asked.wait()
        stack.stop.set()
        with trio.move_on_after(0.5):
            raise AssertionError(f"it said {await websocket.receive_some(100)!r}")
        app.may.set()
        with trio.fail_after(10):
            answer = await read_answer(slow)
            assert await read_all(websocket) == AWAY
        for each in (websocket, slow):
            await trio.aclose_forcefully(each)

    assert (answer.status, answer.body, answer.header("connection")) == (200, b"slow", "close")


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1)


async def test_a_request_that_never_ends_is_cut_when_the_drain_is_over(clock: MockClock) -> None:
    """R-02: after 30 s and not later, though WebSockets are told at the end of them; never as a whole answer."""
    began, ended, status = 0.0, 0.0, 200
    async with open_stack(debug_app=False) as stack:
        app = Upgrading(stack)
        alice = await stack.user("alice")
        await alice.open("raw")
        websocket = await open_websocket(alice)
        slow = await send(alice, "/slow")
        await app.asked.wait()
        clock.rate = 10
        stack.stop.set()
        began = trio.current_time()
        assert await read_all(websocket) == AWAY
        try:  # its agent stops in the same instant: what of the two is noticed first
            status = (await read_answer(slow)).status
        except (EOFError, trio.BrokenResourceError):
            status = 0
        ended = trio.current_time()
        for each in (websocket, slow):
            await trio.aclose_forcefully(each)

    assert status in (0, 502)
    assert (
        DRAIN - 3 < ended - began < DRAIN + 50
    )  # 50: five seconds of the wall's, on a busy machine
