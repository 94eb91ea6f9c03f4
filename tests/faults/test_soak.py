"""An hour of an ordinary day, as long as there is time for: nothing grows that should not.

SOAK_MINUTES=60 python -m pytest -m torture tests/faults/test_soak.py
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Final
from urllib.request import urlopen

import pytest
import trio

from tests.e2e.harness import DOMAIN, Background, Cluster
from tests.e2e.started_upstream import start_upstream
from tests.e2e.upstream import MIB, blocks
from tests.faults.websockets import AGREED, UPGRADE
from tests.figures import Hold
from tests.ports import free_port
from tests.stack import read_answer

pytestmark = pytest.mark.e2e

MINUTES: Final = float(os.environ.get("SOAK_MINUTES", "10"))
WARM: Final = 0.5  # of the time, after which what is made once is made, and caches are full
READERS: Final = 10  # who ask on kept connections
PAUSE: Final = 5.0  # s between two messages on a WebSocket
SLOPE: Final = 1.0  # MiB that a process may grow by in an hour
LONG: Final = 30.0  # minutes from which on such a slope can be told from what memory does anyway
GROWN: Final = 16 * MIB  # bytes that a process may have grown by from WARM to the end
MORE: Final = (
    12  # tasks, or descriptors, that may be open beside those that were: requests that run
)
TEXT: Final = b"sixteen bytes of"
ASKED: Final = b"\x81\x90\0\0\0\0" + TEXT  # a masked frame whose mask is zero
ECHOED: Final = b"\x81\x10" + TEXT


@dataclass
class Sample:
    """What a process had open, and was, at a moment of the test's clock."""

    at: float
    rss: int
    descriptors: int
    tasks: int


@dataclass
class Watched:
    process: Background
    metrics: str
    samples: list[Sample] = field(default_factory=list)

    def look(self, at: float) -> None:
        with urlopen(f"{self.metrics}/metrics") as answer:
            text = answer.read().decode()
        found = re.search(r"^tport_tasks(?:\{[^}]*\})? (\d+)", text, re.MULTILINE)
        assert found is not None
        descriptors = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        self.samples.append(Sample(at, self.process.rss(), descriptors, int(found[1])))


