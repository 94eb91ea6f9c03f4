"""Our Mux against hashicorp's own yamux, in both parts, over TCP on loopback.

The peer, `yamux/main.go`, is built with Debian's golang-go and golang-github-hashicorp-yamux-dev.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream

GOPATH = Path("/usr/share/gocode")
SOURCE = Path(__file__).parent / "yamux" / "main.go"
EXCHANGES, SIZE, RESETS, RESET_ME = 20, 300_000, 5, 2**64 - 1  # as in main.go
BACKLOG = 8

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="session")
def go_peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Go program once. What is missing is a skip for people and a failure in CI."""
    missing = ""
    if shutil.which("go") is None:
        missing = "no `go`: install golang-go"
    elif not (GOPATH / "src/github.com/hashicorp/yamux").is_dir():
        missing = "no hashicorp/yamux: install golang-github-hashicorp-yamux-dev"
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("goyamux")
    subprocess.run(
        ["go", "build", "-o", str(folder / "goyamux"), str(SOURCE)],
        env=os.environ
        | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(folder / "cache")},
        check=True,
        timeout=300,
    )
    return folder / "goyamux"


@asynccontextmanager
async def peer(
    program: Path, part: str, how: str
) -> AsyncIterator[tuple[trio.Process, trio.SocketStream]]:
    """Run the Go program and connect with it: it dials us, or listens for us."""
    async with trio.open_nursery() as nursery:

        async def start(address: str) -> trio.Process:
            run = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            process: trio.Process = await nursery.start(run, [str(program), part, how, address])
            return process

        if how == "dial":
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            process = await start(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
            connection = await listeners[0].accept()
            await listeners[0].aclose()
        else:
            process = await start("127.0.0.1:0")
            assert process.stdout is not None
            address = (await process.stdout.receive_some()).decode().strip()
            connection = await trio.open_tcp_stream("127.0.0.1", int(address.split(":")[1]))
        yield process, connection


async def result(process: trio.Process) -> dict[str, object]:
    assert process.stdout is not None
    lines = b"".join([data async for data in process.stdout])
    found: dict[str, object] = json.loads(lines.splitlines()[-1])
    return found


async def receive_exactly(stream: MuxStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


async def answer(stream: MuxStream) -> None:
    async with stream:
        size = int.from_bytes(await receive_exactly(stream, 8), "big")
        if size == RESET_ME:
            stream.reset()
            return
        data = await receive_exactly(stream, size)
        await stream.send_all(hashlib.sha256(data).digest() + data)
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def ask(mux: Mux, seed: int, at_once: trio.CapacityLimiter) -> None:
    data = random.Random(seed).randbytes(SIZE)
    async with at_once, mux.open_stream() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, SIZE.to_bytes(8, "big") + data)
        assert await receive_exactly(stream, 32) == hashlib.sha256(data).digest()
        assert await receive_exactly(stream, SIZE) == data


@pytest.mark.parametrize("how", ["dial", "listen"])
async def test_we_serve_the_streams_that_go_opens(go_peer: Path, how: str) -> None:
    """20 streams × 300 kB each way with checksums; 5 we reset; then Go goes away and so do we."""
    async with peer(go_peer, "client", how) as (process, connection):
        mux = Mux(connection, client=False, peer_may_open=True)
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                for _ in range(EXCHANGES + RESETS):
                    nursery.start_soon(answer, await mux.accept())

            nursery.start_soon(accept)
            await mux.run()  # ends by itself: Go has gone away, every stream is closed
        found = await result(process)

    assert found == {"exchanges": EXCHANGES, "resets": RESETS, "errors": []}


@pytest.mark.parametrize("how", ["dial", "listen"])
async def test_go_serves_the_streams_that_we_open(go_peer: Path, how: str) -> None:
    """The same with the parts changed; and Go resets what exceeds its backlog."""
    async with peer(go_peer, "server", how) as (process, connection):
        mux = Mux(connection, client=True, peer_may_open=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mux.run)

            waiting = [mux.open_stream() for _ in range(BACKLOG + RESETS)]
            for stream in waiting[BACKLOG:]:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
                await stream.aclose()
            for stream in waiting[:BACKLOG]:
                await stream.send_all(SIZE.to_bytes(8, "big") + b"no more comes")
                stream.reset()
            assert process.stdin is not None
            await process.stdin.send_all(b"now accept\n")

            at_once = trio.CapacityLimiter(BACKLOG)
            async with trio.open_nursery() as asking:
                for seed in range(EXCHANGES):
                    asking.start_soon(ask, mux, seed, at_once)
            assert mux.streams == 0
            assert mux.rtt is not None
            nursery.cancel_scope.cancel()
        found = await result(process)

    assert found == {"exchanges": EXCHANGES, "resets": BACKLOG, "errors": []}
