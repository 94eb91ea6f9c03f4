"""What goes through two real processes goes through as it is, at once, and leaves no trace in memory."""

from __future__ import annotations

import hashlib
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
    wrap_client_stream,
)

from tests.e2e.client import Client
from tests.e2e.harness import PASSWORD, Background, Cluster, wait_until
from tests.e2e.memory import Sampler
from tests.e2e.started_upstream import Upstream, start_upstream
from tests.e2e.upstream import MIB, blocks
from tests.figures import BUSY
from tests.ports import free_port

pytestmark = pytest.mark.e2e

GROWTH = 64 * MIB  # bytes that a transfer of any size may cost a process
SIZES = [
    pytest.param(128 * MIB, id="128MiB"),
    pytest.param(1024 * MIB, id="1GiB", marks=[pytest.mark.torture, pytest.mark.timeout(300)]),
]


@dataclass
class Place:
    """A cluster with two applications, `files` and `socket`, behind one agent."""

    cluster: Cluster
    agent: Background
    files: Upstream
    socket_port: int  # nothing listens there until a test does


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Place:
    files, socket_port = start_upstream(cluster), free_port()
    agent = cluster.start_agent_of(
        f"""\
app_service:
  enabled: yes
  apps:
  - {{name: files, uri: "{files.url}"}}
  - {{name: socket, uri: "http://127.0.0.1:{socket_port}"}}
"""
    )
    cluster.wait_for_app("socket", agent)
    return Place(cluster, agent, files, socket_port)


@pytest.fixture(scope="module")
def alice(place: Place) -> Client:
    person = place.cluster.signed_in("alice")
    assert person.open(place.cluster.app_url("files")).text == "hello"
    return person


# --- Large bodies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_large_download_arrives_whole_in_constant_memory(
    place: Place, alice: Client, size: int
) -> None:
    wanted = checksum(blocks(size))
    with Sampler(place.cluster.proxy, place.agent) as memory:
        start = time.monotonic()
        response, connection = alice.stream(
            "GET", place.cluster.app_url("files", f"/bytes?size={size}")
        )
        with connection:
            found = checksum(iter(lambda: response.read1(MIB), b""))
        took = time.monotonic() - start
    tell(memory, place, size, took)

    assert response.status == 200
    assert found == wanted
    assert max(memory.grown.values()) <= GROWTH


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_arrives_whole_in_constant_memory(
    place: Place, alice: Client, size: int, framing: str
) -> None:
    wanted = checksum(blocks(size))
    headers = {"Content-Length": str(size)} if framing == "length" else {}
    with Sampler(place.cluster.proxy, place.agent) as memory:
        start = time.monotonic()
        page = alice.request("POST", place.cluster.app_url("files", "/sum"), headers, blocks(size))
        took = time.monotonic() - start
    tell(memory, place, size, took)

    assert page.status == 200
    assert page.text == wanted
    assert max(memory.grown.values()) <= GROWTH


