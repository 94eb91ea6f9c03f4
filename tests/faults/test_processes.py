"""Real processes that are killed, stopped and frozen while people use what they serve."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Cluster, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.e2e.upstream import MIB, blocks
from tests.figures import Hold
from tests.ports import free_port

pytestmark = pytest.mark.e2e

LONG: Final = [pytest.mark.torture, pytest.mark.timeout(400)]
READY: Final = 5.0  # s in which a killed proxy that is started again serves
BACK: Final = 10.0  # s in which its agents are back
TOLD: Final = 1.0  # s in which people hear of an agent that died
SERVES: Final = re.compile(r"worker (\d+) serves, as process (\d+)")
BROKEN: Final = (OSError, HTTPException)  # ssl.SSLError is one of the first


class Reader:
    """Somebody who downloads and uploads without end, and looks at each answer.

    Attributes:
        seen: how many were `right`, `wrong` (whole, and not what was asked for), `cut`, or of which status.
        last: when one was right last, by the monotonic clock.
        broken: when a request began that was cut.
    """

    def __init__(self, client: Client, url: Callable[[str], str], seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self.last = 0.0
        self.broken: list[float] = []
        self._client = client
        self._url = url
        self._chance = random.Random(seed)

    def read_until(self, over: threading.Event) -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                what = self._transfer(self._chance.randrange(1, 2 * MIB))
            except BROKEN:
                what = "cut"
                self.broken.append(began)
                over.wait(0.05)  # there is nobody to connect to, maybe
            self.seen[what] += 1
            if what == "right":
                self.last = time.monotonic()

    def _transfer(self, size: int) -> str:
        body = b"".join(blocks(size))
        if self._chance.random() < 0.5:
            page = self._client.request("GET", self._url(f"/bytes?size={size}"))
            right = page.body == body
        else:
            pieces = (body[at : at + 65536] for at in range(0, size, 65536))
            page = self._client.request("POST", self._url("/sum"), {}, pieces)
            right = page.text == hashlib.sha256(body).hexdigest()
        if page.status != 200:
            return str(page.status)
        return "right" if right else "wrong"


@contextmanager
def reading(readers: list[Reader]) -> Iterator[None]:
    """Have all of them read, as long as the block runs."""
    over = threading.Event()
    threads = [threading.Thread(target=each.read_until, args=(over,)) for each in readers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def make_readers(cluster: Cluster, count: int) -> list[Reader]:
    """They share a session, and begin each request with a connection of its own."""
    client = cluster.signed_in("alice")
    assert client.open(cluster.app_url("files")).status == 200
    return [Reader(client, lambda path: cluster.app_url("files", path), n) for n in range(count)]


def in_sum(readers: list[Reader]) -> Counter[str]:
    return sum((each.seen for each in readers), Counter[str]())


def any_since(readers: list[Reader], moment: float) -> bool:
    return any(each.last > moment for each in readers)


@pytest.mark.parametrize(
    ("kills", "people"), [pytest.param(2, 6, id="2"), pytest.param(15, 20, id="15", marks=LONG)]
)
def test_no_half_answer_of_a_proxy_that_is_killed_looks_whole_and_sessions_outlive_it(
    tmp_path: Path, hold: Hold, kills: int, people: int
) -> None:
    """R-01: kill -9 at any moment; every answer that ends well is what was asked for."""
    chance = random.Random(1)
    ready, back = [], []
    with start_cluster(tmp_path) as cluster:
        agent = cluster.start_agent("files", start_upstream(cluster).url)
        readers = make_readers(cluster, people)
        with reading(readers):
            for _ in range(kills):
                time.sleep(chance.uniform(0.5, 1.5))
                cluster.proxy.kill9()
                cluster.process = cluster.start("start", f"--config={cluster.file}")
                ready.append(cluster.process.wait_for("tport: ready"))
                began = time.monotonic()
                back.append(wait_until(partial(any_since, readers, began), "an answer"))
            began = time.monotonic()
            wait_until(lambda: all(r.last > began for r in readers), "an answer for each")
        assert agent.status is None
    seen = in_sum(readers)

    assert seen["cut"] >= kills
    what = f"R-01 of {seen['right']} whole answers beside {kills} kills"
    hold(f"{what}, not what was asked for", seen["wrong"], at_most=0)
    hold(f"R-01 killed proxy ready again, half of {kills}", median(ready), "s", at_most=READY)
    hold(f"R-01 killed proxy ready again, slowest of {kills}", max(ready), "s")
    hold(f"R-01 the same session served again ({kills} kills)", max(back), "s", at_most=BACK)


def test_of_an_only_agent_that_is_killed_people_hear_within_a_second(
    tmp_path: Path, hold: Hold
) -> None:
    """R-03: 502 for what ran, and after that 503 with when to ask again; the list shows it offline."""
    with start_cluster(tmp_path, diagnostics=True) as cluster:
        agent = cluster.start_agent("files", start_upstream(cluster).url)
        client = cluster.signed_in("alice")
        assert client.open(cluster.app_url("files")).status == 200
        told: list[tuple[int, float]] = []
        killed = threading.Event()

        def upload() -> None:
            page = client.request("POST", cluster.app_url("files", "/sum"), {}, until_killed())
            told.append((page.status, time.monotonic()))

        def until_killed() -> Iterator[bytes]:
            """A body that http.client sends to its end before it reads an answer."""
            while not killed.wait(0.05):
                yield b"x"

        thread = threading.Thread(target=upload)
        streams = cluster.figure("tport_tunnel_streams")
        thread.start()
        wait_until(lambda: cluster.figure("tport_tunnel_streams") > streams, "the upload runs")
        time.sleep(1)
        began_dying = time.monotonic()
        agent.kill9()
        killed.set()
        thread.join(20)
        began = time.monotonic()
        page = client.request("GET", cluster.app_url("files"), {"Accept": "application/json"})
        asked = time.monotonic() - began
        rows = json.loads(cluster.tell("apps", "ls", "--format=json"))

    [(status, at)] = told
    assert status == 502
    assert (page.status, page.header("retry-after")) == (503, "5")
    assert json.loads(page.body)["cause"].startswith("no agent that offers files")
    assert [row for row in rows if row["name"] == "files" and row["state"] == "up"] == []
    hold("R-03 what ran on a killed agent is told", at - began_dying, "s", at_most=TOLD)
    hold("R-03 the next request is told", asked, "s", at_most=TOLD)


@pytest.mark.torture
def test_a_tunnel_outlives_nine_seconds_in_which_the_proxy_stands_still(
    tmp_path: Path, hold: Hold
) -> None:
    """R-32: a blocked loop, a machine that is moved: less than 10 s costs no tunnel, on either side."""
    with start_cluster(tmp_path) as cluster:
        agent = cluster.start_agent("files", start_upstream(cluster).url)
        client = cluster.signed_in("alice")
        assert client.open(cluster.app_url("files")).status == 200
        took = 0.0
        for process in (cluster.proxy, agent):
            process.signal(signal.SIGSTOP)
            time.sleep(9)
            process.signal(signal.SIGCONT)
            began = time.monotonic()
            assert client.request("GET", cluster.app_url("files")).status == 200
            took = max(took, time.monotonic() - began)
        lost = agent.stderr.count("tunnel to the proxy lost")

    hold("R-32 tunnels lost by two stalls of 9 s", lost, at_most=0)
    hold("R-32 the first answer after them", took, "s", at_most=2)


# --- Several proxies ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose proxy is two processes."""
    cluster = Cluster(tmp_path_factory.mktemp("pair"), free_port(), "")
    text = cluster.file.read_text().replace("proxy_service:\n", "proxy_service:\n  workers: 2\n")
    cluster.file.write_text(text)
    try:
        cluster.start_services()
        cluster.start_agent("files", start_upstream(cluster).url)
        yield cluster
    finally:
        cluster.end()


