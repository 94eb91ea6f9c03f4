"""A proxy that is told to stop: what runs may end, and who holds a WebSocket is sent elsewhere."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.stack import Person, Stack, open_stack, read_all, read_answer
from tport.engine.defaults import DRAIN
from tport.engine.net.tls_stream import TlsStream
from tport.engine.proto.websocket import close_frame

AWAY = close_frame(1001, "the proxy stops or is being restarted")


class Upgrading:
    """Agrees to each WebSocket, and says nothing; /slow is answered when it may be."""

    def __init__(self, stack: Stack) -> None:
        self.asked, self.may = trio.Event(), trio.Event()
        self._app = stack.raw_app
        self._app.script = self._script

    async def _script(self, stream: trio.SocketStream) -> None:
        head = await self._app.take_head(stream)
        if b"upgrade: websocket" in head.lower():
            await stream.send_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            )
            await read_all(stream)
        elif head:
            self.asked.set()
            await self.may.wait()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")


async def send(person: Person, target: str, *lines: str) -> TlsStream:
    host, port = person.stack.host("raw"), person.stack.port
    head = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}", f"Cookie: {person.cookie('raw')}"]
    client = await person.stack.connect(host)
    await client.send_all("\r\n".join([*head, *lines, "", ""]).encode())
    return client


async def open_websocket(person: Person) -> TlsStream:
    client = await send(
        person,
        "/ws",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Origin: https://{person.stack.host('raw')}:{person.stack.port}",
    )
    assert (await read_answer(client)).status == 101
    return client


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
    return MockClock(rate=10)


async def test_a_request_that_never_ends_is_cut_when_the_drain_is_over(clock: MockClock) -> None:
    """R-02: after 30 s and not later, though WebSockets are told at the end of them; never as a whole answer."""
    began = ended = 0.0
    async with open_stack(debug_app=False) as stack:
        app = Upgrading(stack)
        alice = await stack.user("alice")
        await alice.open("raw")
        websocket = await open_websocket(alice)
        slow = await send(alice, "/slow")
        await app.asked.wait()
        stack.stop.set()
        began = trio.current_time()
        assert await read_all(websocket) == AWAY
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await read_answer(slow)
        ended = trio.current_time()
        for each in (websocket, slow):
            await trio.aclose_forcefully(each)

    assert DRAIN - 3 < ended - began < DRAIN + 5  # 5: half a second of the wall's
