"""Too much of anything: it is refused or waits, memory stays as it was, and nothing stays behind."""

from __future__ import annotations

import gc
import gzip
import os
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.figures import BUSY
from tests.security.test_proxy_http import SWITCH, get, message, post
from tests.stack import Answer, Person, Stack, open_stack, read_answer
from tport.engine.config.document import SyntaxFault, parse_document
from tport.engine.defaults import FAILURES_WRITTEN, INITIAL_WINDOW
from tport.engine.net.tls_stream import TlsStream

MIB = 1024 * 1024


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    """A cluster that takes a client's address from X-Forwarded-For, so that a test may come from many."""
    async with open_stack(
        drain=False, diagnostics=True, trusted_proxies=("127.0.0.0/8",)
    ) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    person = await stack.user("alice")
    assert (await person.get("echo")).status == 200
    await person.open("raw")
    return person


def rss() -> int:
    """Memory of this process, which is client, proxy, agent and application in one, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def push(tls: TlsStream, data: bytes, times: int) -> int:
    """Send `data` so often, as long as it is taken within 2 s; return the bytes that were."""
    sent = 0
    try:
        for _ in range(times):
            with trio.fail_after(2):
                await tls.send_all(data)
            sent += len(data)
    except (trio.TooSlowError, trio.BrokenResourceError):
        pass
    return sent


async def flood(stack: Stack, host: str, data: bytes) -> Answer:
    """Send bytes that nobody wants all of, and read the answer that comes meanwhile."""
    with trio.fail_after(10 * BUSY):
        tls = await stack.connect(host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(push, tls, data, 1)
            answer = await read_answer(tls)
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(tls)
        return answer


async def test_dos_02_a_bomb_of_a_head_is_refused_and_costs_no_memory(
    stack: Stack, alice: Person
) -> None:
    """DOS-02: a megabyte of headers in one write, and one line of it; nothing reaches the agent."""
    seen = len(stack.echo.seen)
    many = post(alice, *["X: " + "y" * 100] * 9001)
    one = get(alice, "X: " + "y" * MIB)
    await flood(stack, stack.host("echo"), many)  # what the first one loads is not its own
    before = rss()

    for bomb in (many, one) * 5:
        answer = await flood(stack, stack.host("echo"), bomb)
        assert (answer.status, answer.closed) == (431, True)

    assert rss() - before < 4 * MIB
    assert len(stack.echo.seen) == seen
    assert (await alice.get("echo")).status == 200


async def test_dos_02_a_bomb_of_an_applications_head_is_a_502(stack: Stack, alice: Person) -> None:
    """DOS-02: the same limits hold for answers."""
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyy\r\n" * 90_000 + b"\r\n")

    assert (await alice.get("raw")).status == 502


async def test_dos_03_chunks_of_a_byte_each_end_soon(stack: Stack, alice: Person) -> None:
    """DOS-03: 1,000 of them are free; the application never sees the whole of such a request."""
    seen = len(stack.echo.seen)
    bomb = post(alice, "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * 200_000)

    began = time.process_time()
    answer = await flood(stack, stack.host("echo"), bomb)
    cost = time.process_time() - began

    assert (answer.status, answer.closed) == (400, True)
    assert cost < 0.5, "200,000 chunks would be over 2 s, at 10 us each"
    assert len(stack.echo.seen) == seen
    assert (await alice.get("echo")).status == 200


async def test_dos_03_honest_small_chunks_pass(stack: Stack, alice: Person) -> None:
    """Nearly a thousand of a byte, and any number of a line each."""
    for chunk, count in ((b"x", 999), (b"y" * 64, 3000)):
        body = b"%x\r\n%s\r\n" % (len(chunk), chunk) * count + b"0\r\n\r\n"
        request = post(alice, "Transfer-Encoding: chunked", body=body)

        answer = await stack.raw(stack.host("echo"), request, method="POST")

        assert answer.body == chunk * count


async def test_dos_04_who_pipelines_without_end_has_to_wait(stack: Stack, alice: Person) -> None:
    """DOS-04: while one answer is pending, TCP holds up the rest."""

    async def slow(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await trio.sleep_forever()

    stack.raw_app.script = slow
    requests = get(alice, app="raw") * 2000
    host = stack.host("raw")
    tls = await stack.connect(host)
    await tls.send_all(get(alice, app="raw"))
    before = rss()

    sent = await push(tls, requests, 60 * MIB // len(requests))

    assert sent < 40 * MIB, "the kernel's own buffers hold some megabytes"
    assert rss() - before < 8 * MIB
    assert len(stack.raw_app.heads) <= 2, "one request, and a look for an icon"
    assert (await alice.get("echo")).status == 200
    await trio.aclose_forcefully(tls)


async def test_dos_05_who_reads_nothing_makes_the_application_wait(
    stack: Stack, alice: Person
) -> None:
    """DOS-05: of an endless answer no more leaves the application than windows and kernels hold."""
    sent = 0

    async def endless(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stack.raw_app.take_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent += 65536

    stack.raw_app.script = endless
    clients = []
    before = rss()
    for _ in range(10):
        tls = await stack.connect(stack.host("raw"))
        clients.append(tls)
        await tls.send_all(get(alice, app="raw"))
        assert await tls.receive_some()
    with trio.fail_after(20):
        last = -1
        while sent != last:
            last = sent
            await trio.sleep(0.3)  # until nothing moves any more, in real time

    assert rss() - before < 10 * (2 * INITIAL_WINDOW + MIB)
    assert (await alice.get("echo")).status == 200
    for tls in clients:
        await trio.aclose_forcefully(tls)


async def test_dos_06_a_compressed_bomb_in_a_websocket_passes_as_it_is(
    stack: Stack, alice: Person
) -> None:
    """DOS-06: nothing is inflated on the way: the application gets the very bytes."""
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = b"\xc2\xff" + len(bomb).to_bytes(8, "big") + bytes(4) + bomb
    got = bytearray()
    whole = trio.Event()

    async def take(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await stream.send_all(SWITCH)
        while len(got) < len(frame):
            got.extend(await stream.receive_some(65536))
        whole.set()
        await trio.sleep_forever()

    stack.raw_app.script = take
    host = stack.host("raw")
    before = rss()
    upgrade = message(
        alice,
        "raw",
        "GET / HTTP/1.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate",
        f"Origin: https://{host}:{stack.port}",
    )
    async with await stack.connect(host) as tls:
        await tls.send_all(upgrade)
        assert (await read_answer(tls)).status == 101
        await tls.send_all(frame)
        with trio.fail_after(10 * BUSY):
            await whole.wait()

    assert bytes(got) == frame
    assert rss() - before < 16 * MIB


async def test_dos_07_a_compressed_bomb_of_an_answer_passes_as_it_is(
    stack: Stack, alice: Person
) -> None:
    """DOS-07: no Content-Encoding is undone on the way."""
    bomb = gzip.compress(bytes(64 * MIB))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    stack.raw_app.answers(head.encode() + bomb)
    before = rss()

    answer = await alice.get("raw", **{"Accept-Encoding": "gzip"})

    assert answer.body == bomb
    assert answer.header("content-encoding") == "gzip"
    assert rss() - before < 16 * MIB


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"name": "' + b"x" * MIB + b'"}', 413),
        (b"[" * (2 * MIB), 413),
    ],
    ids=["lists", "objects", "too long", "too long and deep"],
)
async def test_dos_07_json_that_is_too_deep_or_too_long_is_refused_at_once(
    stack: Stack, alice: Person, body: bytes, status: int
) -> None:
    """DOS-07: at the JSON API, by somebody who is signed in."""
    host = stack.proxy_url.removeprefix("https://").partition(":")[0]
    headers = {
        "Cookie": f"{stack.web_cookie}={alice.web}",
        "Content-Type": "application/json",
        "Origin": stack.proxy_url,
        "Sec-Fetch-Site": "same-origin",
    }

    began = time.monotonic()
    lines = ["POST /v1/own_rights HTTP/1.1", f"Host: {host}:{stack.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    answer = await flood(stack, host, head.encode() + body)

    assert answer.status == status, answer.body
    assert time.monotonic() - began < 5 * BUSY


def test_dos_07_a_file_that_multiplies_itself_is_an_error_at_once(tmp_path: Path) -> None:
    """DOS-07: a billion laughs, in YAML."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    began = time.monotonic()
    with pytest.raises(SyntaxFault, match="more than 50000 values"):
        parse_document("\n".join(lines))
    assert time.monotonic() - began < 5 * BUSY


