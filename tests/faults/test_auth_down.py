"""R-10: auth is away while proxies and agents live on: who is signed in goes on, nobody else comes in.

The proxy's processes are workers; the main one, which runs auth, is stopped as a hung machine would be.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.e2e.client import Client, Page
from tests.e2e.harness import PASSWORD, Background, Cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.figures import Hold
from tests.ports import free_port
from tport.engine.defaults import AUTH_GRACE

pytestmark = pytest.mark.e2e

SLACK = 12.0  # s by which what auth told last may be older than the moment it was stopped
WARM = 30  # connections, open at a time: each worker has its share of them, and knows the session
SOON = 3.0  # s in which a worker that has asked auth in vain says so to the next
BACK = 5.0  # s in which all is as before once auth answers again


@contextmanager
def auth_away(cluster: Cluster) -> Iterator[float]:
    """Stop the process that auth runs in, until the block ends; yields the moment, monotonic."""
    cluster.proxy.signal(signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        cluster.proxy.signal(signal.SIGCONT)


class Asking(Thread):
    """Asks for a page twice a second, and keeps when and with what status."""

    def __init__(self, person: Client, url: str) -> None:
        super().__init__()
        self.seen: list[tuple[float, int]] = []
        self.over = Event()
        self._person, self._url = person, url

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.seen.append((time.monotonic(), self._person.request("GET", self._url).status))

    def between(self, first: float, last: float) -> list[int]:
        return [status for at, status in self.seen if first < at < last]


class Stream(Thread):
    """Reads an answer that takes as long as auth is away."""

    def __init__(self, person: Client, url: str, seconds: int) -> None:
        super().__init__()
        self._answer, self._closing = person.stream("GET", f"{url}events?n={seconds}")
        self._seconds = seconds
        self.whole = False

    def run(self) -> None:
        with self._closing:
            self.whole = self._answer.read().count(b"data: ") == self._seconds


def let_each_worker_know(person: Client, url: str) -> None:
    """A worker that never saw the session, or never showed a host's certificate, asks auth for it.

    One at a time may take all connections.
    """
    with ExitStack() as open_:
        for _ in range(WARM):
            answer, closing = person.stream("GET", url)
            open_.enter_context(closing)
            assert answer.status in (200, 302)
            answer.read()


def signs_in(ca: str, cluster: Cluster) -> bool:
    fresh = Client(ca, cluster.port)
    page = fresh.open(f"{cluster.url}/web/login")
    return page.status == 200 and fresh.sign_in(page, "alice", PASSWORD).status == 200


def timed_sign_in(person: Client, page: Page) -> tuple[Page, float]:
    """Return what comes of it, and after how many seconds."""
    began = time.monotonic()
    return person.sign_in(page, "alice", PASSWORD), time.monotonic() - began


def tunnels_of(agent: Background) -> int:
    return agent.stderr.count("tunnel to the proxy is up")


@pytest.mark.parametrize(
    "away",
    [15.0, pytest.param(AUTH_GRACE + 30, marks=[pytest.mark.torture, pytest.mark.timeout(240)])],
)
def test_who_is_signed_in_goes_on_for_a_minute_and_nobody_else_comes_in(
    tmp_path: Path, hold: Hold, away: float
) -> None:
    """R-10: sessions go on for 60 s, then 503; sign-ins are 503 with a page; tunnels stay; then all is as before."""
    cluster = Cluster(tmp_path, free_port(), "")
    text = cluster.file.read_text().replace("proxy_service:\n", "proxy_service:\n  workers: 2\n")
    cluster.file.write_text(text)
    is_long = away > AUTH_GRACE
    try:
        cluster.start_services()
        agent = cluster.start_agent("echo", start_upstream(cluster).url)
        alice = cluster.signed_in("alice")
        url = cluster.app_url("echo")
        assert alice.open(url).status == 200
        let_each_worker_know(alice, url)
        let_each_worker_know(alice, f"{cluster.url}/web/login")
        tunnels = tunnels_of(agent)
        ca = cluster.ca().read_text()
        stranger = Client(ca, cluster.port)
        login = stranger.open(f"{cluster.url}/web/login")
        asking, stream = Asking(alice, url), Stream(alice, url, int(min(away, AUTH_GRACE - SLACK)))
        asking.start()
        stream.start()
        try:
            with auth_away(cluster) as began:
                first, _ = timed_sign_in(stranger, login)
                second, took = timed_sign_in(stranger, login)
                if is_long and took > SOON:  # the other worker took it, and that was its first
                    second, took = timed_sign_in(stranger, login)
                time.sleep(max(0, began + away - time.monotonic()))
            ended = time.monotonic()
            wait_until(lambda: signs_in(ca, cluster), "somebody can sign in again", every=0.2)
            back = time.monotonic() - ended
            wait_until(lambda: asking.seen[-1][1] == 200, "the session goes on")
            if is_long:
                again = next(at for at, status in asking.seen if at > ended and status == 200)
                back = max(back, again - ended)
        finally:
            asking.over.set()
            asking.join(30)
            stream.join(AUTH_GRACE)
        pages = {first.status, second.status}
        early = asking.between(began, began + min(away, AUTH_GRACE - SLACK))
        late = asking.between(began + AUTH_GRACE + SLACK, ended - 1)
        after = asking.between(ended + max(BACK, back), time.monotonic())
        assert agent.status is None
        assert "the main process is gone" not in cluster.proxy.stderr
        assert tunnels_of(agent) == tunnels
    finally:
        cluster.end()

    assert pages == {503}, (first.text[:500], second.text[:500])
    assert "auth" in second.text
    assert early
    assert set(early) == {200}
    assert set(after) <= {200}
    assert stream.whole
    if is_long:
        assert late
        assert set(late) == {503}
        hold(
            "R-10 requests of sessions refused within 48 s without auth",
            len(early) - early.count(200),
            at_most=0,
        )
        hold("R-10 a second sign-in refused without auth", took, "s", at_most=SOON)
    hold(f"R-10 all as before after {away:.0f} s without auth", back, "s", at_most=BACK)
