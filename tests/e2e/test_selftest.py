"""`tport selftest` as people run it: its figures, its verdicts, and what it leaves behind, which is nothing."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import (
    Background,
    Cluster,
    Tport,
    need,
    program,
    start_cluster,
    wait_until,
)
from tests.e2e.started_upstream import Upstream, start_upstream
from tests.ports import free_port

pytestmark = pytest.mark.e2e

IN_MS = ["request_median", "request_p99", "event_delay", "websocket_median", "websocket_large"]
TRANSFERS = ["download", "upload"]
MEMORY = [f"{name}_memory_{who}" for name in TRANSFERS for who in ("proxy", "agent")]
SIZES = [
    pytest.param("8MiB", 2**23, id="8MiB"),
    pytest.param("1GiB", 2**30, id="1GiB", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
]


# --- A cluster to throw away ----------------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_tport_passes_its_own_test_with_every_figure(
    tport: Tport, tmp_path: Path, text: str, size: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    done = tport.run(
        "selftest",
        f"--size={text}",
        "--rounds=20",
        "--format=json",
        env={"TMPDIR": str(temporary)},
        seconds=500,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # progress is for terminals
    value = json.loads(done.stdout)
    figures = value["figures"]
    assert (value["ok"], value["app"], value["size"], value["failure"]) == (True, None, size, None)
    assert sorted(figures) == sorted([*IN_MS, "event_gap", *TRANSFERS, *MEMORY, "headers"])
    for name in IN_MS:
        figure = figures[name]
        assert figure["added"] == pytest.approx(figure["through"] - figure["direct"], abs=0.002)
    assert figures["request_median"]["samples"] == 20
    assert figures["event_gap"]["through"] >= 100
    assert all(figures[name]["through"] > 0 for name in TRANSFERS)
    if Path("/proc/self/clear_refs").exists():
        assert all(0 <= figures[name]["through"] <= 64 for name in MEMORY)
    assert list(temporary.iterdir()) == []


def test_in_text_it_is_a_table_and_no_other_cluster_is_touched(
    tport: Tport, tmp_path: Path
) -> None:
    """Not even one that the environment names."""
    env = {
        "TPORT_DATA_DIR": str(tmp_path / "mine"),
        "TPORT_CONFIG_FILE": str(tmp_path / "mine.yaml"),
        "TPORT_TOKEN_FILE": "/nowhere",
        "TPORT_PROXY": "elsewhere.test",
    }

    done = tport.run("selftest", "--size=1MiB", "--rounds=5", env=env)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("FIGURE")
    assert "NOT OK" not in done.stdout
    assert done.stderr == "tport: all is well\n"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_it_finds_no_process_and_no_file_left(
    tport: Tport, tmp_path: Path, number: signal.Signals
) -> None:
    need("ps", program("ps"), "it tells whose child a process is")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    selftest = tport.start("selftest", "--size=900GiB", env={"TMPDIR": str(temporary)})
    wait_until(lambda: len(children(selftest)) == 2, "both children")
    started = children(selftest)

    selftest.signal(number)

    assert selftest.wait() == 128 + number
    assert not [pid for pid in started if Path("/proc", pid).exists()]
    assert list(temporary.iterdir()) == []


def children(process: Background) -> list[str]:
    """The process ids of the children."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return listed.stdout.split()


# --- An application of the running cluster --------------------------------------------------------


class Place:
    """A cluster with an application that works, one that is down, one that never answers, and dumper."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.files: Upstream = start_upstream(cluster)
        self.silent = socket.create_server(("127.0.0.1", 0))
        silent = self.silent.getsockname()[1]
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: yes
  debug_app: yes
  apps:
  - {{name: files, uri: "{self.files.url}"}}
  - {{name: down, uri: "http://127.0.0.1:{free_port()}"}}
  - {{name: silent, uri: "http://127.0.0.1:{silent}"}}
"""
        )
        cluster.wait_for_app("silent", agent)

    def selftest(self, *args: str) -> tuple[int, dict[str, Any]]:
        """Run it; return its exit status and what it found."""
        done = self.cluster.command("selftest", "--rounds=10", "--format=json", *args)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def users(self) -> list[str]:
        return [user["name"] for user in json.loads(self.cluster.tell("users", "ls", "-f", "json"))]


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Place]:
    place = Place(cluster)
    yield place
    place.silent.close()