class Left:
    """What a process holds: tasks, threads, and file descriptors by what they are of."""

    def __init__(self) -> None:
        gc.collect()
        self._held = Counter(re.sub(r"\d+", "N", each) for each in opened())
        self._held["tasks"] = trio.lowlevel.current_statistics().tasks_living
        self._held["threads"] = threading.active_count()

    def more_than(self, other: Left) -> dict[str, int]:
        return dict(self._held - other._held)


def opened() -> Iterator[str]:
    """What this process's file descriptors are of, as the system names it."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that the list itself was read by
            yield os.readlink(f"/proc/self/fd/{number}")


async def settled(before: Left, seconds: float) -> dict[str, int]:
    """Return what is left beyond `before`, after so long at the most."""
    left = Left().more_than(before)
    with trio.move_on_after(seconds):
        while left:
            await trio.sleep(0.1)  # kept connections to applications end in real time
            left = Left().more_than(before)
    return left


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(7, id="some"),
        pytest.param(1, id="all", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
    ],
)
async def test_dos_09_who_leaves_at_any_byte_leaves_nothing_behind(
    stack: Stack, alice: Person, step: int
) -> None:
    """DOS-09, R-27: a request with a body, cut at each of its bytes, in the open or after a goodbye."""
    host = stack.host("echo")
    request = post(
        alice, "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    )
    await stack.raw(host, request, method="POST")
    before = Left()

    for cut in range(0, len(request) + 1, step):
        tls = await stack.connect(host)
        await tls.send_all(request[:cut] or b"")
        if cut % 2:
            await tls.aclose()
        else:
            await trio.aclose_forcefully(tls)

    assert await settled(before, 20) == {}
    assert (await alice.get("echo")).status == 200


async def test_dos_09_who_leaves_before_during_or_after_the_handshake_leaves_nothing_behind(
    stack: Stack, alice: Person
) -> None:
    """DOS-09, R-27: at each phase of a connection and of an answer."""
    started = trio.Event()

    async def slowly(stream: trio.SocketStream) -> None:
        if not await stack.raw_app.take_head(stream):
            return
        started.set()
        await trio.sleep(0.05)  # the application thinks, in real time
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndrip\r\n")
        await stream.receive_some()  # until the agent hangs up

    stack.raw_app.script = slowly
    host = stack.host("raw")

    async def hello(_: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", stack.port) as stream:
            await stream.send_all(b"\x16\x03\x01\x02\x00\x01")

    async def handshake(_: int) -> None:
        await trio.aclose_forcefully(await stack.connect(host))

    async def thinking(_: int) -> None:
        tls = await stack.connect(host)
        await tls.send_all(get(alice, app="raw"))
        await started.wait()
        await trio.aclose_forcefully(tls)

    async def answering(_: int) -> None:
        tls = await stack.connect(host)
        await tls.send_all(get(alice, app="raw"))
        assert await tls.receive_some()
        await trio.aclose_forcefully(tls)

    phases: list[Callable[[int], Awaitable[None]]] = [hello, handshake, thinking, answering]
    for phase in phases:
        await phase(0)  # what the first one opens for good is not left behind by it
    await trio.sleep(1)  # the first ones' own ends, in real time
    before = Left()
    for phase in phases:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(phase, number)

    assert await settled(before, 20) == {}


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(2000, id="2000"),
        pytest.param(10_000, id="10000", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
    ],
)
async def test_dos_09_thousands_of_requests_leave_nothing_behind(
    stack: Stack, alice: Person, count: int
) -> None:
    """DOS-09: tasks, file descriptors and threads are as many as before."""
    host = stack.host("echo")
    before = Left()

    async def ask() -> None:
        tls = await stack.connect(host)
        for _ in range(count // 20):
            await tls.send_all(get(alice))
            assert (await read_answer(tls)).status == 200
        await tls.aclose()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)

    assert await settled(before, 20) == {}


async def test_dos_10_a_flood_of_failures_is_counted_and_fills_no_disk(
    stack: Stack, alice: Person
) -> None:
    """DOS-10: wrong device tokens from 1,500 addresses; others' requests go on, and are logged."""
    host = stack.host("echo")
    before = len(stack.files())

    async def knock(first: int) -> None:
        async with await stack.connect(host) as tls:
            for number in range(first, first + 150):
                where = f"10.{number >> 8}.{number & 255}.1"
                head = (
                    f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {where}\r\n"
                    f"Authorization: Bearer tport_{number:043}\r\n\r\n"
                )
                await tls.send_all(head.encode())
                assert (await read_answer(tls)).status == 401

    async with trio.open_nursery() as nursery:
        for first in range(0, 1500, 150):
            nursery.start_soon(knock, first)
        for _ in range(20):
            assert (await alice.get("echo")).status == 200
    written = counted = 0
    with trio.fail_after(10 * BUSY):
        while written + counted < 1500 and written < 1000:
            await trio.sleep(0.05)
            written = len(await stack.events("auth.failed"))  # of which a page has 1,000
            text = (await stack.diagnose("/metrics")).body.decode()
            found = re.findall(r'^tport_shed_total\{what="failures"\} (\d+)', text, re.MULTILINE)
            counted = sum(map(int, found))

    assert FAILURES_WRITTEN <= written < 1000, "a minute may end in between"
    assert len(stack.files()) - before < 4 * MIB
