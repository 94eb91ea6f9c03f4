"""Connections until somebody serves them: without a task, each step in its time, and all of them closed."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.certs import Cluster
from tests.engine.net.test_tcp import pair
from tests.engine.pki.test_contexts import web_pair
from tests.engine.proto.test_client_hello import HELLO, hello_of
from tport.engine.defaults import (
    ALPN_TUNNEL,
    CLIENT_HELLO_DEADLINE,
    HANDSHAKE_DEADLINE,
    MAX_CLIENT_HELLO,
)
from tport.engine.errors import Unavailable
from tport.engine.net.http1 import Work
from tport.engine.net.seats import Room, Seat, Seats, closed_by_nobody
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.net.tls_stream import TlsStream
from tport.engine.pki.contexts import browser_context, https_context
from tport.engine.proto.client_hello import HTTPS_ONLY, ClientHello
from tport.engine.proto.forwarded import parse_network
from tport.engine.proxy.certificates import Certificates, Chosen, TakesWaiting
from tport.engine.proxy.clients import Clients
from tport.engine.proxy.doorstep import LOOK, Doorstep
from tport.engine.proxy.settings import ROOM

CLUSTER = Cluster()
SERVER = browser_context(web_pair(CLUSTER))
BROWSER = https_context(authorities=CLUSTER.web.trusted)
PEER = "192.0.2.7"
LINE = b"PROXY TCP4 203.0.113.9 127.0.0.1 51413 443\r\n"


class Shown:
    """Certificates: one, which is there at once, or when it is said so."""

    def __init__(self) -> None:
        self.is_there = True
        self.asked = trio.Event()
        self.made = trio.Event()

    def context_now(self, _: str | None) -> Chosen:
        if not self.is_there:
            raise TakesWaiting
        return Chosen(SERVER, True)

    async def context_for(self, _: str | None) -> Chosen:
        self.asked.set()
        await self.made.wait()
        return Chosen(SERVER, True)


class Rooms:
    """Notes who comes, and serves nobody."""

    def __init__(self) -> None:
        self.browsers: list[tuple[TlsStream, str | None, str]] = []
        self.closed: list[Callable[[], None]] = []
        self.by_task: list[Callable[[Work], None]] = []
        self.others: list[tuple[bytes, tuple[str, ...], str, bool]] = []
        self.abandoned = 0
        self.came = trio.Event()
        self.bug = False

    def open_browser(
        self,
        tls: TlsStream,
        seat: Seat,
        server_name: str | None,
        remote: str,
        *,
        hsts: bool,
        by_task: Callable[[Work], None],
        closed: Callable[[], None],
    ) -> Callable[[], None]:
        if self.bug:
            raise RuntimeError("a bug, put there by a test")
        assert hsts
        seat.end_if_resting = closed_by_nobody  # as if it asked for something
        self.browsers.append((tls, server_name, remote))
        self.closed.append(closed)
        self.by_task.append(by_task)
        self.came.set()
        return self._abandon

    def _abandon(self) -> None:
        self.abandoned += 1
        if self.bug:
            raise RuntimeError("a bug, put there by a test")

    async def serve_other(
        self,
        stream: PrefixedStream,
        seat: Seat,
        hello: ClientHello,
        remote: str,
        *,
        is_ours: bool,
    ) -> None:
        self.others.append((bytes(await stream.receive_some()), hello.alpn, remote, is_ours))
        self.came.set()


class Stage:
    """A doorstep, and clients that come to it."""

    def __init__(self, tasks: trio.Nursery, room: Room) -> None:
        self.shown = Shown()
        self.rooms = Rooms()
        self.tasks = tasks
        clients = Clients([parse_network("198.51.100.0/24")], proxy_protocol=True)
        self.seats = Seats(room, clock=trio.current_time)
        self.doorstep = Doorstep(self.seats, clients, cast("Certificates", self.shown), self.rooms)
        self.doorstep.begin(tasks)
        self.clients: list[TcpStream] = []

    def come(
        self, peer: str = PEER, make: Callable[[TcpStream], TcpStream] = lambda stream: stream
    ) -> TcpStream:
        ours, theirs = pair()
        self.clients.append(ours)
        seat = self.seats.take(peer)
        assert seat is not None
        self.doorstep.welcome(make(theirs), seat, peer)
        return ours

    async def shake(self, client: TcpStream) -> TlsStream:
        tls = TlsStream(client, BROWSER, server_side=False, server_name="proxy.test")
        with trio.fail_after(10):
            await tls.do_handshake()
            await self.rooms.came.wait()
        return tls


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@asynccontextmanager
async def staged(room: Room = ROOM) -> AsyncIterator[Stage]:
    async with trio.open_nursery() as tasks:
        stage = Stage(tasks, room)
        yield stage
        stage.doorstep.close()
        tasks.cancel_scope.cancel()
    stage.doorstep.close()
    assert len(stage.seats) == stage.doorstep.browsers == 0
    for client in stage.clients:
        client.close()


async def is_over(client: TcpStream) -> bool:
    """Tell whether the proxy has hung up, after all that it said."""
    await wait_all_tasks_blocked(0.01)
    try:
        while (data := client.receive_nowait()) is not None:
            if not data:
                return True
    except trio.BrokenResourceError:
        return True
    return False


async def test_a_browser_whose_certificate_is_there_needs_no_task(stage: Stage) -> None:
    client = stage.come()
    tls = await stage.shake(client)

    [(_, name, remote)] = stage.rooms.browsers
    assert (name, remote, tls.version) == ("proxy.test", PEER, "TLSv1.3")
    assert not stage.tasks.child_tasks
    assert stage.doorstep.browsers == 1


async def test_a_bug_in_the_end_of_one_connection_leaves_neither_it_nor_another_open(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [stage.come() for _ in range(3)]
    for client in clients:
        stage.rooms.came = trio.Event()
        await stage.shake(client)
    stage.rooms.bug = True
    stage.doorstep.close()

    assert stage.rooms.abandoned == 3
    assert [await is_over(client) for client in clients] == [True] * 3
    assert len(stage.seats) == stage.doorstep.browsers == 0
    assert "could not be given up" in caplog.text


async def test_a_hello_in_pieces_is_a_hello(stage: Stage) -> None:
    hello = hello_of("proxy.test", ["tport-auth/1"])
    client = stage.come()
    for byte in hello:
        assert not stage.rooms.others
        await client.send_all(bytes([byte]))
        await trio.lowlevel.checkpoint()
    with trio.fail_after(10):
        await stage.rooms.came.wait()

    assert stage.rooms.others == [(hello, ("tport-auth/1",), PEER, False)]


async def test_what_follows_a_hello_is_left_to_whoever_the_connection_is_for(stage: Stage) -> None:
    """TLS-04: what is read ahead goes to another process as one message, which has a largest size."""
    hello = hello_of(None, ["tport-tunnel/1"])
    client = stage.come()
    await client.send_all(hello + bytes(100_000))
    with trio.fail_after(10):
        await stage.rooms.came.wait()

    [(first, *_)] = stage.rooms.others
    assert first.startswith(hello)
    assert len(first) <= MAX_CLIENT_HELLO


async def test_dos_01_a_hello_has_5_s_however_it_trickles_in(mock_clock: MockClock) -> None:
    async with staged() as stage:
        client, silent = stage.come(), stage.come()
        for byte in HELLO[: int(CLIENT_HELLO_DEADLINE)]:
            assert not await is_over(client)
            assert not await is_over(silent)
            await client.send_all(bytes([byte]))
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(1)

        assert await is_over(client)
        assert await is_over(silent)
        assert len(stage.seats) == 0


async def test_dos_01_a_handshake_has_10_s_from_its_hello_on(mock_clock: MockClock) -> None:
    async with staged() as stage:
        client = stage.come()
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CLIENT_HELLO_DEADLINE - 1)
        await client.send_all(HELLO)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(HANDSHAKE_DEADLINE - 1)
        assert not await is_over(client)
        mock_clock.jump(1)

        assert await is_over(client)
        assert len(stage.seats) == 0


@pytest.mark.parametrize("sent", [b"", HELLO[:100], HELLO], ids=["nothing", "some", "all"])
async def test_who_leaves_leaves_nothing_behind(stage: Stage, sent: bytes) -> None:
    client = stage.come()
    await client.send_all(sent)
    await wait_all_tasks_blocked(0.01)
    assert len(stage.seats) == 1
    await client.aclose()
    await wait_all_tasks_blocked(0.01)

    assert len(stage.seats) == 0


async def test_plain_http_is_told_and_garbage_is_not(stage: Stage) -> None:
    http, garbage = stage.come(), stage.come()
    await http.send_all(b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
    await garbage.send_all(b"SSH-2.0-OpenSSH_9\r\n")

    assert await http.receive_some() == HTTPS_ONLY
    assert await garbage.receive_some() == b""


async def test_who_asks_for_a_certificate_that_is_not_there_waits_for_it_alone(
    stage: Stage,
) -> None:
    stage.shown.is_there = False
    client = stage.come()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.shake, client)
        await stage.shown.asked.wait()
        stage.shown.is_there = True
        await stage.shake(stage.come())
        assert len(stage.rooms.browsers) == 1
        stage.shown.made.set()
    await wait_all_tasks_blocked(0.01)

    assert len(stage.rooms.browsers) == 2
    assert not stage.tasks.child_tasks


async def test_a_client_that_has_no_room_for_our_hello_is_waited_for(stage: Stage) -> None:
    class Narrow(TcpStream):
        """Room for 100 bytes, and then again when somebody waits for it."""

        def send_nowait(self, data: bytes | bytearray | memoryview) -> bool:
            sent = super().send_nowait(data[:100])
            self._unsent += bytes(data[100:])
            return sent and len(data) <= 100

    def narrow(stream: TcpStream) -> TcpStream:
        stream.disown()
        return Narrow(stream.socket)

    client = stage.come(make=narrow)
    await stage.shake(client)

    assert len(stage.rooms.browsers) == 1


async def test_a_handshake_that_fails_is_told_why(stage: Stage) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    tls = TlsStream(stage.come(), old, server_side=False)

    with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
        await tls.do_handshake()
    await tls.aclose()
    await wait_all_tasks_blocked(0.01)
    assert len(stage.seats) == 0


async def test_a_bug_ends_one_connection_and_is_not_silent(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.rooms.bug = True
    client = stage.come()
    tls = TlsStream(client, BROWSER, server_side=False, server_name="proxy.test")
    await tls.do_handshake()

    assert await is_over(client)
    assert "a bug, put there by a test" in caplog.text
    assert len(stage.seats) == stage.doorstep.browsers == 0


async def test_a_bug_in_a_task_ends_one_connection_and_is_not_silent(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.shake(stage.come())

    async def work() -> bool:
        raise RuntimeError("a bug, put there by a test")

    stage.rooms.by_task[0](work)
    await wait_all_tasks_blocked(0.01)
    assert "a bug, put there by a test" in caplog.text
    assert len(stage.seats) == stage.doorstep.browsers == 0


async def test_who_needed_a_task_goes_on_without_one_or_is_closed(stage: Stage) -> None:
    client = stage.come()
    await stage.shake(client)

    async def goes_on() -> bool:
        return True

    async def is_at_its_end() -> bool:
        return False

    stage.rooms.by_task[0](goes_on)
    await wait_all_tasks_blocked(0.01)
    assert len(stage.seats) == 1
    stage.rooms.by_task[0](is_at_its_end)
    await wait_all_tasks_blocked(0.01)
    assert len(stage.seats) == 0
    assert await is_over(client)


async def test_what_another_process_took_is_served_with_what_came_before(stage: Stage) -> None:
    hello = hello_of(None, ["tport-tunnel/1"])
    ours, theirs = pair()
    async with ours:
        stage.doorstep.welcome_handed(theirs, "203.0.113.9", hello)
        await stage.rooms.came.wait()

    assert stage.rooms.others == [(hello, ("tport-tunnel/1",), "203.0.113.9", True)]


async def test_tls_12_who_is_behind_a_balancer_has_its_own_5_s_and_address(
    mock_clock: MockClock,
) -> None:
    async with staged() as stage:
        client = stage.come("198.51.100.1")
        await client.send_all(LINE[:10])
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CLIENT_HELLO_DEADLINE - 1)
        await client.send_all(LINE[10:])
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CLIENT_HELLO_DEADLINE - 1)
        await stage.shake(client)

        assert stage.rooms.browsers[0][2] == "203.0.113.9"
        late = stage.come("198.51.100.1")
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CLIENT_HELLO_DEADLINE)
        assert await is_over(late)


async def test_dos_02_who_still_shakes_hands_makes_room_for_who_comes() -> None:
    room = Room(connections=2, per_address=2, strangers=2, strangers_per_address=2)
    async with staged(room) as stage:
        greeting, shaking = stage.come(), stage.come()
        await shaking.send_all(HELLO)
        await wait_all_tasks_blocked(0.01)
        await stage.shake(stage.come())
        assert await is_over(greeting)
        stage.come()
        assert await is_over(shaking)

        assert len(stage.seats) == 2


async def said_anything(client: TcpStream) -> bool:
    """Tell whether the proxy has begun to shake hands."""
    await wait_all_tasks_blocked(0.01)
    return bool(client.receive_nowait())


def paced(at_once: int) -> Room:
    """Room for many, of whom one a second may come from an address after so many at once."""
    return Room(
        connections=99,
        per_address=99,
        strangers=99,
        strangers_per_address=at_once,
        grace=60,
        new_per_address=1,
    )


async def test_dos_01_strangers_of_an_address_shake_hands_so_often_a_second_and_no_more(
    mock_clock: MockClock,
) -> None:
    """Those who wait are told nothing, and cost nothing; once somebody is known there, they go on."""
    async with staged(paced(2)) as stage:
        clients = [stage.come() for _ in range(5)]
        for client in clients:
            await client.send_all(HELLO)
        assert [await said_anything(client) for client in clients] == [True] * 2 + [False] * 3
        mock_clock.jump(1)
        await wait_all_tasks_blocked(0.01)
        assert [await said_anything(client) for client in clients[2:]] == [True, False, False]

        await stage.shake(stage.come("203.0.113.9"))
        seat = stage.seats.take(PEER)
        assert seat is not None
        seat.recognise()
        mock_clock.jump(LOOK)
        await wait_all_tasks_blocked(0.01)
        assert [await said_anything(client) for client in clients[3:]] == [True, True]
        seat.leave()


async def test_dos_01_a_tunnel_waits_for_its_turn_as_well(mock_clock: MockClock) -> None:
    """Its handshake is no cheaper."""
    async with staged(paced(1)) as stage:
        for _ in range(2):
            await stage.come().send_all(hello_of(None, [ALPN_TUNNEL]))
        await wait_all_tasks_blocked(0.01)
        assert len(stage.rooms.others) == 1
        mock_clock.jump(1)
        await wait_all_tasks_blocked(0.01)
        assert len(stage.rooms.others) == 2


async def test_dos_01_who_waits_for_a_turn_is_closed_with_all_others(mock_clock: MockClock) -> None:
    async with staged(paced(1)) as stage:
        clients = [stage.come() for _ in range(2)]
        for client in clients:
            await client.send_all(HELLO)
        await wait_all_tasks_blocked(0.01)
        stage.doorstep.close()
        mock_clock.jump(1)
        assert [await is_over(client) for client in clients] == [True, True]


async def test_tls_12_an_address_behind_a_balancer_has_no_more_than_its_share() -> None:
    room = Room(connections=9, per_address=1, strangers=9, strangers_per_address=1)
    async with staged(room) as stage:
        first, second = stage.come("203.0.113.9"), stage.come("198.51.100.1")
        await stage.shake(first)
        await second.send_all(LINE)

        assert await is_over(second)
        assert not await is_over(first)


async def test_dos_02_who_waits_for_a_certificate_makes_room_and_is_served_no_more() -> None:
    room = Room(connections=1, per_address=1, strangers=1, strangers_per_address=1)
    async with staged(room) as stage:
        stage.shown.is_there = False
        waiting = stage.come()
        await waiting.send_all(HELLO)
        await stage.shown.asked.wait()
        stage.come()
        assert await is_over(waiting)
        stage.shown.made.set()
        await wait_all_tasks_blocked(0.01)

        assert stage.rooms.browsers == []
        assert len(stage.seats) == 1


async def test_what_a_browser_asks_for_once_all_are_closed_is_not_begun(stage: Stage) -> None:
    async def work() -> bool:
        raise AssertionError("begun")

    client = stage.come()
    await stage.shake(client)
    stage.doorstep.close()
    stage.rooms.by_task[0](work)

    assert not stage.tasks.child_tasks
    assert await is_over(client)


async def test_all_are_closed_in_the_end_and_whoever_served_them_is_told(stage: Stage) -> None:
    greeting, shaking, browser = stage.come(), stage.come(), stage.come()
    await shaking.send_all(HELLO)
    await stage.shake(browser)
    stage.doorstep.close()

    assert len(stage.seats) == 0
    assert stage.rooms.abandoned == 1
    for client in (greeting, shaking, browser):
        assert await is_over(client)


async def test_dos_02_what_another_process_took_finds_no_more_room_than_what_comes_here() -> None:
    room = Room(connections=1, per_address=1, strangers=1, strangers_per_address=1)
    async with staged(room) as stage:
        browser = stage.come("203.0.113.9")
        await stage.shake(browser)
        ours, theirs = pair()
        async with ours:
            stage.doorstep.welcome_handed(theirs, "203.0.113.9", HELLO)
            assert await is_over(ours)

        assert not await is_over(browser)


async def test_it_is_quiet_once_the_last_browser_has_left(stage: Stage) -> None:
    first, second = stage.come(), stage.come()
    await stage.shake(first)
    stage.rooms.came = trio.Event()
    await stage.shake(second)
    async with trio.open_nursery() as nursery:
        quiet = trio.Event()

        async def wait() -> None:
            await stage.doorstep.until_quiet()
            quiet.set()

        nursery.start_soon(wait)
        for closed in stage.rooms.closed:
            await wait_all_tasks_blocked(0.01)
            assert not quiet.is_set()
            closed()
        with trio.fail_after(5):
            await quiet.wait()


async def test_what_we_could_not_do_for_a_connection_is_a_warning(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no client's fault, and no bug."""

    async def away(_: str | None) -> Chosen:
        await trio.lowlevel.checkpoint()
        raise Unavailable("auth is away")

    stage.shown.is_there = False
    monkeypatch.setattr(stage.shown, "context_for", away)
    client = stage.come()
    await client.send_all(HELLO)

    assert await is_over(client)
    [said] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said.message == "a connection could not be served: auth is away"
