"""Bodies of every kind go through proxy and agent as they come: nothing waits, is joined, or is made up.

The applications here answer byte by byte, over real sockets; the client reads with plain means.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from tests.figures import BUSY
from tests.stack import Person, Stack, open_stack, read_all, read_answer
from tport.engine.net.tls_stream import TlsStream

TYPES = (
    "text/html",
    "text/event-stream",
    "application/json",
    "application/octet-stream",
    "application/grpc-web+proto",
)
APART = 0.5  # s between two chunks
EVENTS = 10_000
MIB = 1024 * 1024
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    person = await stack.user("alice")
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
    assert (await person.get("raw")).status == 200  # signed in, and known to speak plain HTTP
    stack.raw_app.heads.clear()
    return person


def head(alice: Person, line: str, *headers: str) -> bytes:
    stack = alice.stack
    lines = [line, f"Host: {stack.host('raw')}:{stack.port}", f"Cookie: {alice.cookie('raw')}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def get(alice: Person, target: str = "/", *headers: str) -> bytes:
    return head(alice, f"GET {target} HTTP/1.1", *headers)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Body:
    """An answer's body, chunk by chunk."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def head(self) -> bytes:
        return await self._until(b"\r\n\r\n")

    async def byte(self) -> bytes:
        while not self._data:
            await self._more()
        byte = bytes(self._data[:1])
        del self._data[:1]
        return byte

    async def piece(self) -> bytes:
        """Return the next chunk's data; b"": the last one was before it."""
        size = int(await self._until(b"\r\n"), 16)
        if not size:
            assert await self._until(b"\r\n") == b""  # no field, that is: trailers are dropped
            return b""
        while len(self._data) < size + 2:
            await self._more()
        piece = bytes(self._data[:size])
        del self._data[: size + 2]
        return piece

    async def rest(self) -> bytes:
        whole = bytearray()
        while piece := await self.piece():
            whole += piece
        return bytes(whole)

    async def _until(self, mark: bytes) -> bytes:
        while (end := self._data.find(mark)) < 0:
            await self._more()
        line = bytes(self._data[:end])
        del self._data[: end + len(mark)]
        return line

    async def _more(self) -> None:
        data = await self._stream.receive_some()
        if not data:
            raise EOFError("the answer was cut short")
        self._data += data


# --- Down: nothing waits --------------------------------------------------------------------------


async def test_chunks_sent_half_a_second_apart_arrive_half_a_second_apart(
    stack: Stack, alice: Person
) -> None:
    """Real time, all content types at once."""

    async def script(stream: trio.SocketStream) -> None:
        asked = await stack.raw_app.take_head(stream)
        kind = asked.split()[1][1:]
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: %s\r\n\r\n" % kind
        )
        await stream.send_all(chunk(b"one"))
        await heard[kind.decode()].wait()
        await trio.sleep(APART)
        await stream.send_all(chunk(b"two") + b"0\r\n\r\n")

    heard = {kind: trio.Event() for kind in TYPES}
    gaps: dict[str, float] = {}

    async def ask(kind: str) -> None:
        async with await stack.connect(stack.host("raw")) as tls:
            await tls.send_all(get(alice, f"/{kind}"))
            body = Body(tls)
            assert f"content-type: {kind}" in (await body.head()).decode().lower()
            assert await body.piece() == b"one"
            first = trio.current_time()
            heard[kind].set()
            assert await body.rest() == b"two"
            gaps[kind] = trio.current_time() - first

    stack.raw_app.script = script
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for kind in TYPES:
                nursery.start_soon(ask, kind)

    assert gaps.keys() == set(TYPES)
    assert {kind: gap for kind, gap in gaps.items() if not APART <= gap < APART + BUSY} == {}


@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
@pytest.mark.parametrize("kind", TYPES)
async def test_a_byte_is_passed_on_before_the_next_one_exists(
    stack: Stack, alice: Person, kind: str, framing: str
) -> None:
    """The application sends each byte only when the client has read the one before it."""
    arrived = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        nonlocal arrived
        await stack.raw_app.take_head(stream)
        framed = {
            "chunked": "Transfer-Encoding: chunked\r\n",
            "length": "Content-Length: 5\r\n",
            "until close": "",
        }[framing]
        await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framed}\r\n".encode())
        for letter in b"hello":
            byte = bytes([letter])
            await stream.send_all(chunk(byte) if framing == "chunked" else byte)
            await arrived.wait()
            arrived = trio.Event()
        if framing == "chunked":
            await stream.send_all(b"0\r\n\r\n")

    stack.raw_app.script = script
    with trio.fail_after(10):
        async with await stack.connect(stack.host("raw")) as tls:
            await tls.send_all(get(alice))
            body = Body(tls)
            await body.head()
            said = b""
            for _ in range(5):
                said += await (body.byte() if framing == "length" else body.piece())
                arrived.set()

    assert said == b"hello"


