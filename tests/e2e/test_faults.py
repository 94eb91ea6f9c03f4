"""What breaks, mends, and is told: processes that die, stop, freeze, come back; signals.

Times that a test measures are logged: `pytest --log-cli-level=info` shows them.
"""

from __future__ import annotations

import json
import logging
import signal
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from socket import create_connection
from typing import Any, ClassVar, Final

import msgspec
import pytest
import trio
import trustme
from cryptography.hazmat.primitives.serialization import Encoding

from tests.e2e.client import Client
from tests.e2e.harness import (
    PATIENCE,
    Background,
    Cluster,
    Tport,
    start_cluster,
    tport_home,
    wait_until,
)
from tests.figures import BUSY
from tests.ports import free_port
from tests.stack import DOMAIN, open_stack
from tport.engine.agent.join import join_cluster
from tport.engine.agent.state import AgentState, save_state
from tport.engine.auth.service import AuthService
from tport.engine.config.address import Address
from tport.engine.pki.authority import issue_host_certificate
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import load_certificate, load_private_key
from tport.engine.process import wall_clock
from tport.engine.types.identity import IdentityKind

AGENT: Final[frozenset[IdentityKind]] = frozenset({"agent"})

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

WORK = 0.25  # s that the application takes for each request: so that some are always in flight
PEOPLE = 8


class Slow(BaseHTTPRequestHandler):
    """Says which agent asked, after WORK seconds; /drip/N sends a line each half second, N of them."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave together, as a quick application's do
    posts: ClassVar[list[str]] = []  # the bodies of all POSTs, as they came
    came_by: ClassVar[SimpleQueue[str]] = SimpleQueue()  # the agent that brought each POST, at once

    def do_POST(self) -> None:
        self.posts.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.came_by.put(self.headers["X-Forwarded-Server"])
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/drip/"):
            lines = int(self.path.removeprefix("/drip/"))
            self.send_response(200)
            self.send_header("Content-Length", str(lines * len("drip\n")))
            self.end_headers()
            for _ in range(lines):
                self.wfile.write(b"drip\n")
                self.wfile.flush()
                time.sleep(0.5)
            return
        time.sleep(WORK)
        body = self.headers["X-Forwarded-Server"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def wait_for_post(*, by: str) -> None:
    """Return as soon as a POST has come by that agent: for WORK seconds from now it is in flight."""
    while not Slow.came_by.empty():
        Slow.came_by.get_nowait()
    while Slow.came_by.get(timeout=PATIENCE) != by:
        pass


class Upstream(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None: ...  # agents die here on purpose


@contextmanager
def upstream() -> Iterator[int]:
    """Serve the slow application; yield its port."""
    with Upstream(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


CUT = 0  # the status of an answer that broke off after its head: never taken for a whole one


@dataclass
class Asked:
    """A request and what came of it; times by the monotonic clock."""

    began: float
    ended: float
    status: int
    text: str
    body: str


@dataclass
class Person:
    """Asks for one page after another; `asked` is what came of it."""

    client: Client
    url: str
    home: str  # the agent that this session prefers
    posts: bool = False
    asked: list[Asked] = field(default_factory=list)

    def ask(self) -> Asked:
        began = time.monotonic()
        body = str(uuid.uuid4()) if self.posts else ""
        try:
            page = self.client.request(
                "POST" if self.posts else "GET", self.url, body=body.encode() or None
            )
        except IncompleteRead:
            asked = Asked(began, time.monotonic(), CUT, "", body)
        else:
            asked = Asked(began, time.monotonic(), page.status, page.text, body)
        self.asked.append(asked)
        return asked

    def ask_until(self, over: threading.Event) -> None:
        while not over.is_set():
            self.ask()


@contextmanager
def load(people: list[Person]) -> Iterator[None]:
    """Have all of them ask, as long as the block runs."""
    over = threading.Event()
    threads = [threading.Thread(target=person.ask_until, args=(over,)) for person in people]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def start_named_agent(cluster: Cluster, name: str, port: int) -> Background:
    """Start an agent for `slow` on a machine that calls itself `name`."""
    file = cluster.folder / f"{name}.yaml"
    file.write_text(
        f"""\
