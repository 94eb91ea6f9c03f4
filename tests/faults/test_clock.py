"""R-13: clocks that are wrong, or set while they are in use, of real processes.

The wall's time alone is moved (libfaketime); timers are by the monotonic clock, which nobody sets.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import PASSWORD, Cluster, need, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LIBRARIES: Final = "*/faketime/libfaketimeMT.so.1"


class Wall:
    """The wall clock of one process, set from outside while it runs.

    `late`: it may see so up to 2 s later, where the test waits for what must come of it. Else each look at a clock reads a
    file, which takes most of a core.
    """

    def __init__(self, folder: Path, *, late: bool = False) -> None:
        found = sorted(Path("/usr/lib").glob(LIBRARIES))
        need("libfaketime", found, "install the Debian package faketime")
        self._file = folder / f"wall-{time.monotonic_ns()}"
        self.set("+0")
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            **({"FAKETIME_CACHE_DURATION": "1"} if late else {"FAKETIME_NO_CACHE": "1"}),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, offset: str) -> None:
        """`offset`: as "-1h", of what the machine's own clock says."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._file)


def agent_flags(cluster: Cluster, url: str, name: str) -> list[str]:
    return [
        "start",
        "--roles=app",
        f"--token={cluster.token()}",
        f"--auth-server={cluster.address}",
        f"--app-name={name}",
        f"--app-uri={url}",
        f"--data-dir={cluster.folder / name}",
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start_cluster(tmp_path_factory.mktemp("clock")) as cluster:
        yield cluster


def test_ops_10_an_agent_whose_clock_is_wrong_is_told_both_times_and_joins_once_it_is_right(
    cluster: Cluster, tmp_path: Path
) -> None:
    """R-13: hours and years off, before and behind: it says so, does not end, and comes when it is put right."""
    url = start_upstream(cluster).url
    walls = {
        offset: Wall(tmp_path, late=True) for offset in ("-1y", "-1h", "-2m", "+2m", "+1h", "+1y")
    }
    agents = {}
    for number, (offset, wall) in enumerate(walls.items()):
        wall.set(offset)
        flags = agent_flags(cluster, url, f"wrong-{number}")
        agents[offset] = cluster.start(*flags, env=wall.env)
    for agent in agents.values():
        agent.wait_for("the clock of this machine says ")
        assert agent.wait() == 5, "worth a retry"
        assert "s apart" in agent.stderr
        assert "Traceback" not in agent.stderr
    for number, (offset, wall) in enumerate(walls.items()):
        if offset in ("-1h", "+1y"):
            wall.set("+0")
            right = cluster.start(*agent_flags(cluster, url, f"wrong-{number}"), env=wall.env)
            right.wait_for("tport: ready")
            right.stop()


def test_ops_10_an_agent_whose_clock_is_set_while_it_runs_serves_again_once_it_is_right(
    cluster: Cluster, tmp_path: Path
) -> None:
    """R-13: by a minute nothing happens; by more requests are refused and say why; nobody restarts anything."""
    url = start_upstream(cluster).url
    wall = Wall(tmp_path)
    agent = cluster.start(*agent_flags(cluster, url, "moved"), env=wall.env)
    cluster.wait_for_app("moved", agent)
    alice = cluster.signed_in("alice")
    app = cluster.app_url("moved")

    def status() -> int:
        return alice.open(app).status

    assert status() == 200
    for offset in ("-45s", "+45s"):
        wall.set(offset)
        time.sleep(1.5)  # a tick of the agent's, in real time
        assert status() == 200
    for offset in ("+1h", "+1y"):
        wall.set(offset)
        wait_until(lambda: status() == 502, f"refused by a clock that is {offset} off")
    cluster.proxy.wait_for("the session's credential does not count by this agent's clock, 2")
    wall.set("-1h")
    assert status() in (200, 502), "200: what was verified before counts for its minutes"
    wall.set("+0")
    wait_until(lambda: status() == 200, "it serves again")
    assert agent.status is None
    assert "Traceback" not in agent.stderr


def test_ops_10_a_server_whose_clock_is_set_back_ends_sessions_and_goes_on(tmp_path: Path) -> None:
    """R-13: auth and proxy together: signed out, told why in the audit log, and in again; no restart."""
    cluster = Cluster(tmp_path, free_port(), "")
    wall = Wall(tmp_path)
    cluster.env |= wall.env
    try:
        cluster.start_services()
        agent = cluster.start_agent("echo", start_upstream(cluster).url)  # on the same machine
        alice = cluster.signed_in("alice")
        app = cluster.app_url("echo")
        assert alice.open(app).status == 200
        for offset in ("-30s", "+0"):
            wall.set(offset)
            time.sleep(1.5)
            assert alice.request("GET", app).status == 200

        wall.set("-50m")  # by more, its authorities, which are new, would not be valid yet
        wait_until(lambda: set_back(cluster) == 1, "its sessions are ended")
        wait_until(lambda: not is_signed_in(alice, app), "signed out")
        asked = ("audit", "ls", "--type=clock.set_back", "--format=json")
        wait_until(lambda: "TPX06W" in cluster.tell(*asked), "written down")
        assert signed_in_again(alice, cluster, app) == 200
        assert agent.status is None

        wall.set("+2d")
        wait_until(lambda: not is_signed_in(alice, app), "all is over by then")
        time.sleep(3)  # a few ticks by which certificates are made for next year
        wall.set("+0")
        # Until then time stands still, and who signs in is signed out with all the others.
        wait_until(lambda: set_back(cluster) == 2, "what would live for two days more is ended")
        wait_until(lambda: signed_in_again(alice, cluster, cluster.url) == 200, "signed in", 60)
        assert 'name="password"' not in alice.open(cluster.url).text
        assert "Traceback" not in cluster.proxy.stderr + agent.stderr
        assert cluster.proxy.status is None
    finally:
        cluster.end()


def set_back(cluster: Cluster) -> int:
    """Return how often auth has noticed, and ended what there was to end."""
    return cluster.proxy.stderr.count("all sessions are ended")


def is_signed_in(person: Client, app: str) -> bool:
    try:
        return person.request("GET", app).status == 200
    except ssl.SSLCertVerificationError:  # made for days that have not come
        return False


def signed_in_again(person: Client, cluster: Cluster, app: str) -> int:
    """Sign in and open the application; 0: not even that, or the proxy's certificate is of another time."""
    try:
        page = person.open(f"{cluster.url}/web/login")
        if 'name="password"' in page.text:
            person.sign_in(page, "alice", PASSWORD)
        return person.open(app).status
    except ssl.SSLCertVerificationError:
        return 0


@pytest.mark.parametrize("offset", ["+2d", "+40d"])
def test_ops_10_no_agent_ends_and_all_serve_again_whatever_the_clock_showed(
    tmp_path: Path, offset: str
) -> None:
    """R-13: a certificate of the future is made anew once the clock is right, and one that was too old is good."""
    cluster = Cluster(tmp_path, free_port(), "")
    wall = Wall(tmp_path, late=True)
    cluster.env |= wall.env
    try:
        cluster.start_services()
        agent = cluster.start_agent("echo", start_upstream(cluster).url)
        alice = cluster.signed_in("alice")
        app = cluster.app_url("echo")
        assert alice.open(app).status == 200

        wall.set(offset)
        agent.wait_for("certificate renewed until" if offset == "+2d" else "put right whichever")
        wall.set("+0")
        wait_until(lambda: set_back(cluster) == 1, "auth has seen it")

        wait_until(lambda: signed_in_again(alice, cluster, app) == 200, "served again", 90)
        assert agent.status is None
        assert "Traceback" not in cluster.proxy.stderr + agent.stderr
    finally:
        cluster.end()
