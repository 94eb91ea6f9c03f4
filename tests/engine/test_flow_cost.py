"""How often tasks are scheduled for what goes on and on: as `test_cost`, for WebSockets and bodies.

A piece that comes wakes no task, neither on its way up nor down: only waiting for sockets does.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import pytest
import trio

from tests.engine.test_cost import Cost, assert_costs_at_most, connect
from tests.stack import Person, open_stack
from tport.engine.proto.websocket import accept_key
from tport.engine.types.app import App

# What is measured, and some room. Lower them with what makes the path shorter.
MOST_OF_A_TRIP: Final = Cost(steps=5, waits=5, calls=350)
MOST_OF_16: Final = Cost(
    steps=1, waits=1, calls=140
)  # that send at the same time: 4 steps and more if they wake a task each
MOST_OF_A_MIB: Final = Cost(steps=18, waits=16, calls=3000)

TRIPS: Final = 320
MIB: Final = 1 << 20
BULK: Final = 16 * MIB
KEY: Final = b"AAAAAAAAAAAAAAAAAAAAAA=="
MESSAGE: Final = bytes((0x81, 64)) + b"m" * 64  # without a mask, as the application sends it back
SWITCH: Final = b"".join(
    (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Sec-WebSocket-Accept: ",
        accept_key(KEY),
        b"\r\n\r\n",
    )
)


class _Application(socketserver.BaseRequestHandler):
    """Echoes after an upgrade; sends BULK bytes for GET; drops as many for POST."""

    def handle(self) -> None:
        data = b""
        while piece := self.request.recv(65536):
            data += piece
            head, found, body = data.partition(b"\r\n\r\n")
            if not found:
                continue
            if b"websocket" in head.lower():
                self._echo(body)
            elif head.startswith(b"POST"):
                left = BULK - len(body)
                while left:
                    left -= len(self.request.recv(65536))
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            else:
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BULK)
                self.request.sendall(bytes(BULK))
            data = b""

    def _echo(self, data: bytes) -> None:
        self.request.sendall(SWITCH)
        while data or (data := self.request.recv(65536)):
            self.request.sendall(data)
            data = b""


@contextmanager
def application() -> Iterator[int]:
    """Serve in threads; gives the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Application) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def head_of(sock: socket.socket) -> bytes:
    """Read the head of an answer to its end, and no further."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    return head


def upgrade(socks: Sequence[socket.socket], request: bytes) -> None:
    for sock in socks:
        sock.sendall(request)
        assert head_of(sock).startswith(b"HTTP/1.1 101 ")


def exchange(socks: Sequence[socket.socket], times: int) -> None:
    """Send a message on each, and wait until all have come back; and again, so often."""
    for _ in range(times):
        for sock in socks:
            sock.sendall(MESSAGE)
        for sock in socks:
            back = b""
            while len(back) < len(MESSAGE):
                piece = sock.recv(65536)
                assert piece, back
                back += piece
            assert back == MESSAGE


def download(sock: socket.socket, request: bytes) -> None:
    sock.sendall(request)
    assert head_of(sock).startswith(b"HTTP/1.1 200 ")
    left = BULK
    while left:
        piece = sock.recv(65536)
        assert piece, left
        left -= len(piece)


def upload(sock: socket.socket, request: bytes) -> None:
    sock.sendall(request)
    sock.sendall(bytes(BULK))
    assert head_of(sock).startswith(b"HTTP/1.1 200 ")


@asynccontextmanager
async def _opened(
    connections: int, method: str, *more: str
) -> AsyncIterator[tuple[list[socket.socket], bytes]]:
    """Give connections of somebody who may open the application, and the request to be sent on them."""
    with application() as port:
        plain = App(name="plain", uri=f"http://127.0.0.1:{port}")
        async with open_stack(apps=[plain], debug_app=False) as stack:
            alice = await stack.user("alice")
            host, cookie = stack.host("plain"), await _cookie(alice)
            own = f"{host}:{stack.port}"
            lines = [f"{method} / HTTP/1.1", f"Host: {own}", f"Origin: https://{own}"]
            request = "\r\n".join([*lines, f"Cookie: {cookie}", *more, "", ""]).encode()
            socks = await trio.to_thread.run_sync(
                connect, host, stack.port, stack.context(), connections
            )
            yield socks, request
            for sock in socks:
                sock.close()


async def _cookie(person: Person) -> str:
    await person.open("plain")
    return person.cookie("plain")


@pytest.mark.parametrize(("connections", "most"), [(1, MOST_OF_A_TRIP), (16, MOST_OF_16)])
async def test_a_message_wakes_no_task_on_its_way(connections: int, most: Cost) -> None:
    times = TRIPS // connections
    more = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    async with _opened(connections, "GET", *more, f"Sec-WebSocket-Key: {KEY.decode()}") as opened:
        socks, request = opened
        await trio.to_thread.run_sync(upgrade, socks, request)
        await trio.to_thread.run_sync(exchange, socks, 10)
        await assert_costs_at_most(most, partial(exchange, socks, times), TRIPS)


@pytest.mark.parametrize(
    ("method", "more", "move"),
    [("GET", "X-Nothing: x", download), ("POST", f"Content-Length: {BULK}", upload)],
)
async def test_a_body_takes_few_steps(
    method: str, more: str, move: Callable[[socket.socket, bytes], None]
) -> None:
    async with _opened(1, method, more) as ((sock,), request):
        await trio.to_thread.run_sync(move, sock, request)
        await assert_costs_at_most(MOST_OF_A_MIB, partial(move, sock, request), BULK // MIB)
