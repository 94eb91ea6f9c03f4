"""How often proxy and agent call the system for a request, counted by strace.

The number of calls is the same on every machine; what they take is not. `tests/engine/test_cost.py` counts
the steps of tasks likewise.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import Cluster, need, program, start_cluster, wait_until

pytestmark = pytest.mark.e2e

# So many connections that ask at the same time → calls of one request, proxy and agent together: what
# is measured, and some room. Lower them with what makes the path shorter.
MOST: Final = {1: 27.0, 16: 9.0}

REQUESTS: Final = 400
ROUNDS: Final = (
    5  # the least of them counts: what else wakes up on a busy machine costs calls of its own
)
ROOT: Final = Path(__file__).parents[2]


class Strace:
    """Counts the system calls of processes, by name, until it is ended."""

    def __init__(self, cluster: Cluster, *pids: int) -> None:
        self._file = cluster.folder / "calls"
        argv = [program("strace"), "-f", "-c", f"--output={self._file}"]
        self._process = subprocess.Popen(
            [*argv, *(f"--attach={pid}" for pid in pids)], stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: self._is_attached(pids), "strace is attached")

    def _is_attached(self, pids: tuple[int, ...]) -> bool:
        if self._process.poll() is not None:
            _, why = self._process.communicate()
            need("strace", False, f"it may not look at other processes: {why}")
        states = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
        return all(f"TracerPid:\t{self._process.pid}\n" in state for state in states)

    def end(self) -> dict[str, int]:
        self._process.send_signal(2)  # it writes what it has
        self._process.communicate(timeout=30)
        # % time, seconds, usecs/call, calls, errors if there were any, name
        lines = (line.split() for line in self._file.read_text().splitlines())
        return {
            words[-1]: int(words[3]) for words in lines if len(words) > 4 and words[3].isdigit()
        }


def ask(socks: Sequence[socket.socket], request: bytes, times: int) -> None:
    """Ask on every connection, read the answers to their end; and again, so often."""
    for _ in range(times):
        for sock in socks:
            sock.sendall(request)
        for sock in socks:
            answer = b""
            while not answer.endswith(b"\r\n\r\n0"):
                piece = sock.recv(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "), answer


def test_a_request_on_a_kept_connection_takes_few_system_calls(tmp_path: Path) -> None:
    need("strace", program("strace"), "make test-deps")
    with start_cluster(tmp_path) as cluster, ExitStack() as opened:
        # Another of our own answers in two pieces, which costs a delayed acknowledgement each time.
        upstream = cluster.spawn([sys.executable, "-m", "bench.origin"], cwd=ROOT)
        upstream.wait_for("\n")
        agent = cluster.start_agent("plain", f"http://127.0.0.1:{int(upstream.stdout)}")
        ann = cluster.signed_in("ann")
        url = cluster.app_url("plain")
        assert ann.open(url).status == 200
        host = f"plain.{cluster.address}"
        lines = ["GET / HTTP/1.1", f"Host: {host}", f"Cookie: {ann.cookie_header(url)}"]
        request = "\r\n".join([*lines, "", ""]).encode()
        for connections, most in MOST.items():
            socks = [
                opened.enter_context(
                    ann.context.wrap_socket(
                        socket.create_connection(("127.0.0.1", cluster.port), 10),
                        server_hostname=host.partition(":")[0],
                    )
                )
                for _ in range(connections)
            ]
            ask(socks, request, 20)  # until all that is kept is there
            each, told = inf, ""
            for _ in range(ROUNDS):
                strace = Strace(cluster, cluster.proxy.pid, agent.pid)
                ask(socks, request, REQUESTS // connections)
                calls = strace.end()
                each = calls.pop("total") / REQUESTS
                told = ", ".join(f"{name} {count / REQUESTS:.1f}" for name, count in calls.items())
                if each <= most:
                    break
            assert each <= most, f"{each:.1f} calls a request of {connections}: {told[:400]}"