def test_an_application_is_measured_and_nothing_stays_behind(place: Place) -> None:
    before = len(place.files.requests)

    status, value = place.selftest("files")

    assert (status, value["ok"], value["app"]) == (0, True, "files")
    figures = value["figures"]
    assert figures["status"]["direct"] == figures["status"]["through"] == 200
    assert figures["request_median"]["added"] is not None
    assert figures["sign_in"]["through"] > 0
    asked = set(place.files.requests[before:])
    assert asked - {"GET /favicon.ico HTTP/1.1"} == {"GET / HTTP/1.1"}  # a page shows its icon
    assert re.fullmatch("selftest-[0-9a-f]{8}", figures["user_removed"]["note"])
    assert place.users() == []


def test_the_debug_app_tells_that_its_headers_are_right(place: Place) -> None:
    status, value = place.selftest("dumper")

    assert (status, value["figures"]["headers"]["ok"]) == (0, True)
    assert place.users() == []


def test_an_application_that_is_down_is_told_by_hop_and_cause(place: Place) -> None:
    done = place.cluster.command("selftest", "down")
    status, value = place.selftest("down")

    assert (done.returncode, status) == (1, 1)
    assert "NOT OK: failed at the application" in done.stdout
    assert "connection refused" in done.stdout
    assert "tport: hint: Nothing listens there" in done.stderr
    assert (value["failure"]["hop"], value["failure"]["error"]) == ("app", "unreachable")
    assert place.users() == []


def test_an_application_that_nobody_offers_is_status_4_in_words(place: Place) -> None:
    done = place.cluster.command("selftest", "nope")

    assert (done.returncode, done.stdout) == (4, "")
    assert "no agent offers an application called 'nope' now" in done.stderr
    assert "tport: hint: there are: down, dumper, files, silent" in done.stderr
    assert place.users() == []


def asked(listener: socket.socket) -> socket.socket:
    """Wait for a visitor's request: the agent also looks whether anything is there, and for an icon."""
    listener.settimeout(30)
    while True:
        connection, _ = listener.accept()
        connection.settimeout(30)
        head = connection.recv(4096)
        if head and b"(icon)" not in head:
            return connection
        connection.close()


def test_whoever_stops_it_while_an_application_is_silent_finds_no_user_left(place: Place) -> None:
    selftest = place.cluster.start(f"--config={place.cluster.file}", "selftest", "silent")
    connection = asked(place.silent)
    assert len(place.users()) == 1

    with connection:
        start = time.monotonic()
        selftest.signal(signal.SIGINT)
        status = selftest.wait()

    assert status == 130
    assert time.monotonic() - start < 15
    assert selftest.stderr == ""
    assert place.users() == []


def test_without_a_cluster_an_application_can_t_be_tested_and_that_is_said(
    tport: Tport, tmp_path: Path
) -> None:
    done = tport.run(f"--data-dir={tmp_path}", "selftest", "files")

    assert (done.returncode, done.stdout) == (4, "")
    assert "no cluster found" in done.stderr


@pytest.mark.parametrize("second_factor", ["optional", "on"])
def test_a_cluster_that_demands_more_than_a_password_is_measured_too(
    tmp_path: Path, second_factor: str
) -> None:
    """The throw-away user sets an authenticator app up for this once, and is gone after it."""
    with start_cluster(tmp_path, second_factor=second_factor) as cluster:
        agent = cluster.start_agent_of('app_service: {enabled: "yes", debug_app: "yes"}')
        cluster.wait_for_app("dumper", agent)

        done = cluster.command("selftest", "dumper", "--rounds=5", "--format=json")

        assert done.returncode == 0, done.stderr
        assert cluster.tell("users", "ls", "--format=json") == "[]"


def test_a_cluster_that_takes_passkeys_alone_is_said_to(tmp_path: Path) -> None:
    with start_cluster(tmp_path, second_factor="webauthn") as cluster:
        agent = cluster.start_agent_of('app_service: {enabled: "yes", debug_app: "yes"}')
        cluster.wait_for_app("dumper", agent)

        done = cluster.command("selftest", "dumper", "--rounds=5")

        assert done.returncode == 1
        assert "demands a passkey, and a selftest has none" in done.stdout
        assert "measures a cluster of its own" in done.stderr
        assert cluster.tell("users", "ls", "--format=json") == "[]"
