"""Crowds of people who are signed in: idle by the thousand, or reading slowly what has no end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest
import trio

from tests.e2e.client import Client
from tests.e2e.harness import DOMAIN, PASSWORD, Background, Cluster, start_cluster
from tests.e2e.memory import Sampler
from tests.e2e.upstream import MIB
from tests.figures import Hold
from tests.stack import read_answer
from tport.engine.net.tls_stream import TlsStream

pytestmark = pytest.mark.e2e

KIB = 1024
AT_ONCE = 50  # handshakes that are under way
PER_ADDRESS = 2500  # connections from one address, of the 4,000 that may be


async def serve(stream: trio.SocketStream) -> None:
    """Answer /endless with what has no end, and anything else with a word."""
    async with stream:
        try:
            while head := await stream.receive_some(65536):
                if not head.startswith(b"GET /endless "):
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                    continue
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**40)
                while True:
                    await stream.send_all(_ZEROS)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


_ZEROS = bytes(65536)


class Place:
    """A cluster with the application `app`, which runs in the test's own process, and alice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.host = f"app.{DOMAIN}"
        self.agent: Background | None = None
        self.alice: Client | None = None

    async def open(self, nursery: trio.Nursery) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        self.agent, self.alice = await trio.to_thread.run_sync(partial(self._start, port))

    def _start(self, port: int) -> tuple[Background, Client]:
        agent = self.cluster.start_agent("app", f"http://127.0.0.1:{port}")
        alice = self.cluster.signed_in("alice")
        assert alice.open(self.cluster.app_url("app")).text == "hello"
        return agent, alice

    async def ask(self, path: str, number: int, *, buffer: int = 0) -> TlsStream:
        """Send alice's request on a connection of its own, whose kernel takes at most so many bytes ahead."""
        assert self.alice is not None
        sock = trio.socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await sock.bind((f"127.0.3.{number // PER_ADDRESS}", 0))
        await sock.connect(("127.0.0.1", self.cluster.port))
        tls = TlsStream(
            trio.SocketStream(sock),
            self.alice.context,
            server_side=False,
            server_name=self.host,
            ragged_end=True,
        )
        await tls.do_handshake()
        cookie = self.alice.cookie_header(self.cluster.app_url("app"))
        head = f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nCookie: {cookie}\r\n\r\n"
        await tls.send_all(head.encode())
        return tls


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    # Kept for longer than it takes to open thousands of them on a busy machine.
    limits = "  limits: {idle_timeout: 30m}"
    with start_cluster(
        tmp_path_factory.mktemp("cluster"), proxy=limits, diagnostics=True
    ) as cluster:
        yield Place(cluster)


@pytest.mark.parametrize(
    ("count", "most"),
    [
        pytest.param(60, 40, id="60"),
        pytest.param(1000, 400, id="1000", marks=[pytest.mark.torture, pytest.mark.timeout(300)]),
    ],
)
async def test_dos_05_slow_readers_of_what_has_no_end_fill_no_memory(
    place: Place, count: int, most: int, hold: Hold
) -> None:
    """DOS-05: 1 KiB a second each; nothing on the way holds more of it than windows do. `most` is in MiB."""
    room = trio.CapacityLimiter(AT_ONCE)
    sent = trio.Event()
    asked = 0

    async def read_slowly(number: int) -> None:
        nonlocal asked
        async with room:
            tls = await place.ask("/endless", number, buffer=4 * KIB)
        asked += 1
        if asked == count:
            sent.set()
        try:
            while True:
                await tls.transport.receive_some(KIB)
                await trio.sleep(1)  # as slow as it says, in real time
        finally:
            await trio.aclose_forcefully(tls)

    async with trio.open_nursery() as nursery:
        await place.open(nursery)
        assert place.agent is not None
        with Sampler(place.cluster.proxy, place.agent) as memory:
            for number in range(count):
                nursery.start_soon(read_slowly, number)
            await sent.wait()
            await trio.sleep(5)  # until windows and buffers are full, in real time
            assert place.cluster.figure("tport_tunnel_streams") >= count
        nursery.cancel_scope.cancel()
    for name, process in (("proxy", place.cluster.proxy), ("agent", place.agent)):
        grown = memory.grown[process.pid] / MIB
        hold(f"DOS-05 {count} slow readers: {name}'s memory", grown, "MiB", at_most=most)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(400, id="400"),
        pytest.param(9000, id="9000", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
    ],
)
async def test_r_28_idle_connections_take_little_memory_and_nobodys_place(
    place: Place, count: int, hold: Hold
) -> None:
    """R-28, G27: each has shown a session and is kept for a next request; people sign in meanwhile."""
    room = trio.CapacityLimiter(AT_ONCE)
    idle: list[TlsStream] = []

    async def come(number: int) -> None:
        async with room:
            tls = await place.ask("/", number)
            assert (await read_answer(tls)).status == 200
            idle.append(tls)

    def sign_in() -> float:
        person = place.cluster.client()
        began = time.monotonic()
        page = person.open(f"{place.cluster.url}/web/login")
        page = person.submit(page, {"username": "alice", "password": PASSWORD})
        assert page.status == 200
        return time.monotonic() - began

    async with trio.open_nursery() as nursery:
        await place.open(nursery)
        proxy = place.cluster.proxy
        async with trio.open_nursery() as some:
            for number in range(100):  # what the first ones load is not theirs
                some.start_soon(come, number)
        before, first = proxy.rss(), len(idle)
        async with trio.open_nursery() as all_:
            for number in range(first, count):
                all_.start_soon(come, number)
        grown = proxy.rss() - before
        took = [await trio.to_thread.run_sync(sign_in) for _ in range(10)]
        still = place.cluster.figure('tport_connections{kind="browser"}')
        for tls in idle:
            await trio.aclose_forcefully(tls)
        nursery.cancel_scope.cancel()
    each = grown / (count - first) / KIB
    hold(f"G27 memory of each of {count} idle connections", each, "KiB", at_most=60)
    hold(f"R-28 {count} idle connections", grown / MIB, "MiB", at_most=600)
    hold(
        f"R-28 the slowest of 10 sign-ins beside {count} idle connections",
        max(took),
        "s",
        at_most=1 if count > 1000 else None,
    )
    assert still >= count, "none of them was ended"
