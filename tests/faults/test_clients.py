"""Clients that go away at any moment, and people who may no longer have what they have open."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from tests.fault_proxy import open_fault_proxy
from tests.faults.places import until
from tests.faults.websockets import AGREED, UPGRADE, Upgrading, open_websocket
from tests.figures import Hold
from tests.stack import Person, Stack, open_stack, read_all
from tport.engine.net.moments import MOMENT
from tport.engine.net.tls_stream import TlsStream
from tport.engine.types.lock import LockTarget
from tport.engine.types.role import Role
from tport.engine.types.session import session_id

LONG = [pytest.mark.torture, pytest.mark.timeout(300)]
LET_GO: Final = 1.0  # s in which an application is let go whose client has left
BUSY: Final = 2.0  # s of the wall's that a machine on which much else is tested may take for a step
RATE: Final = 2.0  # how much faster than the wall's a moved clock runs
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset


class Asked:
    """An application that says when it was asked, goes on for ever, and counts who has left it."""

    def __init__(self, stack: Stack) -> None:
        self.asked = trio.Event()
        self.begun = self.left = 0
        self._app = stack.raw_app
        self._app.script = self._script

    async def _script(self, stream: trio.SocketStream) -> None:
        head = await self._app.take_head(stream)
        if not head:
            return
        self.begun += 1
        self.asked.set()
        try:
            if b"GET /download" in head:
                await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    await stream.send_all(bytes(1000))
            if b"GET /ws" in head:
                await stream.send_all(AGREED)
            while await stream.receive_some(65536):
                pass
        finally:
            self.left += 1


def public(person: Person) -> str:
    """The application's address, whichever port this client dials."""
    stack = person.stack
    return f"{stack.host('raw')}:{stack.running.config.proxy_service.public_addrs[0].port}"


def head(person: Person, line: str, *more: str) -> bytes:
    host = public(person)
    lines = [f"{line} HTTP/1.1", f"Host: {host}", f"Cookie: {person.cookie('raw')}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


PHASES: Final[dict[str, Callable[[Person], bytes]]] = {
    "after-the-handshake": lambda _: b"",
    "in-the-head": lambda person: head(person, "GET /")[:-10],
    "while-the-application-thinks": lambda person: head(person, "GET /"),
    "in-an-upload": lambda person: (
        head(person, "POST /", "Content-Length: 10000000") + bytes(300_000)
    ),
    "in-a-chunked-upload": lambda person: (
        head(person, "POST /", "Transfer-Encoding: chunked") + b"ffff\r\n" + bytes(60_000)
    ),
    "in-a-download": lambda person: head(person, "GET /download"),
    "in-a-websocket": lambda person: head(
        person,
        "GET /ws",
        *UPGRADE,
        f"Origin: https://{public(person)}",
    ),
}
NOT_ASKED: Final = ("after-the-handshake", "in-the-head")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1)


@pytest.mark.parametrize("how", ["closed", "reset", "half-closed"])
async def test_a_client_that_leaves_at_any_moment_leaves_nothing_behind(
    clock: MockClock, hold: Hold, how: str
) -> None:
    """R-27: its application is let go within a second; tasks and descriptors are what they were."""
    slowest = 0.0
    async with (
        open_stack(debug_app=False, drain=False) as stack,
        open_fault_proxy(stack.port) as line,
    ):
        alice = await stack.user("alice")
        await alice.open("raw")
        app = Asked(stack)
        if how == "half-closed":
            stack.port = line.port

        async def leave(phase: str) -> float:
            """Leave in this phase; return how long the application was not let go, in seconds."""
            app.asked = trio.Event()
            tls = await stack.connect(stack.host("raw"))
            with trio.move_on_after(2):  # an upload that nobody reads to its end
                await tls.send_all(PHASES[phase](alice))
            if phase not in NOT_ASKED:
                await app.asked.wait()
            if phase == "in-a-download":
                await tls.receive_some(10_000)
            if how == "half-closed":  # on its way: the client itself notices nothing
                line.end(line.up)
                took = await until(is_left, f"it is let go: {phase}", 20)
                await trio.aclose_forcefully(tls)
                return took
            if how == "reset":
                assert isinstance(tls.transport, trio.SocketStream)
                tls.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            await trio.aclose_forcefully(tls)
            return await until(is_left, f"it is let go: {phase}", 20)

        async def is_left() -> bool:
            return app.left == app.begun

        clock.rate = RATE
        for phase in PHASES:  # what is made once is made now
            await leave(phase)
        await trio.sleep(10)  # connections to applications are kept for 2 s and looked at each 5
        tasks, descriptors = _tasks(), _descriptors()
        for _ in range(5):
            for phase in PHASES:
                slowest = max(slowest, await leave(phase))

        async def is_as_before() -> bool:
            return _tasks() <= tasks and _descriptors() <= descriptors

        took = await until(is_as_before, f"{tasks} tasks, {descriptors} descriptors", 30)

    # Who ends its side alone may still want the answer, if that comes within a moment.
    bar = LET_GO + (MOMENT if how == "half-closed" else 0) + BUSY * RATE
    hold(f"R-27 {how}: the application let go", slowest, "s", at_most=bar)
    hold(f"R-27 {how}: tasks and descriptors as before", took, "s", at_most=15)


# --- Rights that end -----------------------------------------------------------------------------------


async def by_lock(stack: Stack, person: Person) -> None:
    await stack.admin.create_lock(target=LockTarget(user=person.name), message="", ttl=0)


async def by_roles(stack: Stack, person: Person) -> None:
    await stack.admin.update_user(name=person.name, roles=("nothing",), traits=None)


async def by_deletion(stack: Stack, person: Person) -> None:
    await stack.admin.delete_user(name=person.name)


async def by_sign_out(stack: Stack, person: Person) -> None:
    await stack.api.sign_out(id=session_id(person.web))


WAYS: Final = (by_lock, by_roles, by_deletion, by_sign_out)


@pytest.mark.parametrize("people", [pytest.param(4, id="4"), pytest.param(25, id="25", marks=LONG)])
async def test_what_a_person_has_open_ends_when_they_may_no_longer_have_it(
    hold: Hold, people: int
) -> None:
    """WebSockets of people who are locked, lose their role, are deleted, or sign out: four of each."""
    took: list[float] = []
    async with open_stack(debug_app=False, drain=False) as stack:
        Upgrading(stack)
        await stack.admin.put_role(role=Role(name="nothing"))

        async def wait_for_the_end(websocket: TlsStream) -> None:
            await read_all(websocket)
            took.append(trio.current_time() - began)
            await trio.aclose_forcefully(websocket)

        for number in range(people):
            person = await stack.user(f"user-{number}")
            await person.open("raw")
            websockets = [await open_websocket(person) for _ in range(4)]
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for each in websockets:
                    nursery.start_soon(wait_for_the_end, each)
                nursery.start_soon(WAYS[number % len(WAYS)], stack, person)

    assert len(took) == 4 * people
    worst = sorted(took)[int(0.99 * (len(took) - 1))]
    hold(f"live streams of who may no longer, cut (p99 of {len(took)})", worst, "s", at_most=5)