tport:
  nodename: {name}
  data_dir: {cluster.folder / name}
  auth_token: {cluster.token()}
  auth_servers: [{cluster.address}]
app_service:
  enabled: yes
  apps: [{{name: slow, uri: "http://127.0.0.1:{port}"}}]
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
"""
    )
    agent = cluster.start("start", f"--config={file}")
    agent.wait_for("tport: ready")
    return agent


def offers(cluster: Cluster) -> list[str]:
    """The agents of which `tport apps ls` says that they offer `slow`."""
    rows = json.loads(cluster.tell("apps", "ls", "--format=json"))
    return sorted(r["agent"] for r in rows if r["name"] == "slow" and r["state"] == "up")


@dataclass
class Pair:
    """A cluster with two agents that offer the same application."""

    cluster: Cluster
    port: int
    agents: dict[str, Background]

    def both_up(self) -> float:
        return wait_until(lambda: offers(self.cluster) == ["agent-1", "agent-2"], "both offers")

    @contextmanager
    def restarted(self, name: str) -> Iterator[None]:
        """Start an agent again behind the block, which killed it: both are there for the next test."""
        try:
            yield
        finally:
            self.agents[name].kill9()  # where the block failed before it did
            file = self.cluster.folder / f"{name}.yaml"
            self.agents[name] = self.cluster.start("start", f"--config={file}")
            self.agents[name].wait_for("tport: ready")
            self.both_up()

    def person(self, name: str) -> Person:
        """Somebody who is signed in and has opened the application."""
        client = self.cluster.signed_in(name)
        url = self.cluster.app_url("slow")
        page = client.open(url)
        assert page.status == 200, page.text
        return Person(client, url, home=page.text)

    def people(self) -> list[Person]:
        """PEOPLE of whom at least two have their sessions on either agent; every second one posts."""
        made: list[Person] = []
        while len(made) < PEOPLE or any(
            sum(person.home == agent for person in made) < 2 for agent in self.agents
        ):
            made.append(self.person(f"load-{len(made)}"))
            made[-1].posts = sum(person.home == made[-1].home for person in made) % 2 == 0
        return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with start_cluster(tmp_path_factory.mktemp("faults")) as cluster, upstream() as port:
        agents = {name: start_named_agent(cluster, name, port) for name in ("agent-1", "agent-2")}
        pair = Pair(cluster, port, agents)
        pair.both_up()
        yield pair


def test_a_killed_agent_costs_only_what_was_in_flight_on_it(pair: Pair) -> None:
    """502 within a second for that (a cut, where the answer had begun); all else goes through the other agent, at once and after.

    What changes nothing and was not answered yet is asked again there; a POST never is.
    """
    people = pair.people()
    with pair.restarted("agent-1"):
        with load(people):
            time.sleep(2)
            wait_for_post(by="agent-1")
            pair.agents["agent-1"].kill9()
            killed = time.monotonic()  # it has ended, and its connections with it
            time.sleep(3)

        lost = []
        for person in people:
            failed = [asked for asked in person.asked if asked.status != 200]
            assert failed == [] or person.home == "agent-1"
            for asked in failed:
                assert asked.status in (502, CUT), asked
                assert asked.began < killed + 0.05 * BUSY, (
                    f"asked {asked.began - killed:.3f} s after the kill"
                )
                assert asked.ended - killed < 1 * BUSY, (
                    f"told {asked.ended - killed:.3f} s after the kill"
                )
            assert len(failed) <= 1
            later = {asked.text for asked in person.asked if asked.began > killed + 0.05 * BUSY}
            assert later == {"agent-2"}
            lost += failed
        assert any(asked.body for asked in lost), "no POST was in flight on the agent that died"
        assert len(Slow.posts) == len(set(Slow.posts)), "a POST came twice"
        logger.info(
            f"killed agent: {len(lost)} of {sum(len(p.asked) for p in people)} requests lost"
            f" ({sum(not asked.body for asked in lost)} of them GETs),"
            f" told within {max(asked.ended for asked in lost) - killed:.3f} s"
        )


def test_after_a_proxy_restart_agents_are_back_in_ten_seconds_and_sessions_live_on(
    pair: Pair,
) -> None:
    person = pair.person("patient")
    pair.cluster.proxy.kill9()
    time.sleep(2)

    pair.cluster.start_services()
    ready = time.monotonic()
    took = pair.both_up()
    first = wait_until(lambda: person.ask().status == 200, "the same cookie opens the app")

    assert time.monotonic() - ready < 10 * BUSY
    assert {asked.status for asked in person.asked} <= {200, 502, 503}
    assert all(agent.status is None for agent in pair.agents.values())
    logger.info(
        f"proxy restarted: both agents back after {took:.2f} s, the app {first:.2f} s later"
    )


def test_the_applications_of_a_frozen_agent_vanish_within_fifteen_seconds(pair: Pair) -> None:
    """It holds its connection but does not answer: only the echo on the tunnel tells."""
    agent = pair.agents["agent-1"]
    agent.signal(signal.SIGSTOP)
    try:
        took = wait_until(
            lambda: offers(pair.cluster) == ["agent-2"], "agent-1 gone from the list", 60, every=0.3
        )
    finally:
        agent.signal(signal.SIGCONT)
    back = pair.both_up()

    assert took <= 15 + 4 * BUSY, f"{took:.1f} s"  # the looks at the list take time themselves
    logger.info(f"frozen agent: gone after {took:.1f} s, back {back:.1f} s after it thawed")


def test_a_dead_agent_s_applications_vanish_at_once(pair: Pair) -> None:
    with pair.restarted("agent-1"):
        pair.agents["agent-1"].kill9()
        took = wait_until(lambda: offers(pair.cluster) == ["agent-2"], "agent-1 gone")
    logger.info(f"dead agent: gone from the list after {took:.2f} s")


async def test_an_agent_that_was_off_for_two_days_comes_back_by_itself(tmp_path: Path) -> None:
    """R-21: its certificate has expired: it proves that it holds the key, and gets the next one."""
    async with open_stack() as stack:
        token = await stack.admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
        )
        state = await join_cluster(
            Address("127.0.0.1", stack.port),
            token.token,
            hostname="sleeper",
            pins=(),
            insecure=False,
            clock=wall_clock,
        )
        folder = tmp_path / "data" / "agent"
        folder.mkdir(parents=True)
        await trio.to_thread.run_sync(save_state, folder, two_days_old(state, stack.auth))
        with tport_home(tmp_path) as tport:
            began = trio.current_time()
            agent = tport.start(
                "start",
                "--roles=app",
                f"--data-dir={tmp_path / 'data'}",
                f"--auth-server={DOMAIN}:{stack.port}",
                "--app-name=sleeper",
                f"--app-uri=http://127.0.0.1:{stack.echo.port}",
            )
            with trio.fail_after(20):
                while "tport: ready" not in agent.stderr:
                    assert agent.status is None, agent.tell()
                    await trio.sleep(0.05)
            took = trio.current_time() - began
            alice = await stack.user("alice")
            answer = await alice.get("sleeper")
            await trio.to_thread.run_sync(agent.stop)

    assert (answer.status, answer.body) == (200, b"hello")
    logger.info(f"off for two days: serving {took:.2f} s after its start")


def two_days_old(state: AgentState, auth: AuthService) -> AgentState:
    """The state as the agent would have kept it, had it been switched off the day before yesterday."""
    then = datetime.now(UTC) - timedelta(days=3)
    shown = load_certificate(state.certificate)
    certificate = issue_host_certificate(
        auth.cluster.keys["host"],
        load_private_key(state.key).public_key(),
        identity_of(
            shown.public_bytes(Encoding.DER),
            authorities=auth.cluster.authorities,
            expected_kinds=AGENT,
            now=datetime.now(UTC),
        ),
        now=then,
        ttl=timedelta(days=1),
    )
    return msgspec.structs.replace(
        state,
        certificate=certificate,
        renew_at=then + timedelta(hours=12),
        expires=then + timedelta(days=1),
    )


# --- Signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["proxy", "agent"])
def test_sigterm_lets_a_download_finish_and_ends_with_143(tmp_path: Path, who: str) -> None:
    with start_cluster(tmp_path) as cluster, upstream() as port:
        agent = cluster.start_agent("slow", f"http://127.0.0.1:{port}")
        person = cluster.signed_in("alice")
        assert person.open(cluster.app_url("slow")).status == 200
        process = cluster.proxy if who == "proxy" else agent
        answer, closing = person.stream("GET", cluster.app_url("slow", "/drip/4"))
        with closing:
            assert answer.read(5) == b"drip\n"
            process.signal(signal.SIGTERM)
            process.wait_for("stopping: open requests may end")
            rest = answer.read()

        assert rest == b"drip\n" * 3
        assert process.wait(5) == 143
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
def test_a_second_signal_cuts(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with start_cluster(tmp_path) as cluster, upstream() as port:
        cluster.start_agent("slow", f"http://127.0.0.1:{port}")
        person = cluster.signed_in("alice")
        assert person.open(cluster.app_url("slow")).status == 200
        answer, closing = person.stream("GET", cluster.app_url("slow", "/drip/30"))
        with closing:
            assert answer.read(5) == b"drip\n"
            cluster.proxy.signal(number)
            cluster.proxy.wait_for("once more to stop at once")
            cluster.proxy.signal(number)

            assert cluster.proxy.wait(7) == status  # of 15 s
        assert "Traceback" not in cluster.proxy.stderr


def test_a_signal_stops_an_agent_that_finds_no_proxy(tmp_path: Path) -> None:
    """It has joined before, so it dials for ever; being told to stop it stops."""
    with start_cluster(tmp_path) as cluster, upstream() as port:
        folder = tmp_path / "agent"
        cluster.start_agent("slow", f"http://127.0.0.1:{port}", data_dir=folder).stop()
        cluster.proxy.kill9()
        agent = cluster.start(
            "start",
            "--roles=app",
            f"--data-dir={folder}",
            f"--auth-server={cluster.address}",
            "--app-name=slow",
            f"--app-uri=http://127.0.0.1:{port}",
        )
        agent.wait_for("can't reach the auth service, trying on")
        time.sleep(2)

        assert agent.status is None
        assert agent.stderr.count("trying on") == 1, "it says once that it tries on"
        assert agent.stop(3) == 143


def test_sighup_and_a_changed_file_renew_certificates_and_end_nothing(tmp_path: Path) -> None:
    ca = trustme.CA()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def write() -> str:
        pair = ca.issue_cert(DOMAIN, f"*.{DOMAIN}")
        key.write_bytes(pair.private_key_pem.bytes())
        cert.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
        return ssl.PEM_cert_to_DER_cert(cert.read_text()).hex()

    first = write()
    with tport_home(tmp_path) as tport:
        port, server = start_with_files(tport, tmp_path, cert, key)
        assert shown(port) == first
        second = write()
        server.signal(signal.SIGHUP)
        wait_until(lambda: shown(port) == second, "the second certificate")

        key.write_text("no key")
        server.signal(signal.SIGHUP)
        server.wait_for("certificates are not taken anew, the old ones stay")
        assert shown(port) == second
        server.wait_for("what to do")
        events = (f"--data-dir={tmp_path}/data", "audit", "ls", "--type=cert.reload")
        wait_until(lambda: "TPC04E" in tport.output(*events, "--format=json"), "the event")
        third = write()
        took = wait_until(lambda: shown(port) == third, "the third certificate, unasked")

        assert server.stop() == 143
    logger.info(f"a changed certificate was noticed after {took:.1f} s")


def start_with_files(tport: Tport, folder: Path, cert: Path, key: Path) -> tuple[int, Background]:
    port = free_port()
    file = folder / "tport.yaml"
    file.write_text(
        f"""\
tport: {{data_dir: {folder}/data}}
auth_service: {{enabled: yes, listen_addr: "127.0.0.1:0"}}
proxy_service:
  enabled: yes
  web_listen_addr: 127.0.0.1:{port}
  public_addr: {DOMAIN}:{port}
  https_keypairs:
  - {{cert_file: {cert}, key_file: {key}}}
"""
    )
    server = tport.start("start", f"--config={file}")
    server.wait_for("tport: ready")
    return port, server


def shown(port: int) -> str:
    """The certificate that a browser is shown, DER in hex."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with create_connection(("127.0.0.1", port), 5) as raw:
        with context.wrap_socket(raw, server_hostname=DOMAIN) as tls:
            certificate = tls.getpeercert(binary_form=True)
            assert certificate is not None
            return certificate.hex()