def checksum(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def tell(memory: Sampler, place: Place, size: int, took: float) -> None:
    """Print the figures; pytest shows them with -rP and when the test fails."""
    proxy, agent = (memory.grown[p.pid] / MIB for p in (place.cluster.proxy, place.agent))
    sys.stdout.write(
        f"{size / MIB / took:.0f} MiB/s; proxy grew by {proxy:.1f} MiB, agent by {agent:.1f}\n"
    )


# --- Events -----------------------------------------------------------------------------------------


def test_an_event_arrives_when_it_is_sent(place: Place, alice: Client) -> None:
    """Server-sent events, one a second: each is here within half a second of its sending."""
    response, connection = alice.stream("GET", place.cluster.app_url("files", "/events?n=5"))
    late = []
    with connection:
        while line := response.readline():
            if sent := re.fullmatch(rb"data: ([\d.]+)\n", line):
                late.append(time.time() - float(sent[1]))

    assert len(late) == 5
    assert max(late) < 0.5


# --- Who may ------------------------------------------------------------------------------------------


def test_nothing_of_a_person_without_a_role_reaches_the_application(place: Place) -> None:
    """They get a page that says so; the application sees no request, of whatever method."""
    url = place.cluster.app_url("files", "/secret")
    person = place.cluster.signed_in("mallory", "auditor")
    before = len(place.files.requests)

    page = person.open(url)
    posted = person.request("POST", url, {}, b"x")

    assert page.status == 403
    assert "mallory" in page.text
    assert posted.status in (401, 403)
    assert place.files.requests[before:] == []


def test_a_role_taken_away_counts_for_the_next_request_within_5_s(place: Place) -> None:
    """And once it is refused nothing reaches the application any more."""
    url = place.cluster.app_url("files", "/again")
    person = place.cluster.signed_in("bob")
    assert person.open(url).status == 200

    place.cluster.tell("users", "update", "--roles=auditor", "bob")
    wait_until(lambda: person.request("GET", url).status != 200, "a refusal")
    before = len(place.files.requests)

    assert 200 not in [person.request("GET", url).status for _ in range(3)]
    assert place.files.requests[before:] == []


def test_after_logout_the_old_cookie_opens_nothing(place: Place) -> None:
    url = place.cluster.app_url("files", "/")
    person = place.cluster.signed_in("carol")
    person.open(url)
    old = person.cookie_header(url)
    assert place.cluster.client().request("GET", url, {"Cookie": old}).status == 200

    person.open(place.cluster.app_url("files", "/teleport-logout"))

    assert person.cookie_header(url) == ""
    assert place.cluster.client().request("GET", url, {"Cookie": old}).status == 401


# --- WebSockets ------------------------------------------------------------------------------------


@dataclass
class Echo:
    """A WebSocket application: sends back what it gets; "bye" makes it close with 4002."""

    closed: trio.Event = field(default_factory=trio.Event)
    closed_with: int = 0

    async def serve(self, request: WebSocketRequest) -> None:
        connection = await request.accept()
        try:
            while True:
                message = await connection.get_message()
                if message == "bye":
                    await connection.aclose(4002, "as you wish")
                    return
                await connection.send_message(message)
        except ConnectionClosed as closed:
            self.closed_with = closed.reason.code if closed.reason else 0
            self.closed.set()


@asynccontextmanager
async def open_socket(place: Place, name: str) -> AsyncIterator[tuple[WebSocketConnection, Echo]]:
    """Sign in, open the application, and its WebSocket through proxy and agent."""
    echo = Echo()
    async with trio.open_nursery() as nursery:

        async def listen(*, task_status: trio.TaskStatus[object]) -> None:
            await serve_websocket(
                echo.serve,
                "127.0.0.1",
                place.socket_port,
                None,
                max_message_size=2 * MIB,
                task_status=task_status,
            )

        await nursery.start(listen)
        person = await trio.to_thread.run_sync(sign_in_to_socket, place, name)
        host = f"socket.{place.cluster.address}"
        url = place.cluster.app_url("socket")
        ca = await trio.to_thread.run_sync(place.cluster.ca)  # before the proxy counts the seconds
        tcp = await trio.open_tcp_stream("127.0.0.1", place.cluster.port)
        async with tcp:
            context = ssl.create_default_context(cafile=str(ca))
            tls = trio.SSLStream(
                tcp, context, server_hostname=host.partition(":")[0], https_compatible=True
            )
            with trio.fail_after(30):
                connection = await wrap_client_stream(
                    nursery,
                    tls,
                    host,
                    "/",
                    extra_headers=[
                        (b"cookie", person.cookie_header(url).encode()),
                        (b"origin", url.rstrip("/").encode()),
                    ],
                    max_message_size=2 * MIB,
                )
                yield connection, echo
        nursery.cancel_scope.cancel()


def sign_in_to_socket(place: Place, name: str) -> Client:
    """Return a client with a session for `socket`; what that application says to a plain GET is its affair."""
    link = place.cluster.add_user(name)
    person = place.cluster.client()
    person.sign_up(link, PASSWORD)
    person.open(place.cluster.app_url("socket"))
    return person


async def test_a_websocket_carries_messages_of_every_kind_and_size(place: Place) -> None:
    async with open_socket(place, "dave") as (connection, _):
        for message in (
            "text, ünïcode",
            b"\x00\xffbytes",
            b"",
            "a" * 300,
            bytes(MIB),
            "é" * 100_000,
        ):
            await connection.send_message(message)
            assert await connection.get_message() == message


async def test_a_websocket_s_end_and_its_code_pass_from_the_application(place: Place) -> None:
    async with open_socket(place, "erin") as (connection, _):
        await connection.send_message("bye")
        with pytest.raises(ConnectionClosed) as closed:
            await connection.get_message()

    assert closed.value.reason is not None
    assert (closed.value.reason.code, closed.value.reason.reason) == (4002, "as you wish")


async def test_a_websocket_s_end_and_its_code_pass_to_the_application(place: Place) -> None:
    async with open_socket(place, "frank") as (connection, echo):
        await connection.send_message("x")
        await connection.get_message()
        await connection.aclose(4001, "enough")
        with trio.fail_after(5 * BUSY):
            await echo.closed.wait()

    assert echo.closed_with == 4001


async def test_a_role_taken_away_closes_an_open_websocket_within_5_s(place: Place) -> None:
    """With 1008, policy violation, and a reason; it isn't just cut."""
    async with open_socket(place, "grace") as (connection, _):
        await connection.send_message("x")
        await connection.get_message()
        await trio.to_thread.run_sync(
            lambda: place.cluster.tell("users", "update", "--roles=auditor", "grace")
        )
        with trio.fail_after(5), pytest.raises(ConnectionClosed) as closed:
            await connection.get_message()

    assert closed.value.reason is not None
    assert closed.value.reason.code == 1008
    assert closed.value.reason.reason
