"""A proxy of several processes: all serve, none is missed for long, and all end together."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread

import pytest
import trustme

from tests.e2e.client import Client
from tests.e2e.harness import DOMAIN, Cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.engine.net.test_systemd import Listener
from tests.figures import BUSY
from tests.ports import free_port

pytestmark = pytest.mark.e2e

SERVES = re.compile(r"worker (\d+) serves, as process (\d+)")
GONE = 10.0 * BUSY  # s in which a process is gone whose reason to be is


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Make a cluster's file with `workers: 2`; `proxy`: further lines of that section."""
    made: list[Cluster] = []

    def cluster(*proxy: str) -> Cluster:
        cluster = Cluster(tmp_path, free_port(), "", diagnostics=True)
        lines = "".join(f"  {line}\n" for line in ("workers: 2", *proxy))
        text = cluster.file.read_text().replace("proxy_service:\n", f"proxy_service:\n{lines}")
        cluster.file.write_text(text)
        made.append(cluster)
        return cluster

    yield cluster
    for each in made:
        each.end()


def workers(cluster: Cluster) -> dict[int, int]:
    """Return the process of each worker, by its number, as the log told last; once all serve."""
    cluster.proxy.wait_for("tport: ready")
    return {int(number): int(pid) for number, pid in SERVES.findall(cluster.proxy.stderr)}


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def none_lives(pids: list[int]) -> bool:
    return not any(map(lives, pids))


def who_served(cluster: Cluster, mark: str) -> dict[str, int]:
    """Return by proxy, of those that live or lived, how many requests of a path with `mark` it served."""
    found: dict[str, int] = {}
    for file in cluster.data_dir.joinpath("auth", "requests").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if mark in entry.get("path", ""):
                found[entry["server_id"]] = found.get(entry["server_id"], 0) + 1
    return found


def ask(cluster: Cluster, person: Client, mark: str, times: int) -> None:
    """Make requests on a new connection each, and keep it; all must be answered and come into the log."""
    with ExitStack() as open_:
        for number in range(times):
            url = cluster.app_url("echo", f"/{mark}/{number}")
            response, connection = person.stream("GET", url)
            open_.enter_context(connection)
            answer = response.status, response.read()
            assert answer == (200, b"hello"), cluster.proxy.tell()
    wait_until(
        lambda: sum(who_served(cluster, mark).values()) == times, f"{times} requests in the log"
    )


def test_all_workers_serve_and_one_that_dies_is_replaced_while_the_other_serves_on(
    make: Callable[..., Cluster],
) -> None:
    cluster = make()
    cluster.start_services()
    agent = cluster.start_agent("echo", start_upstream(cluster).url)
    person = cluster.signed_in("alice")
    assert person.open(cluster.app_url("echo")).status == 200
    before = workers(cluster)
    assert sorted(before) == [1, 2]
    assert len({*before.values(), cluster.proxy.pid}) == 3

    ask(cluster, person, "first", 40)
    served = who_served(cluster, "first")
    assert len(served) == 2, "one worker took everything"
    assert min(served.values()) >= 5
    assert "2 processes" in cluster.tell("status")
    assert json.loads(cluster.tell("status", "--format=json"))["agents"][0]["hostname"]

    os.kill(before[1], signal.SIGKILL)
    ask(cluster, person, "second", 20)
    cluster.proxy.wait_for("worker 1 ended (killed by SIGKILL); another starts now")
    wait_until(lambda: workers(cluster)[1] != before[1], "the first is back")
    assert workers(cluster)[2] == before[2]

    ask(cluster, person, "third", 40)
    third = who_served(cluster, "third")
    assert len(third) == 2
    assert len(third.keys() - served.keys()) == 1, "the new one serves, too"
    assert set(who_served(cluster, "second")) <= served.keys() | third.keys()
    assert agent.status is None

    pids = list(workers(cluster).values())
    assert cluster.proxy.stop() == 143
    assert none_lives([*pids, *before.values()])


def test_one_scrape_tells_of_all_workers_and_never_less_than_before(
    make: Callable[..., Cluster],
) -> None:
    cluster = make()
    cluster.start_services()
    cluster.start_agent("echo", start_upstream(cluster).url)
    person = cluster.signed_in("alice")
    assert person.open(cluster.app_url("echo")).status == 200
    before = workers(cluster)

    def counted() -> int:
        return int(cluster.figure('tport_requests_total{app="echo",class="2xx"}'))

    first = counted()
    ask(cluster, person, "first", 20)
    assert counted() - first == 20
    os.kill(before[1], signal.SIGKILL)
    cluster.proxy.wait_for("worker 1 ended (killed by SIGKILL); another starts now")
    assert counted() - first == 20
    wait_until(lambda: workers(cluster)[1] != before[1], "the first is back")
    ask(cluster, person, "second", 20)
    assert counted() - first == 40