async def test_ten_thousand_events_arrive_in_order(stack: Stack, alice: Person) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(EVENTS):
            await stream.send_all(chunk(b"id: %d\ndata: event %d\n\n" % (number, number)))
        await stream.send_all(b"0\r\n\r\n")

    stack.raw_app.script = script
    with trio.fail_after(60):
        async with await stack.connect(stack.host("raw")) as tls:
            await tls.send_all(get(alice, "/", "Accept: text/event-stream", "Last-Event-ID: 7"))
            body = Body(tls)
            first = (await body.head()).lower()
            events = (await body.rest()).split(b"\n\n")

    assert b"content-type: text/event-stream" in first
    assert b"content-length" not in first
    assert events == [b"id: %d\ndata: event %d" % (n, n) for n in range(EVENTS)] + [b""]
    assert b"last-event-id: 7" in stack.raw_app.heads[0].lower()


# --- Answers without a body, before the last, with more than a body -----------------------------------


@pytest.mark.parametrize(
    ("method", "answer", "told"),
    [
        ("HEAD", b"200 OK\r\nContent-Length: 123456", ["123456"]),
        ("HEAD", b"200 OK\r\nTransfer-Encoding: chunked", []),
        ("GET", b"204 No Content", []),
        ("DELETE", b"204 No Content", []),
        ("GET", b'304 Not Modified\r\nETag: "a"\r\nContent-Length: 5', ["5"]),
        ("GET", b'304 Not Modified\r\nETag: "a"', []),
        ("GET", b"205 Reset Content\r\nContent-Length: 0", ["0"]),
        ("POST", b"201 Created\r\nContent-Length: 0", ["0"]),
    ],
    ids=str,
)
async def test_an_answer_without_a_body_ends_where_it_ends(
    stack: Stack, alice: Person, method: str, answer: bytes, told: Sequence[str]
) -> None:
    """And the next request on either connection is answered too."""

    async def script(stream: trio.SocketStream) -> None:
        while await stack.raw_app.take_head(stream):
            await stream.send_all(b"HTTP/1.1 " + answer + b"\r\n\r\n")

    stack.raw_app.script = script
    connections = stack.raw_app.connections
    with trio.fail_after(10):
        async with await stack.connect(stack.host("raw")) as tls:
            for _ in range(3):
                await tls.send_all(head(alice, f"{method} / HTTP/1.1"))
                got = await read_answer(tls, method=method)

                assert (got.status, got.body) == (int(answer[:3]), b"")
                assert got.all("content-length") == told
    assert stack.raw_app.connections == connections + 1


async def test_answers_before_the_last_are_passed_on_in_order(stack: Stack, alice: Person) -> None:
    hints = (
        b"HTTP/1.1 102 Processing\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 199 Odd\r\nX-Odd: 1\r\n\r\n"
    )
    stack.raw_app.answers(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")

    async with await stack.connect(stack.host("raw")) as tls:
        await tls.send_all(get(alice, "/", "Connection: close"))
        said = (await read_all(tls)).split(b"\r\n\r\n")

    statuses = [int(part.split()[1]) for part in said[:-1]]
    assert statuses == [102, 103, 103, 199, 200]
    assert b"</a.css>" in said[1]
    assert b"</b.css>" in said[2]
    assert said[-1] == b"last"


async def test_a_client_of_http_1_0_gets_the_last_answer_alone(stack: Stack, alice: Person) -> None:
    """RFC 9110 §15.2: it knows no other."""
    stack.raw_app.answers(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlast\r\n0\r\n\r\n"
    )

    async with await stack.connect(stack.host("raw")) as tls:
        await tls.send_all(head(alice, "GET / HTTP/1.0"))
        said = await read_all(tls)

    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\nlast")


async def test_trailers_of_an_answer_are_dropped_and_nothing_else(
    stack: Stack, alice: Person
) -> None:
    """gRPC-Web has its own in the body, therefore."""
    trailers = b"\x80\x00\x00\x00\x0fgrpc-status:0\r\n"

    async def script(stream: trio.SocketStream) -> None:
        while await stack.raw_app.take_head(stream):
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\n"
                b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                + chunk(trailers)
                + b"0\r\nX-Sum: 1\r\nSet-Cookie: late=1\r\n\r\n"
            )

    stack.raw_app.script = script
    with trio.fail_after(10):
        async with await stack.connect(stack.host("raw")) as tls:
            for _ in range(2):
                await tls.send_all(get(alice))
                body = Body(tls)
                first = (await body.head()).lower()
                assert await body.rest() == trailers  # which takes no field after the last chunk
                assert b"trailer:" not in first


