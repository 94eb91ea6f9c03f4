"""Slow clients by the hundred, made by slowhttptest, cost nobody else anything (DOS-01).

slowhttptest comes from one address, 127.0.0.1. So each attack runs twice: against the limits as they are,
where most of it is ended to make room; and against a proxy that lets one address hold as many as it likes, so
that the deadlines do all the work. The person at work has an address of their own, 127.0.0.8.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Cluster, need, program, start_cluster
from tests.e2e.paced import Paced
from tests.e2e.started_upstream import start_upstream
from tests.figures import BUSY, Hold

pytestmark = pytest.mark.e2e

SLOWHTTPTEST = program("slowhttptest")

# What is sent, and to where: it sends no SNI, so that these few paths are all that answer it with a page.
ATTACKS = {
    "slow heads": ["-H", "-i", "2", "-x", "24"],
    "slow bodies": ["-B", "-i", "2", "-x", "10", "-s", "8192", "-t", "POST"],
    "slow readers": ["-X", "-n", "2", "-z", "32", "-w", "64", "-y", "256", "-k", "10"],
}
PATH = "/webapi/cas"
SHED = 'tport_shed_total{what="resting"}'
LIMITS = {
    "as it is": "",
    "by deadlines alone": "  limits: {strangers_per_address: 5000, strangers: 5000}",
}
# s after the last connection was opened, in which all of them are to be closed. Slow readers have IDLE_TIMEOUT,
# since the answers that they can ask for here fit into the kernel's buffers.
GONE = {"slow heads": 15.0, "slow bodies": 15.0}


@dataclass(frozen=True)
class Attack:
    """
    Attributes:
        rate: connections that are opened a second.
        seconds: for which others are watched before it, and it may take.
    """

    kind: str
    limits: str
    connections: int
    rate: int
    seconds: int
    is_long: bool = False

    @property
    def patience(self) -> int:
        """Seconds that it goes on for after its last connection, if one is left."""
        return 30 if self.kind in GONE else self.seconds

    @property
    def name(self) -> str:
        return f"{self.connections} {self.kind}, {self.limits}"


def cases() -> Iterator[object]:
    """The short forms, then all kinds against both sorts of limits with a thousand connections."""
    for kind, limits in zip(ATTACKS, ("by deadlines alone", "as it is", "as it is"), strict=True):
        short = Attack(kind, limits, connections=120, rate=60, seconds=3)
        yield pytest.param(short, id=short.name)
    for limits in LIMITS:
        for kind in ATTACKS:
            long = Attack(kind, limits, connections=1000, rate=100, seconds=15, is_long=True)
            marks = [pytest.mark.torture, pytest.mark.timeout(300)]
            yield pytest.param(long, id=long.name, marks=marks)


class Watch:
    """Looks at the proxy's own figures: when were the last connections opened, and when had all gone?"""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._opened = self._gone = time.monotonic()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def gone(self) -> float:
        """Seconds from the last ones that were opened to the end of the last but a few."""
        return self._gone - self._opened

    def _look(self) -> None:
        few = 4  # which are those of who is at work
        count = 0.0
        while not self._over.wait(0.1):
            strangers = self._cluster.figure("tport_strangers")
            before, count = count, strangers + self._cluster.figure(SHED)
            now = time.monotonic()
            if count - before > few:
                self._opened = now
            if strangers > few:
                self._gone = now


@dataclass
class Place:
    cluster: Cluster
    alice: Client
    url: str


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """Return what gives a cluster with these limits, one of each."""
    need("slowhttptest", SLOWHTTPTEST, "make test-deps installs it on Debian, as root")
    with ExitStack() as running:

        @cache
        def place(limits: str) -> Place:
            folder = tmp_path_factory.mktemp("cluster")
            cluster = running.enter_context(
                start_cluster(folder, proxy=LIMITS[limits], diagnostics=True)
            )
            cluster.start_agent("files", start_upstream(cluster).url)
            alice = cluster.signed_in("alice")
            url = cluster.app_url("files")
            assert alice.open(url).status == 200
            return Place(cluster, alice, url)

        yield place


@pytest.mark.parametrize("attack", list(cases()))
def test_dos_01_slow_clients_cost_nobody_else_anything(
    places: Callable[[str], Place], attack: Attack, hold: Hold
) -> None:
    """DOS-01, G26: everybody else is answered, as fast as before; and the slow ones are gone soon."""
    place = places(attack.limits)
    cluster = place.cluster
    with Paced(place.alice, place.url) as before:
        time.sleep(attack.seconds)
    began = time.monotonic()
    with Paced(place.alice, place.url) as meanwhile, Watch(cluster) as watch:
        told = subprocess.run(
            [
                SLOWHTTPTEST,
                *ATTACKS[attack.kind],
                *("-c", str(attack.connections), "-r", str(attack.rate)),
                *("-l", str(attack.connections // attack.rate + attack.patience), "-p", "3"),
                *("-u", f"https://127.0.0.1:{cluster.port}{PATH}"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        ).stdout
        time.sleep(max(0.0, attack.seconds - (time.monotonic() - began)))
    with Paced(place.alice, place.url) as after:
        time.sleep(attack.seconds)

    assert "Exit status" in told, told
    if attack.kind in GONE:
        assert "No open connections left" in told, told
        hold(f"DOS-01 {attack.name}: gone after", watch.gone, "s", at_most=GONE[attack.kind])
    hold(f"DOS-01 {attack.name}: others answered", meanwhile.success, "%", at_least=100)
    usual = max(before.p99, after.p99)
    if attack.is_long:  # the short form has too few requests to say anything of 1 in 100
        hold(f"DOS-01 {attack.name}: others' p99", meanwhile.p99 / usual, "x", at_most=2)
    assert meanwhile.p99 < 10 * usual + BUSY