class Crowd:
    """Readers and WebSockets of one person."""

    def __init__(self, cluster: Cluster, ca: str, cookies: Mapping[str, str], seed: int) -> None:
        self.answers: Counter[str] = Counter()
        self.echoes = 0
        self._port = cluster.port
        self._context = ssl.create_default_context(cadata=ca)
        self._context.set_alpn_protocols(["http/1.1"])
        self._cookies = cookies
        self._chance = random.Random(seed)

    @asynccontextmanager
    async def _connect(self, app: str) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as tcp:
            host = f"{app}.{DOMAIN}"
            yield trio.SSLStream(tcp, self._context, server_hostname=host, https_compatible=True)

    def _head(self, app: str, line: str, *more: str) -> bytes:
        host = f"{app}.{DOMAIN}:{self._port}"
        lines = [f"{line} HTTP/1.1", f"Host: {host}", f"Cookie: {self._cookies[app]}", *more]
        return "\r\n".join([*lines, "", ""]).encode()

    async def read(self, pause: float) -> None:
        """Ask every `pause` s on average, now and then on a new connection, until cancelled.

        What an answer takes is no part of the pause: who was held up asks sooner the next time.
        """
        due = trio.current_time()
        while True:
            async with self._connect("files") as client:
                for _ in range(self._chance.randrange(1, 20)):
                    due += pause * 2 * self._chance.random()
                    await trio.sleep_until(due)
                    with trio.fail_after(60):
                        self.answers[await self._ask(client)] += 1

    async def _ask(self, client: trio.SSLStream[trio.SocketStream]) -> str:
        size = self._chance.choice((10, 10, 2000, 100_000))
        body = b"".join(blocks(size))
        if self._chance.random() < 0.7:
            await client.send_all(self._head("files", f"GET /bytes?size={size}"))
            answer = await read_answer(client)
            right = answer.body == body
        else:
            await client.send_all(
                self._head("files", "POST /sum", f"Content-Length: {size}") + body
            )
            answer = await read_answer(client)
            right = answer.body == hashlib.sha256(body).hexdigest().encode()
        return "right" if right else f"wrong ({answer.status})"

    async def chat(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Hold a WebSocket, and say something now and then, until cancelled."""
        async with self._connect("socket") as client:
            origin = f"Origin: https://socket.{DOMAIN}:{self._port}"
            await client.send_all(self._head("socket", "GET /", *UPGRADE, origin))
            answer = await read_answer(client)
            assert answer.status == 101, answer
            task_status.started()
            while True:
                await trio.sleep(PAUSE * 2 * self._chance.random())
                await client.send_all(ASKED)
                heard = b""
                with trio.fail_after(60):
                    while len(heard) < len(ECHOED):
                        more = await client.receive_some(100)
                        assert more, "the WebSocket was closed"
                        heard += more
                assert heard == ECHOED
                self.echoes += 1


async def echo(stream: trio.SocketStream) -> None:
    """The application of the WebSockets."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(65536)
            if not more:
                return  # the agent looked whether somebody is here
            data += more
        if b"upgrade: websocket" not in data.lower():
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        await stream.send_all(AGREED)
        data = b""
        while more := await stream.receive_some(65536):
            data += more
            while data.startswith(ASKED):
                data = data[len(ASKED) :]
                await stream.send_all(ECHOED)
    except trio.BrokenResourceError:
        pass  # the test is over


def start_agent(cluster: Cluster, files: str, socket: int) -> Background:
    """Start an agent for both applications that tells figures, too."""
    file = cluster.folder / "agent.yaml"
    file.write_text(
        f"""\
tport:
  data_dir: {cluster.folder / "agent"}
  auth_token: {cluster.token()}
  auth_servers: [{cluster.address}]
  diag_addr: "127.0.0.1:0"
app_service:
  enabled: yes
  apps:
  - {{name: files, uri: "{files}"}}
  - {{name: socket, uri: "http://127.0.0.1:{socket}"}}
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
"""
    )
    agent = cluster.start("start", f"--config={file}")
    agent.wait_for("tport: ready")
    return agent


def start(folder: Path) -> Cluster:
    cluster = Cluster(folder, free_port(), "", diagnostics=True)
    cluster.start_services()
    return cluster


def metrics_of(process: Background) -> str:
    process.wait_for("diagnostics are at ")
    [address] = re.findall(r"diagnostics are at (http://\S+)", process.stderr)
    return str(address)


def cookies_of(cluster: Cluster) -> dict[str, str]:
    client = cluster.signed_in("alice")
    cookies = {}
    for app in ("files", "socket"):
        assert client.open(cluster.app_url(app)).status == 200
        cookies[app] = client.cookie_header(cluster.app_url(app))
    return cookies


@pytest.mark.parametrize(
    ("minutes", "rate", "sockets"),
    [
        pytest.param(0.2, 10, 20, id="short"),
        pytest.param(
            MINUTES,
            50,
            200,
            id="long",
            marks=[pytest.mark.torture, pytest.mark.timeout(60 * MINUTES + 300)],
        ),
    ],
)
async def test_under_an_ordinary_load_nothing_grows_and_nothing_fails(
    tmp_path: Path, hold: Hold, minutes: float, rate: int, sockets: int
) -> None:
    """Requests of all sizes, some on new connections, beside WebSockets that talk."""
    thread = trio.to_thread.run_sync
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        cluster = await thread(start, tmp_path)
        try:
            files = await thread(start_upstream, cluster)
            agent = await thread(start_agent, cluster, files.url, port)
            crowd = Crowd(
                cluster,
                (await thread(cluster.ca)).read_text(),
                await thread(cookies_of, cluster),
                1,
            )
            watched = {
                "proxy": Watched(cluster.proxy, metrics_of(cluster.proxy)),
                "agent": Watched(agent, metrics_of(agent)),
            }
            for _ in range(sockets):
                await nursery.start(crowd.chat)
            for _ in range(READERS):
                nursery.start_soon(crowd.read, READERS / rate)
            began = trio.current_time()
            while (at := trio.current_time() - began) < 60 * minutes:
                for each in watched.values():
                    await thread(each.look, at)
                await trio.sleep(min(5.0, 60 * minutes / 20))
            nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await thread(cluster.end)

    what = f"soak of {minutes:g} min, {sockets} WebSockets:"
    hold(f"{what} requests a second", crowd.answers.total() / (60 * minutes), at_least=rate / 3)
    hold(f"{what} wrong answers", crowd.answers.total() - crowd.answers["right"], at_most=0)
    assert crowd.echoes > sockets * minutes
    for name, each in watched.items():
        late = [sample for sample in each.samples if sample.at > WARM * 60 * minutes]
        slope, _ = linear_regression([s.at / 3600 for s in late], [s.rss / MIB for s in late])
        grown = (late[-1].rss - late[0].rss) / MIB
        hold(f"{what} {name}, memory at the end", late[-1].rss / MIB, "MiB")
        most = SLOPE if minutes >= LONG else None
        hold(f"{what} {name}, memory's slope", slope, "MiB/h", at_most=most)
        hold(f"{what} {name}, memory grown after warm-up", grown, "MiB", at_most=GROWN / MIB)
        for thing in ("tasks", "descriptors"):
            first, last = (
                max(getattr(sample, thing) for sample in part)
                for part in (late[: len(late) // 2], late[len(late) // 2 :])
            )
            hold(f"{what} {name}, more {thing} in the second half", last - first, at_most=MORE)