async def test_parts_of_a_file_are_the_application_s_to_cut(stack: Stack, alice: Person) -> None:
    parts = b"--x\r\nContent-Range: bytes 0-1/10\r\n\r\nab\r\n--x--\r\n"
    answers = {
        b"bytes=2-4": b"206 Partial Content\r\nContent-Range: bytes 2-4/10\r\n"
        b"Content-Length: 3\r\n\r\ncde",
        b"bytes=0-1,5-6": b"206 Partial Content\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/byteranges; boundary=x\r\n\r\n%s" % (len(parts), parts),
        b"bytes=99-": b"416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\n"
        b"Content-Length: 0\r\n\r\n",
    }

    async def script(stream: trio.SocketStream) -> None:
        while asked := await stack.raw_app.take_head(stream):
            wanted = asked.lower().partition(b"\r\nrange: ")[2].partition(b"\r\n")[0]
            await stream.send_all(b"HTTP/1.1 " + answers[wanted])

    stack.raw_app.script = script
    got = [
        await alice.get("raw", "/file", Range=wanted.decode(), **{"If-Range": '"v1"'})
        for wanted in answers
    ]

    assert [answer.status for answer in got] == [206, 206, 416]
    assert [answer.body for answer in got] == [b"cde", parts, b""]
    assert got[0].header("content-range") == "bytes 2-4/10"
    assert got[1].header("content-type") == "multipart/byteranges; boundary=x"
    assert got[2].header("content-range") == "bytes */10"
    assert all(b'if-range: "v1"' in each.lower() for each in stack.raw_app.heads)


# --- Up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("size", [0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, MIB, 8 * MIB])
async def test_an_upload_of_any_size_arrives_as_it_was(
    stack: Stack, alice: Person, size: int, framing: str
) -> None:
    data = random.Random(size).randbytes(size)
    pieces = [data[start : start + 100_000] for start in range(0, size, 100_000)]
    if framing == "chunked":
        header, body = CHUNKED, b"".join(map(chunk, pieces)) + b"0\r\n\r\n"
    else:
        header, body = f"Content-Length: {size}", data
    kind = "Content-Type: application/grpc-web+proto"
    received = bytearray()

    async def script(stream: trio.SocketStream) -> None:
        asked = await stack.raw_app.take_head(stream)
        first, _, rest = asked.partition(b"\r\n\r\n")
        assert (CHUNKED.lower().encode() in first.lower()) == (framing == "chunked")
        received.extend(rest)
        while len(received) < size if framing == "length" else not received.endswith(b"0\r\n\r\n"):
            received.extend(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    stack.raw_app.script = script
    answer = await stack.raw(stack.host("raw"), head(alice, "POST / HTTP/1.1", kind, header) + body)

    assert (answer.status, answer.body) == (200, b"done")
    found = bytes(received) if framing == "length" else unchunked(bytes(received))
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


def unchunked(data: bytes) -> bytes:
    whole, position = bytearray(), 0
    while True:
        line_end = data.index(b"\r\n", position)
        size = int(data[position:line_end], 16)
        if not size:
            assert data[line_end:] == b"\r\n\r\n"
            return bytes(whole)
        whole += data[line_end + 2 : line_end + 2 + size]
        position = line_end + 2 + size + 2


async def test_request_and_answer_may_be_under_way_at_the_same_time(
    stack: Stack, alice: Person
) -> None:
    """Each piece of the answer comes before the next piece of the request is sent."""

    async def script(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while b"0\r\n\r\n" not in (data := await stream.receive_some()):
            await stream.send_all(chunk(data))
        await stream.send_all(b"0\r\n\r\n")

    stack.raw_app.script = script
    with trio.fail_after(10):
        async with await stack.connect(stack.host("raw")) as tls:
            await tls.send_all(head(alice, "POST / HTTP/1.1", CHUNKED))
            body = Body(tls)
            await body.head()
            for word in (b"one", b"two", b"three"):
                await tls.send_all(chunk(word))
                heard = b""
                while word not in heard:
                    heard += await body.piece()
            await tls.send_all(b"0\r\n\r\n")
            assert await body.rest() == b""


async def test_who_waits_to_be_asked_for_a_body_is_asked_once(stack: Stack, alice: Person) -> None:
    """Though the application asks as well."""

    async def script(stream: trio.SocketStream) -> None:
        asked = await stack.raw_app.take_head(stream)
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not asked.endswith(b"body"):
            asked += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")

    stack.raw_app.script = script
    async with await stack.connect(stack.host("raw")) as tls:
        wanted = ("Expect: 100-continue", "Content-Length: 4", "Connection: close")
        await tls.send_all(head(alice, "PUT / HTTP/1.1", *wanted))
        first = await read_answer(tls)
        await tls.send_all(b"body")
        said = await read_all(tls)

    assert first.status == 100
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 1


# --- Ends ---------------------------------------------------------------------------------------------


async def test_when_the_client_leaves_the_application_is_let_go(
    stack: Stack, alice: Person
) -> None:
    left = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await stream.send_all(chunk(b"x" * 1000))
        finally:
            left.set()

    stack.raw_app.script = script
    with trio.fail_after(10):
        tls = await stack.connect(stack.host("raw"))
        async with tls:
            await tls.send_all(get(alice))
            body = Body(tls)
            await body.head()
            await body.piece()
        await left.wait()


@pytest.mark.parametrize(
    "answer",
    [
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"Content-Length: 10\r\n\r\nhello",
    ],
)
async def test_half_an_answer_never_looks_whole(stack: Stack, alice: Person, answer: bytes) -> None:
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\n" + answer)

    async with await stack.connect(stack.host("raw")) as tls:
        await tls.send_all(get(alice))
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await read_answer(tls)
    assert len(stack.raw_app.heads) == 1  # nor is it asked for again