def test_a_browser_resumes_its_tls_session_with_any_worker(make: Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.start_services()
    cluster.proxy.wait_for("tport: ready")
    person = cluster.client()
    held: list[ssl.SSLSocket] = []
    resumed: list[bool] = []
    session: ssl.SSLSession | None = None
    try:
        for _ in range(8):  # open at a time: each worker has four of them
            raw = socket.create_connection(("127.0.0.1", cluster.port), 10)
            tls = person.context.wrap_socket(raw, server_hostname=DOMAIN, session=session)
            held.append(tls)
            request = f"GET /healthz HTTP/1.1\r\nHost: {cluster.address}\r\n\r\n"
            tls.sendall(request.encode())
            assert tls.recv(100).startswith(b"HTTP/1.1 200 ")
            resumed.append(bool(tls.session_reused))
            session = session or tls.session
    finally:
        for tls in held:
            tls.close()

    assert cluster.proxy.stderr.count(f"made a certificate for {DOMAIN}") == 2, "both were met"
    assert resumed == [False] + [True] * 7


def test_a_stop_lets_what_runs_in_each_worker_end(make: Callable[..., Cluster]) -> None:
    """Also when the system tells every process to stop, as control groups do."""
    cluster = make()
    cluster.start_services()
    cluster.start_agent("echo", start_upstream(cluster).url)
    person = cluster.signed_in("alice")
    assert person.open(cluster.app_url("echo")).status == 200
    bodies: list[bytes] = []

    def listen() -> None:
        bodies.append(person.request("GET", cluster.app_url("echo", "/events?n=12")).body)

    listeners = [Thread(target=listen) for _ in range(4)]
    for each in listeners:
        each.start()
    upstream_has = wait_until(lambda: cluster_has(cluster, 4), "four downloads run")
    assert upstream_has < 12, "the machine is too slow for this test"
    pids = list(workers(cluster).values())
    for pid in (*pids, *pids):
        os.kill(pid, signal.SIGTERM)
    assert cluster.proxy.stop() == 143
    for each in listeners:
        each.join(30)

    assert [body.count(b"data: ") for body in bodies] == [12] * 4
    assert none_lives(pids)
    assert "Traceback" not in cluster.proxy.stderr


def cluster_has(cluster: Cluster, streams: int) -> bool:
    """Tell whether the application has been asked for so many event streams."""
    outputs = cluster.folder.joinpath("output").glob("*/stdout")
    return sum(file.read_text().count("GET /events") for file in outputs) == streams


def test_a_second_signal_ends_all_at_once(make: Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.start_services()
    cluster.start_agent("echo", start_upstream(cluster).url)
    person = cluster.signed_in("alice")
    assert person.open(cluster.app_url("echo")).status == 200
    response, connection = person.stream("GET", cluster.app_url("echo", "/events?n=60"))
    with connection:
        assert response.read(6) == b"data: "
        pids = list(workers(cluster).values())
        cluster.proxy.signal(signal.SIGTERM)
        cluster.proxy.wait_for("stopping: open requests may end")
        cluster.proxy.signal(signal.SIGTERM)
        cluster.proxy.wait(GONE)
    assert none_lives(pids)


def test_no_worker_outlives_the_main_process(make: Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.start_services()
    pids = list(workers(cluster).values())
    assert len(pids) == 2

    os.kill(cluster.proxy.pid, signal.SIGKILL)  # it alone, not its group

    cluster.proxy.wait()
    wait_until(lambda: none_lives(pids), "the workers end", GONE)
    assert "worker 2: warning" not in cluster.proxy.stderr
    assert "warning: worker 2: the main process is gone: stopping at once" in cluster.proxy.stderr


def test_systemd_hears_of_all_workers_as_of_one_process(
    make: Callable[..., Cluster], tmp_path: Path
) -> None:
    leaf = trustme.CA().issue_cert(DOMAIN)
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    cluster = make(
        "https_key_file: key.pem", "https_cert_file: cert.pem", "https_keypairs_reload_interval: 0s"
    )
    with closing(Listener(str(tmp_path / "notify"))) as systemd:
        heard: list[str] = []

        def has(message: str) -> bool:
            heard.extend(systemd.heard())
            return any(found.startswith(message) for found in heard)

        env = {"NOTIFY_SOCKET": systemd.address}
        cluster.process = cluster.start("start", f"--config={cluster.file}", env=env)
        wait_until(lambda: has("READY=1"), "READY=1")
        assert sorted(workers(cluster)) == [1, 2]

        heard.clear()
        cluster.proxy.signal(signal.SIGHUP)
        wait_until(lambda: has("READY=1"), "the end of the reload")
        for number in (1, 2):
            assert f"worker {number}: certificates from files are taken anew" in (
                cluster.proxy.stderr
            )

        heard.clear()
        assert cluster.proxy.stop() == 143
        assert has("STOPPING=1")
        assert sum(message.startswith("READY") for message in heard) == 0


def test_what_keeps_a_worker_from_serving_is_told_once_and_ends_the_start(
    make: Callable[..., Cluster], tmp_path: Path
) -> None:
    tmp_path.joinpath("cert.pem").write_text("no certificate")
    tmp_path.joinpath("key.pem").write_text("no key")
    cluster = make("https_key_file: key.pem", "https_cert_file: cert.pem")
    process = cluster.start("start", f"--config={cluster.file}")

    assert process.wait() == 2
    assert str(tmp_path / "cert.pem") in process.stderr
    assert process.stderr.count("tport: error: ") == 1
    assert "Traceback" not in process.stderr


def test_no_secret_is_in_a_workers_arguments_or_environment(make: Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.start_services()
    for pid in workers(cluster).values():
        folder = Path("/proc", str(pid))
        told = folder.joinpath("cmdline").read_bytes() + folder.joinpath("environ").read_bytes()
        assert b"PRIVATE KEY" not in told
        assert folder.joinpath("comm").read_text() == "tport-worker\n"
        words = folder.joinpath("cmdline").read_bytes().split(b"\0")
        assert words[1:4] == [b"-P", b"-m", b"tport.engine.workers.worker"]
        assert len(words) == 6
