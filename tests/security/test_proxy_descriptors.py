"""A proxy that may open few files serves as many connections as fit, and its agents all the time."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import TPORT, Cluster, wait_until
from tests.e2e.paced import Paced
from tests.e2e.started_upstream import start_upstream
from tests.figures import Hold
from tests.ports import free_port

pytestmark = pytest.mark.e2e

FILES = 256  # that the proxy may open; it has some 40 of its own
CLIENTS = 400


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Auth and proxy in a process that may open FILES files."""
    cluster = Cluster(tmp_path, free_port(), "", diagnostics=True)
    try:
        start = f'ulimit -n {FILES} && exec "$0" start --config="$1"'
        cluster.process = cluster.spawn(["/bin/sh", "-c", start, TPORT, str(cluster.file)])
        assert cluster.command("status", "--wait", "--timeout=30").returncode == 0
        yield cluster
    finally:
        cluster.end()


def hold_open(cluster: Cluster, streams: ExitStack) -> None:
    """Connect CLIENTS times, from addresses of which none has more than its share, and say nothing."""
    for number in range(CLIENTS):
        stream = streams.enter_context(socket.socket())
        stream.bind((f"127.0.2.{number % 10}", 0))
        stream.connect(("127.0.0.1", cluster.port))


def test_dos_08_few_files_are_enough_for_those_who_are_known(cluster: Cluster, hold: Hold) -> None:
    """DOS-08, R-29: 400 clients at 256 files: no crash, agents stay, others are served, and soon all are."""
    cluster.start_agent("files", start_upstream(cluster).url)
    alice: Client = cluster.signed_in("alice")
    url = cluster.app_url("files")
    assert alice.open(url).status == 200

    with ExitStack() as streams, Paced(alice, url) as work:
        for _ in range(3):
            hold_open(cluster, streams)
            time.sleep(0.5)
        descriptors = len(os.listdir(f"/proc/{cluster.proxy.pid}/fd"))
        assert cluster.figure("tport_tunnels") == 1
        assert cluster.figure('tport_shed_total{what="resting"}') > CLIENTS
        streams.close()
        recovered = wait_until(lambda: cluster.figure("tport_strangers") < 5, "the end of them")
    assert cluster.proxy.status is None
    assert descriptors <= FILES
    assert work.failures == []
    assert len(work.seconds) > 20
    hold("DOS-08 as before after 1,200 clients at 256 files", recovered, "s", at_most=5)
    assert "tunnel.down" not in cluster.tell("audit", "ls", "--format=json")
    assert "could not be accepted" not in cluster.proxy.stderr
    assert "connections at a time" in cluster.proxy.stderr
