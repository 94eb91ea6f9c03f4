"""Applications change under a whole cluster, and what runs on the others never notices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from msgspec.structs import replace

from tests.figures import BUSY
from tests.stack import Person, Stack, open_stack
from tport.engine.config.model import AppService, FaultyApp
from tport.engine.net.tls_stream import TlsStream
from tport.engine.types.app import App, Header, Rewrite

NEW = Rewrite(headers=(Header("X-Defined", "anew"),))
AT_ONCE = 5.0 * BUSY  # s that a change may take to count everywhere


class Trickle:
    """An application whose answer goes on for as long as the test likes."""

    def __init__(self) -> None:
        self.asked = 0
        self.more, self._piece = trio.open_memory_channel[bytes](0)

    async def script(self, stream: trio.SocketStream) -> None:
        if not await stream.receive_some(65536):
            return  # the agent looked whether somebody is here
        self.asked += 1
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        async for piece in self._piece:
            await stream.send_all(piece)


@asynccontextmanager
async def begin(stack: Stack, person: Person, app: str) -> AsyncIterator[TlsStream]:
    """Ask for an application's endless answer, and hold the stream behind its head."""
    await person.open(app)
    stream = await stack.connect(stack.host(app))
    lines = (
        f"GET / HTTP/1.1\r\nHost: {stack.host(app)}:{stack.port}\r\nCookie: {person.cookie(app)}"
    )
    try:
        await stream.send_all(f"{lines}\r\n\r\n".encode())
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await stream.receive_some(1)
        assert data.startswith(b"HTTP/1.1 200")
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def read_until(stream: TlsStream, what: bytes) -> None:
    data = b""
    while what not in data:
        more = await stream.receive_some(65536)
        assert more, f"ended after {data!r}"
        data += more


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(AT_ONCE):
        while not await condition():  # noqa: ASYNC110 - what people would ask
            await trio.sleep(0.02)


async def states(stack: Stack) -> dict[str, str]:
    """Return what `tport apps ls` shows: each application, and why it is refused if it is."""
    return {s.app.name: s.refused for s in (await stack.admin.status()).app_servers}


async def test_a_download_never_notices_that_others_come_change_go_and_go_wrong() -> None:
    async with open_stack() as stack:
        alice, trickle = await stack.user("alice"), Trickle()
        stack.raw_app.script = trickle.script
        service = stack.running.config.app_service
        echo, raw = service.apps
        async with begin(stack, alice, "raw") as download:
            pieces = 0

            async def still_flows() -> None:
                nonlocal pieces
                pieces += 1
                with trio.fail_after(AT_ONCE):
                    await trickle.more.send(b"piece %d;" % pieces)
                    await read_until(download, b"piece %d;" % pieces)

            async def shown(**wanted: str) -> None:
                async def agrees() -> bool:
                    return await states(stack) == {"dumper": "", "raw": "", **wanted}

                await until(agrees)
                await still_flows()

            await still_flows()
            second = App(name="second", uri=echo.uri)
            stack.reload(replace(service, apps=(echo, raw, second)))
            await shown(echo="", second="")
            assert (await alice.get("second", "/new")).status == 200

            stack.reload(replace(service, apps=(echo, raw, replace(second, rewrite=NEW))))

            async def is_what_it_is_now() -> bool:
                await alice.get("second")
                return stack.echo.seen[-1].values(b"x-defined") == [b"anew"]

            await until(is_what_it_is_now)
            await still_flows()

            faulty = FaultyApp(
                index=0, name="echo", complaints=("tport.yaml:7:5: uri: is missing",)
            )
            stack.reload(replace(service, apps=(raw, second), faulty=(faulty,)))
            await shown(echo="tport.yaml:7:5: uri: is missing", second="")

            stack.reload(replace(service, apps=(raw,)))
            await shown()
            assert trickle.asked == 1


async def test_a_running_request_of_a_changed_application_ends_by_itself() -> None:
    async with open_stack() as stack:
        alice, trickle = await stack.user("alice"), Trickle()
        stack.raw_app.script = trickle.script
        service = stack.running.config.app_service
        echo, raw = service.apps
        async with begin(stack, alice, "raw") as download:
            stack.reload(replace(service, apps=(echo, replace(raw, uri=echo.uri))))

            async def answers_from_the_new_place() -> bool:
                with trio.move_on_after(AT_ONCE / 4):
                    return (await alice.get("raw")).body == b"hello"
                return False  # it was the old place's endless answer

            stack.raw_app.script = stack.raw_app.hang_up
            await until(answers_from_the_new_place)
            with trio.fail_after(AT_ONCE):
                await trickle.more.send(b"the end")
                await read_until(download, b"the end")


async def test_what_runs_on_a_removed_application_is_cut() -> None:
    async with open_stack() as stack:
        alice, trickle = await stack.user("alice"), Trickle()
        stack.raw_app.script = trickle.script
        async with begin(stack, alice, "raw") as download:
            stack.reload(AppService(enabled=True, apps=(), debug_app=True))

            with trio.fail_after(AT_ONCE):
                try:
                    assert await download.receive_some(65536) == b""
                except trio.BrokenResourceError:
                    pass  # cut in the middle, as it should be

            async def only_the_debug_app_is_left() -> bool:
                return await states(stack) == {"dumper": ""}

            await until(only_the_debug_app_is_left)
            assert (await alice.get("raw")).status in (401, 404, 502, 503)
