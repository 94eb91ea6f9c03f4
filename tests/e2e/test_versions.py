"""Versions next to one another, as real programs: the one that was released before, built from its tag, and this one.

It needs the repository with its history and tags, and PyPI for what the lock of that version names.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import PASSWORD, TPORT, Cluster, need, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.ports import free_port
from tport import __version__

pytestmark = [pytest.mark.e2e, pytest.mark.torture, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[2]
MIB: Final = 1024 * 1024
DUE_IN: Final = timedelta(seconds=15)  # longer than an agent takes to start
ENDED: Final = 5.0 + 10.0  # s from a removal to the end of what runs, on a machine that does more

Version = Literal["before", "now"]


def git(*args: str) -> bytes:
    done = subprocess.run(["git", "-C", ROOT, *args], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


@pytest.fixture(scope="session")
def programs() -> dict[Version, str]:
    """The program of the last release before this minor version, and this one."""
    major, minor = map(int, __version__.split(".")[:2])
    found = git("tag", "--list", "--sort=-v:refname", f"v{major}.{minor - 1}.*").decode().split()
    need(f"a tag v{major}.{minor - 1}.*", found, "have it by: git fetch --tags --unshallow")
    commit = git("rev-parse", f"{found[0]}^{{commit}}").decode().strip()
    folder = ROOT / ".test" / f"tport-{found[0]}-{commit[:12]}"
    if not (folder / "whole").exists():
        build(commit, folder)
    return {"before": str(folder / "bin" / "tport"), "now": TPORT}


def build(commit: str, folder: Path) -> None:
    """Install that version from a wheel of its own, with what its lock names, into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", folder)
    source = folder / "source"
    with tarfile.open(fileobj=BytesIO(git("archive", commit))) as tar:
        tar.extractall(source, filter="data")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    wheels = folder / "wheels"
    # hatchling is here by the lock already; nothing is fetched to build.
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", source)
    into = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*into, "install", "--require-hashes", "-r", source / "locks" / "tport.txt")
    run(*into, "install", "--no-deps", *wheels.glob("tport-*.whl"))
    (folder / "whole").touch()


def run(*argv: str | Path) -> None:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.args}\n{done.stdout}{done.stderr}"


def version_of(program: str) -> str:
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def test_the_programs_are_of_versions_next_to_one_another(programs: dict[Version, str]) -> None:
    assert version_of(programs["now"]) == __version__
    before = version_of(programs["before"])
    assert int(before.split(".")[1]) == int(__version__.split(".")[1]) - 1


@pytest.mark.parametrize(
    ("of_cluster", "of_agent"),
    [("now", "before"), ("before", "now")],
    ids=["old agent", "new agent"],
)
def test_an_agent_works_with_a_cluster_of_the_version_next_to_its_own(
    tmp_path: Path, programs: dict[Version, str], of_cluster: Version, of_agent: Version
) -> None:
    program = programs[of_agent]
    with start_cluster(tmp_path, program=programs[of_cluster]) as cluster:
        upstream = start_upstream(cluster)
        agent = cluster.start_agent("echo", upstream.url, program=program)
        alice = cluster.signed_in("alice")
        goes_through(cluster, alice)

        # Its certificate is due: a new one, and a tunnel with that.
        assert agent.stop() == 143
        make_due(cluster.folder / "agent-echo")
        agent = cluster.start_agent("echo", upstream.url, program=program, token=Path("/nowhere"))
        agent.wait_for("certificate renewed until")
        wait_until(lambda: answers(cluster, alice), "served after the renewal")
        goes_through(cluster, alice)

        for asking in ("before", "now"):
            checked(cluster, programs, asking, of_cluster, of_agent)

        # Access that is taken away is away for what runs, too.
        assert answers(cluster, alice)
        answer, closing = alice.stream("GET", cluster.app_url("echo", "/events?n=300"))
        with closing, websocket(cluster, alice) as talk:
            assert answer.readline().startswith(b"data: ")
            assert said_back(talk, b"still there") == b"still there"
            began = time.monotonic()
            cluster.tell("users", "rm", "alice")
            assert until_its_end(answer) < ENDED
            assert closed(talk)
            assert time.monotonic() - began < ENDED
        assert alice.request("GET", cluster.app_url("echo")).status != 200

        assert agent.stop() == 143
        assert cluster.proxy.stop() == 143
        assert "Traceback" not in cluster.proxy.stderr + agent.stderr


