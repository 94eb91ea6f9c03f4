"""All agents come back at once: how soon, and at whose cost."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Background, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.figures import Hold

pytestmark = pytest.mark.e2e

BACK = 60.0  # s in which all of them are back
ROOT = Path(__file__).parents[2]


@dataclass
class Asked:
    began: float  # by the monotonic clock
    took: float
    status: int  # 0: no answer


def ask(client: Client, url: str) -> Asked:
    began = time.monotonic()
    try:
        status = client.request("GET", url).status
    except OSError:
        status = 0
    return Asked(began, time.monotonic() - began, status)


def p99(asked: list[Asked]) -> float:
    took = sorted(each.took for each in asked if each.status == 200)
    return took[int(0.99 * (len(took) - 1))]


def held(agents: Background) -> int:
    lines = agents.stdout.split("\n")[:-1]
    return int(lines[-1].removeprefix("held ")) if lines else 0


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(20, id="20"),
        pytest.param(1000, id="1000", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
    ],
)
def test_a_thousand_agents_are_back_soon_after_a_restart_and_people_hardly_notice(
    tmp_path: Path, hold: Hold, count: int
) -> None:
    """R-09: the proxy is killed with all their tunnels; they dial by the code of real agents."""
    with start_cluster(tmp_path) as cluster:
        cluster.start_agent("files", start_upstream(cluster).url)
        client, url = cluster.signed_in("alice"), cluster.app_url("files")
        assert client.open(url).status == 200
        agents = cluster.spawn(
            [
                sys.executable,
                "-m",
                "tests.faults.many_agents",
                str(cluster.port),
                str(cluster.token()),
                str(count),
            ],
            cwd=ROOT,
        )
        wait_until(lambda: held(agents) == count, f"{count} tunnels", 300)
        alone = [ask(client, url) for _ in range(max(count, 100))]

        cluster.proxy.kill9()
        wait_until(lambda: held(agents) == 0, "all of them noticed", every=0.01)
        cluster.process = cluster.start("start", f"--config={cluster.file}")
        cluster.process.wait_for("tport: ready")
        ready = time.monotonic()
        over, storm = threading.Event(), list[Asked]()

        def go_on_asking() -> None:
            while not over.wait(0.02):
                storm.append(ask(client, url))

        person = threading.Thread(target=go_on_asking)
        person.start()
        wait_until(lambda: held(agents) == count, "all of them back", 300)
        back = time.monotonic() - ready
        wait_until(lambda: any(each.status == 200 for each in storm), "an answer")
        over.set()
        person.join(30)
        assert agents.status is None, agents.tell()

    assert {each.status for each in alone} == {200}
    served = next(each for each in storm if each.status == 200)
    what = f"R-09 {count} agents after a restart:"
    hold(f"{what} all back", back, "s", at_most=BACK)
    hold(f"{what} the first page again", served.began + served.took - ready, "s", at_most=BACK)
    bar = 3 if count >= 1000 else None
    hold(f"{what} p99 of people meanwhile, of that before", p99(storm) / p99(alone), at_most=bar)