def workers(cluster: Cluster) -> dict[int, int]:
    """Return the process of each worker, by its number, as the log told last."""
    return {int(number): int(pid) for number, pid in SERVES.findall(cluster.proxy.stderr)}


def is_replaced(cluster: Cluster, number: int, pid: int) -> bool:
    return workers(cluster)[number] != pid


def connections(pid: int, port: int) -> set[int]:
    """Return the clients' ports of what a process has open at this port of its own."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(file).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue  # closed meanwhile
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {
        int(row[2].rpartition(":")[2], 16)
        for row in rows
        if row[9] in inodes and int(row[1].rpartition(":")[2], 16) == port
    }


def test_each_proxy_process_can_be_restarted_and_no_request_fails(
    pair: Cluster, hold: Hold
) -> None:
    """R-02: one after the other, by SIGTERM, under load."""
    readers = make_readers(pair, 6)
    with reading(readers):
        for number in (1, 2):
            time.sleep(0.5)
            before = workers(pair)[number]
            os.kill(before, signal.SIGTERM)
            wait_until(partial(is_replaced, pair, number, before), "its successor", 40)
        time.sleep(0.5)
    seen = in_sum(readers)

    assert seen["right"] > 10, seen
    failed = seen.total() - seen["right"]
    hold(f"R-02 of {seen.total()} requests during two restarts, failed", failed, at_most=0)


def test_an_upload_on_the_proxy_that_lives_never_notices_the_one_that_dies(
    pair: Cluster, hold: Hold
) -> None:
    """R-38, R-01: kill -9 of one process; what the other carries goes on to its end."""
    client = pair.signed_in("uploader")
    assert client.open(pair.app_url("files")).status == 200
    doomed, other = (workers(pair)[number] for number in (1, 2))
    before = connections(doomed, pair.port) | connections(other, pair.port)  # the agent's
    go_on = threading.Event()
    ended: dict[int, bool] = {}
    body = b"".join(blocks(MIB))

    class Upload(threading.Thread):
        def run(self) -> None:
            try:
                page = client.request("POST", pair.app_url("files", "/sum"), {}, self.pieces())
                ended[id(self)] = page.text == hashlib.sha256(body).hexdigest()
            except BROKEN:
                ended[id(self)] = False

        def pieces(self) -> Iterator[bytes]:
            yield body[:1000]
            go_on.wait(30)
            yield body[1000:]

    uploads = [Upload() for _ in range(12)]
    for upload in uploads:
        upload.start()
    wait_until(
        lambda: (
            len((connections(doomed, pair.port) | connections(other, pair.port)) - before)
            >= len(uploads)
        ),
        "all uploads are under way",
    )
    time.sleep(0.5)
    surviving = len(connections(other, pair.port) - before)
    os.kill(doomed, signal.SIGKILL)
    time.sleep(0.5)
    go_on.set()
    for upload in uploads:
        upload.join(30)
    whole = sum(ended.values())

    assert 0 < whole < len(uploads), "each process had some"
    hold("R-38 uploads on the surviving proxy that were lost", surviving - whole, at_most=0)
    wait_until(lambda: is_replaced(pair, 1, doomed), "its successor")