def test_a_data_directory_of_the_version_before_is_gone_on_with(
    tmp_path: Path, programs: dict[Version, str]
) -> None:
    """Who was signed in still is, agents come back, and what was written down stays."""
    cluster = Cluster(tmp_path, free_port(), "", program=programs["before"])
    try:
        cluster.start_services()
        upstream = start_upstream(cluster)
        agent = cluster.start_agent("echo", upstream.url)
        alice = cluster.signed_in("alice", "access,auditor")
        goes_through(cluster, alice)
        role = cluster.folder / "role.yaml"
        role.write_text(
            "kind: role\nversion: v7\nmetadata: {name: night}\nspec: {allow: {app_labels: {shift: night}}}\n"
        )
        cluster.tell("create", role)
        backup = cluster.folder / "before.tar.gz"
        cluster.tell("backup", backup)
        users, roles = cluster.tell("users", "ls"), cluster.tell("get", "roles")
        events = audited(cluster)
        assert agent.stop() == 143
        assert cluster.proxy.stop() == 143

        cluster.program = programs["now"]
        assert "well" in cluster.tell("db", "check")
        cluster.start_services()
        agent = cluster.start_agent("echo", upstream.url, token=Path("/nowhere"))

        wait_until(lambda: answers(cluster, alice), "she is signed in as before")
        goes_through(cluster, alice)
        assert cluster.tell("users", "ls") == users
        assert cluster.tell("get", "roles") == roles
        assert events <= audited(cluster)
        cluster.tell("audit", "verify")
        assert "well" in cluster.tell("db", "check")
        later = cluster.client()
        later.sign_in(later.open(f"{cluster.url}/web/login"), "alice", PASSWORD)
        assert answers(cluster, later)
        assert agent.stop() == 143
        assert cluster.proxy.stop() == 143
        assert "Traceback" not in cluster.proxy.stderr + agent.stderr

        # The format is the same: the version before goes on with it again.
        if is_read_by(cluster, programs["before"]):
            cluster.program = programs["before"]
            cluster.start_services()
            agent = cluster.start_agent("echo", upstream.url, token=Path("/nowhere"))
            wait_until(lambda: answers(cluster, later), "served by the version before")
            goes_through(cluster, later)
            assert agent.stop() == 143
            assert cluster.proxy.stop() == 143
            cluster.program = programs["now"]

        # And what that backed up is restored by this one.
        cluster.data_dir.rename(tmp_path / "old-data")
        cluster.output(f"--data-dir={cluster.data_dir}", "restore", backup)
        cluster.start_services()
        assert cluster.tell("get", "roles") == roles
    finally:
        cluster.end()


def answers(cluster: Cluster, person: Client) -> bool:
    return person.open(cluster.app_url("echo")).text == "hello"


def goes_through(cluster: Cluster, person: Client) -> None:
    """A request, a large body in each direction, and a WebSocket."""
    page = person.open(cluster.app_url("echo"))
    assert (page.status, page.text) == (200, "hello"), page
    data = random.Random(7).randbytes(8 * MIB)
    for body in (data, (data[start : start + MIB] for start in range(0, len(data), MIB))):
        summed = person.request("POST", cluster.app_url("echo", "/sum"), body=body)
        assert summed.text == hashlib.sha256(data).hexdigest(), summed
    down = person.request("GET", cluster.app_url("echo", f"/bytes?size={8 * MIB}"))
    assert len(down.body) == 8 * MIB
    with websocket(cluster, person) as talk:
        for message in (b"one", b"x" * 125):
            assert said_back(talk, message) == message


def checked(
    cluster: Cluster,
    programs: dict[Version, str],
    asking: Version,
    of_cluster: Version,
    of_agent: Version,
) -> None:
    """`tport version --check` says of each whether it is the older or the newer one, and that all is well."""
    done = subprocess.run(
        [programs[asking], f"--config={cluster.file}", "version", "--check", "--format=json"],
        env=cluster.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    found = {row["who"].split()[0]: row for row in json.loads(done.stdout)["cluster"]}
    assert found["cluster"]["version"] == version_of(programs[of_cluster])
    assert found["cluster"]["fits"] == beside(of_cluster, asking)
    assert found["agent"]["version"] == version_of(programs[of_agent])
    assert found["agent"]["fits"] == beside(of_agent, of_cluster)


def beside(one: Version, other: Version) -> str:
    if one == other:
        return "same"
    return "older" if one == "before" else "newer"


def is_read_by(cluster: Cluster, program: str) -> bool:
    """Whether a program takes the database as it is."""
    done = subprocess.run(
        [program, f"--config={cluster.file}", "db", "check"],
        env=cluster.env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0


def make_due(data_dir: Path) -> None:
    """Have the agent's certificate be one that is to be renewed in a moment: when it runs."""
    file = data_dir / "agent" / "agent.json"
    state = json.loads(file.read_text())
    soon = datetime.now(UTC) + DUE_IN
    assert datetime.fromisoformat(state["renew_at"]) > soon
    file.write_text(json.dumps({**state, "renew_at": soon.isoformat()}))


def audited(cluster: Cluster) -> set[str]:
    """Return the events of the audit log, by what each is."""
    listed = json.loads(cluster.tell("audit", "ls", "--format=json"))
    return {f"{each['time']} {each['event']}" for each in listed}


# --- A WebSocket, by hand --------------------------------------------------------------------------


@contextmanager
def websocket(cluster: Cluster, person: Client) -> Iterator[ssl.SSLSocket]:
    url = cluster.app_url("echo", "/echo")
    host = urlsplit(url).hostname or ""
    plain = socket.create_connection(("127.0.0.1", cluster.port), 30)
    with person.context.wrap_socket(plain, server_hostname=host) as stream:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            "GET /echo HTTP/1.1",
            f"Host: {host}:{cluster.port}",
            f"Origin: https://{host}:{cluster.port}",
            f"Cookie: {person.cookie_header(url)}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        )
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = stream.recv(1)
            assert piece, head
            head += piece
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield stream


def said_back(stream: ssl.SSLSocket, message: bytes) -> bytes:
    """Send a text message, masked with zeros, and return the one that comes back."""
    stream.sendall(bytes([0x81, 0x80 | len(message)]) + bytes(4) + message)
    data = b""
    while len(data) < 2 or len(data) < 2 + data[1]:
        piece = stream.recv(1024)
        assert piece, data
        data += piece
    return data[2:]


def until_its_end(answer: http.client.HTTPResponse) -> float:
    """Read what comes until no more does, whichever way it ends; return how long that took."""
    began = time.monotonic()
    try:
        while answer.readline():
            pass
    except (OSError, http.client.HTTPException):
        pass  # cut short: that is an end
    return time.monotonic() - began


def closed(stream: ssl.SSLSocket) -> bool:
    """Whether the far end closes it, within the socket's time-out."""
    try:
        while stream.recv(1024):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
