"""What is measured: the same questions, asked both ways in turn, so that a busy moment hits both."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Final, NamedTuple

import trio

from tport.engine.errors import ConnectionProblem, RemoteProtocolError, TportError
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.proto.framing import of_length
from tport.engine.proto.websocket_frames import BINARY, TEXT, FrameReader, write_frame
from tport.engine.selftest.failure import PathFailed, failure_in
from tport.engine.selftest.line import Answer, Line, Way, final_head, in_words, read_body
from tport.engine.selftest.payload import EVENTS, LARGEST_MESSAGE, checksum, pieces

WARM_UP: Final = 5  # requests each way that don't count: first ones make things ready
BUDGET: Final = 30.0  # s after which no further round begins
SLOWEST: Final = 1024 * 1024  # bytes/s that a transfer is waited for
MESSAGE: Final = b"a message as chats and notebooks send them"

Ways = Sequence[Way]


class Times(NamedTuple):
    """Seconds of one way, a sample each: until the head, and until the whole answer."""

    head: list[float]
    whole: list[float]


def check_answer(answer: Answer, peer: str) -> None:
    """Return when an answer is the application's own, and good.

    Raises:
        PathFailed: tport answered in its place.
        TportError: the status is another than 200.
    """
    if (failure := failure_in(answer.status, answer.headers, answer.body)) is not None:
        raise PathFailed(failure)
    if answer.status != 200:
        raise TportError(f"{peer} answered with status {answer.status}")


async def time_requests(ways: Ways, target: bytes, rounds: int) -> list[Times]:
    """GET `target` on a kept connection of each way, `rounds` times or until BUDGET is spent.

    Raises:
        PathFailed: tport answered in the application's place.
        TportError: the connection broke.
    """
    found = [Times([], []) for _ in ways]
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(Line(way)) for way in ways]
        for counts in _rounds(rounds):
            for line, times in zip(lines, found, strict=True):
                answer = await line.ask(target)
                if failure := failure_in(answer.status, answer.headers, answer.body):
                    raise PathFailed(failure)
                if counts:
                    times.head.append(answer.head_after)
                    times.whole.append(answer.after)
    return found


def _rounds(number: int) -> Iterator[bool]:
    """Yield for each round whether it counts: first the warm-up; none begins when BUDGET is spent."""
    end = trio.current_time() + BUDGET
    for _ in range(min(WARM_UP, number)):
        yield False
    for done in range(number):
        if done and trio.current_time() > end:
            return
        yield True


async def _good_head(connection: ClientConnection, peer: str, status: int = 200) -> None:
    """Receive the head of an answer; another status than this is told like `check_answer` does."""
    head = await final_head(connection)
    if head.status != status:
        body, whole = await read_body(connection) if head.status != 101 else (b"", True)
        check_answer(Answer(head.status, head.headers, body, whole, 0, 0), peer)
        raise TportError(f"{peer} answered with status {head.status} instead of {status}")


async def ask_once(way: Way, target: bytes) -> Answer:
    """GET `target` once."""
    async with Line(way) as line:
        return await line.ask(target)


# --- Events ------------------------------------------------------------------------------------


class Events(NamedTuple):
    """Seconds: each event's way from the application's sending to here; between two arrivals."""

    late: list[float]
    gaps: list[float]


async def time_events(ways: Ways, rounds: int) -> list[Events]:
    """Receive `/events`, which say when they were sent; this process sends them, by the same clock."""
    found = [Events([], []) for _ in ways]
    for _ in range(rounds):
        for way, events in zip(ways, found, strict=True):
            arrived = await _receive_events(way)
            events.late.extend(at - sent for sent, at in arrived)
            events.gaps.extend(later - earlier for (_, earlier), (_, later) in pairwise(arrived))
    return found


async def _receive_events(way: Way) -> list[tuple[float, float]]:
    """Return when each event was sent, and when it was here."""
    arrived: list[tuple[float, float]] = []
    async with Line(way) as line:
        with in_words(way.peer):
            connection = await line.send(b"GET", b"/events")
            await _good_head(connection, way.peer)
            buffer = b""
            while piece := await connection.receive_body():
                at = trio.current_time()
                *events, buffer = (buffer + piece).split(b"\n\n")
                arrived += [(_moment(event), at) for event in events]
    if len(arrived) != EVENTS:
        raise TportError(f"{len(arrived)} of {EVENTS} events arrived from {way.peer}")
    return arrived


def _moment(event: bytes) -> float:
    try:
        return float(event.removeprefix(b"data: "))
    except ValueError:
        raise RemoteProtocolError("an event was changed on its way") from None


# --- Transfers -----------------------------------------------------------------------------------


class Transfer(NamedTuple):
    """How long it took in seconds, and the SHA-256 of what arrived."""

    seconds: float
    checksum: str


async def download(way: Way, size: int) -> Transfer:
    """Receive `/bytes`, of which there are `size`, and keep none of them."""
    digest = hashlib.sha256()
    async with Line(way) as line:
        with in_words(way.peer, _patience(size)):
            await line.connected()
            start = trio.current_time()
            connection = await line.send(b"GET", b"/bytes")
            await _good_head(connection, way.peer)
            while piece := await connection.receive_body():
                digest.update(piece)
            took = trio.current_time() - start
    return Transfer(took, digest.hexdigest())


async def upload(way: Way, size: int) -> Transfer:
    """Send `size` bytes to `/sum`, which answers with their checksum."""
    async with Line(way) as line:
        with in_words(way.peer, _patience(size)):
            await line.connected()
            start = trio.current_time()
            connection = await line.send(b"POST", b"/sum", of_length(size))
            try:
                for piece in pieces(size):
                    await connection.send_body(piece)
                await connection.end_body()
            except UpstreamGone:
                pass  # it took no more; perhaps it says why
            await _good_head(connection, way.peer)
            body, _ = await read_body(connection)
            took = trio.current_time() - start
    return Transfer(took, body.decode("ascii", "replace"))


async def sent_checksum(size: int) -> str:
    """Return the checksum of `size` bytes as both ends make them. A second a GiB, in a thread."""

    def watched() -> Iterator[bytes]:
        for piece in pieces(size):
            trio.from_thread.check_cancelled()  # else nobody could stop it for so long
            yield piece

    return await trio.to_thread.run_sync(lambda: checksum(watched()))


def _patience(size: int) -> float:
    return 60 + size / SLOWEST


# --- WebSockets ------------------------------------------------------------------------------------


class Echoes(NamedTuple):
    """Seconds for a small message to come back, a sample each, and for the largest one."""

    small: list[float]
    large: float


async def time_echoes(ways: Ways, rounds: int) -> list[Echoes]:
    """Send messages through a WebSocket of each way in turn; each must come back as it was."""
    found: list[list[float]] = [[] for _ in ways]
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(_open_socket(way)) for way in ways]
        for counts in _rounds(rounds):
            for socket, samples in zip(sockets, found, strict=True):
                took = await socket.echo(TEXT, MESSAGE)
                if counts:
                    samples.append(took)
        large = secrets.token_bytes(LARGEST_MESSAGE)
        return [
            Echoes(samples, await socket.echo(BINARY, large))
            for socket, samples in zip(sockets, found, strict=True)
        ]


class _Socket:
    """An open WebSocket, a client's end."""

    def __init__(self, peer: str, stream: trio.abc.Stream, received: bytes) -> None:
        self._peer = peer
        self._stream = stream
        self._reader = FrameReader(LARGEST_MESSAGE)
        self._frames = self._reader.feed(received)

    async def echo(self, opcode: int, payload: bytes) -> float:
        """Send a message and return after how many seconds it was back."""
        with in_words(self._peer):
            start = trio.current_time()
            await self._stream.send_all(write_frame(opcode, payload, key=secrets.token_bytes(4)))
            while not self._frames:
                data = await self._stream.receive_some()
                if not data:
                    raise ConnectionProblem(f"{self._peer} closed the WebSocket")
                self._frames += self._reader.feed(bytes(data))
            took = trio.current_time() - start
        frame = self._frames.pop(0)
        if frame != (opcode, payload):
            raise RemoteProtocolError(
                f"a message of {len(payload)} bytes came back changed from {self._peer}"
            )
        return took


@asynccontextmanager
async def _open_socket(way: Way) -> AsyncIterator[_Socket]:
    headers = [
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", base64.b64encode(secrets.token_bytes(16))),
    ]
    if way.origin:
        headers.append((b"origin", way.origin))
    async with Line(way) as line:
        with in_words(way.peer):
            connection = await line.send(b"GET", b"/echo", upgrade=b"websocket", more=headers)
            await _good_head(connection, way.peer, 101)
        stream, received = connection.detach()
        yield _Socket(way.peer, stream, received)
