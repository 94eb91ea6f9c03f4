"""Everybody signs in at once, by passwords that may be wrong: applications don't notice (R-33)."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
import trio

from tests.e2e.client import Client
from tests.e2e.harness import DOMAIN, Cluster, start_cluster
from tests.e2e.paced import Paced
from tests.e2e.started_upstream import start_upstream
from tests.figures import BUSY, Hold
from tests.stack import read_answer
from tport.engine.net.tls_stream import TlsStream

pytestmark = pytest.mark.e2e

RATE = 500  # tries a second that are made
CONNECTIONS = 60
SHED = 'tport_shed_total{what="sign-ins"}'
_TOKEN = re.compile(r'name="token" value="([^"]+)"')


@dataclass
class Crowd:
    """Tries to sign in at RATE, each try from an address of its own.

    Attributes:
        statuses: how often each answer came.
        retry_after: how many of those that were turned away say when to come back.
    """

    cluster: Cluster
    client: Client
    statuses: Counter[int] = field(default_factory=Counter)
    retry_after: int = 0

    async def run(self, seconds: float) -> None:
        page = self.client.open(f"{self.cluster.url}/web/login")
        [token, *_] = _TOKEN.findall(page.text)
        cookie = self.client.cookie_header(self.cluster.url)
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for number in range(CONNECTIONS):
                nursery.start_soon(self._try, number, cookie, token, until)

    async def _try(self, number: int, cookie: str, token: str, until: float) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self.cluster.port)
        tls = TlsStream(
            stream, self.client.context, server_side=False, server_name=DOMAIN, ragged_end=True
        )
        await tls.do_handshake()
        pause = CONNECTIONS / RATE
        due = trio.current_time() + pause * number / CONNECTIONS
        while due < until:
            await trio.sleep_until(due)
            due = max(due + pause, trio.current_time())
            number += CONNECTIONS
            form = {"token": token, "username": f"user{number}", "password": "wrong horse"}
            body = urlencode(form)
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            head = (
                f"POST /web/login HTTP/1.1\r\nHost: {DOMAIN}:{self.cluster.port}\r\n"
                f"Origin: {self.cluster.url}\r\nSec-Fetch-Site: same-origin\r\n"
                f"X-Forwarded-For: {address}\r\nCookie: {cookie}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            await tls.send_all((head + body).encode())
            answer = await read_answer(tls)
            self.statuses[answer.status] += 1
            if answer.status == 429:
                self.retry_after += answer.header("retry-after") != ""
        await trio.aclose_forcefully(tls)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that believes X-Forwarded-For, so that each try has an address of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    with start_cluster(
        folder, proxy="  trusted_proxies: [127.0.0.0/8]", diagnostics=True
    ) as cluster:
        cluster.start_agent("files", start_upstream(cluster).url)
        yield cluster


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(3, id="short"),
        pytest.param(20, id="long", marks=[pytest.mark.torture, pytest.mark.timeout(200)]),
    ],
)
def test_r_33_when_everybody_signs_in_at_once_applications_go_on(
    cluster: Cluster, seconds: float, hold: Hold
) -> None:
    """R-33, AUTH-05: who finds no room is told when to come back, and is counted."""
    alice = cluster.signed_in(f"alice{seconds:g}")
    url = cluster.app_url("files")
    assert alice.open(url).status == 200
    crowd = Crowd(cluster, cluster.client())
    shed = cluster.figure(SHED)

    with Paced(alice, url) as before:
        time.sleep(seconds)
    with Paced(alice, url) as meanwhile:
        trio.run(crowd.run, seconds)
    with Paced(alice, url) as after:
        time.sleep(seconds)

    tries = sum(crowd.statuses.values())
    assert crowd.statuses.keys() <= {403, 429}, crowd.statuses
    assert 0 < crowd.statuses[429] == crowd.retry_after == cluster.figure(SHED) - shed
    name = f"R-33 {seconds:g} s of sign-ins"
    hold(f"{name}: tries", tries / seconds, "/s")
    hold(f"{name}: others answered", meanwhile.success, "%", at_least=100)
    usual = max(before.p99, after.p99)
    if seconds > 10:  # the short form has too few requests to say anything of 1 in 100
        hold(f"{name}: others' p99", meanwhile.p99 / usual, "x", at_most=2)
    assert meanwhile.p99 < 10 * usual + BUSY
