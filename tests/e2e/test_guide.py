"""The guide, as it stands: its files and lines with nothing changed but names, ports and folders."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest

from tests.e2e.client import Client
from tests.e2e.harness import PASSWORD, TPORT, Background, Cluster, Tport, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.e2e

SERVER_FILE = """\
# tport.yaml; the top-level key `teleport:` is read as `tport:`, so a Teleport file works as it is
tport:
  data_dir: /var/lib/tport
auth_service:
  enabled: "yes"
proxy_service:
  enabled: "yes"
  # The address users and agents reach the proxy at.
  public_addr: tport.example.com:3080
ssh_service:
  enabled: "no"
"""
AGENT_FILE = """\
tport:
  data_dir: /var/lib/tport-app     # not auth's, when on the same machine
  auth_token: /tmp/token           # an absolute path is read as a file
  auth_servers:
  - tport.example.com:3080
app_service:
  enabled: yes
  debug_app: true
  apps:
  - name: grafana
    uri: http://localhost:3000
    public_addr: grafana.tport.example.com
    labels:
      env: prod
    commands:                      # dynamic labels
    - name: os
      command: ["/usr/bin/uname"]
      period: 5s
auth_service: {enabled: "no"}
ssh_service: {enabled: "no"}
proxy_service: {enabled: "no"}
"""
BY_FLAGS = """\
tport start --roles=app --token=/tmp/token --auth-server=tport.example.com:3080 \\
    --app-name=grafana --app-uri=http://localhost:3000 --labels=env=dev
"""


class Grafana(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"Welcome to Grafana"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def grafana() -> Iterator[int]:
    """Serve an application; yield its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Grafana) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@dataclass
class Here:
    """Where the guide's names are in a test."""

    folder: Path
    port: int
    app_port: int
    key: str  # the top-level key of the files

    @property
    def address(self) -> str:
        return f"tport.localhost:{self.port}"

    def say(self, text: str) -> str:
        """The guide's words with this test's names, ports and folders."""
        for theirs, ours in (
            ("\ntport:\n", f"\n{self.key}:\n"),
            (
                "  public_addr: tport.example.com:3080\n",
                f"  public_addr: {self.address}\n  web_listen_addr: 127.0.0.1:{self.port}\n",
            ),
            ("\nauth_service:\n", "\nauth_service:\n  listen_addr: 127.0.0.1:0\n"),
            ("/var/lib/tport-app", str(self.folder / "agent-2")),
            ("/var/lib/tport", str(self.folder / "server")),
            ("/tmp/token", str(self.folder / "token")),
            ("tport.example.com:3080", self.address),
            ("tport.example.com", "tport.localhost"),
            ("http://localhost:3000", f"http://localhost:{self.app_port}"),
        ):
            text = f"\n{text}".replace(theirs, ours)[1:]
        return text

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(self.say(text))
        return path


def listed(tport: Tport, file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        tport.output(f"--config={file}", "apps", "ls", "--format", "json")
    )
    return rows


def said(process: Background) -> str:
    """What a process said but for the names of its agents: for a failure, and to find tracebacks."""
    assert "Traceback" not in process.stderr, process.tell()
    return process.stderr


@pytest.mark.parametrize(
    ("key", "shared"),
    [("teleport", False), ("tport", True)],
    ids=["three folders, teleport:", "one folder shared, tport:"],
)
def test_the_guide_works_from_the_first_step_to_the_last(
    tport: Tport, tmp_path: Path, key: str, shared: bool
) -> None:
    with grafana() as app_port:
        here = Here(tmp_path, free_port(), app_port, key)

        # 1. Auth and proxy
        file = here.write("tport.yaml", SERVER_FILE)
        server = tport.start("start", f"--config={file}")
        server.wait_for("tport: ready")
        assert "users add --roles=editor,access,auditor NAME" in server.stderr, "who comes first"

        # 2. A join token, into a file without showing it
        flags = [f"--config={file}"]
        add = here.say(
            "tport tokens add --type=app --app-name=grafana --app-uri=http://localhost:3000"
        )
        told = tport.shell(add, flags)
        assert told.returncode == 0, told.stderr
        assert told.stderr == ""
        printed_token = re.search(r"[0-9a-f]{32}\.[0-9a-f]{64}", told.stdout)
        assert printed_token is not None
        assert "60 minutes" in told.stdout
        assert "umask 077" in told.stdout
        assert f"--auth-server={here.address}" in told.stdout
        assert f"https://grafana.{here.address}" in told.stdout
        token = tport.shell(f"umask 077; {add} --format=text > {tmp_path}/token", flags)
        assert (token.stdout, token.stderr) == ("", "")
        assert (tmp_path / "token").read_text().count("\n") == 1

        # 4. A user
        added = tport.shell(f"tport --config={file} users add --roles=access appuser")
        link = re.search(rf"https://{here.address}/web/invite/\S+", added.stdout)
        assert link is not None, added.stdout + added.stderr

        # 5. An agent, by the guide's flags
        words = shlex.split(here.say(BY_FLAGS).replace("\\\n", ""))
        folder = tmp_path / ("server" if shared else "agent-1")
        one = tport.start(*words[1:], env={"TPORT_DATA_DIR": str(folder)})
        one.wait_for("tport: ready")

        # 6. A second agent, by the guide's file; its token is any application's
        tport.shell(f"umask 077; tport tokens add --format=text > {tmp_path}/token", flags)
        two = tport.start("start", f"--config={here.write('agent.yaml', AGENT_FILE)}")
        two.wait_for("tport: ready")
        wait_until(
            lambda: [row["state"] for row in listed(tport, file)] == ["up"] * 3,
            "three offers in `tport apps ls`, each up",
        )
        rows = [(row["name"], row["labels"], row["state"]) for row in listed(tport, file)]
        assert sorted(rows, key=str) == [
            ("dumper", {}, "up"),
            ("grafana", {"env": "dev"}, "up"),
            ("grafana", {"env": "prod", "os": "Linux"}, "up"),
        ]

        # 8. Using it
        person = Client(tport.output(*flags, "ca", "export"), here.port)
        person.sign_up(link[0], PASSWORD)
        use(person, here)

        for process in (one, two, server):
            said(process)
            assert process.stop() == 143


def use(person: Client, here: Here) -> None:
    """Step 8: the list, an application by its address, what it is told, signing out of it."""
    page = person.open(f"https://{here.address}/web/cluster/tport.localhost/apps")
    assert page.status == 200
    for name in ("grafana", "dumper"):
        assert f"https://{name}.{here.address}" in page.text
    app = f"https://grafana.{here.address}/"
    assert person.open(app).text == "Welcome to Grafana"
    dump = person.open(f"https://dumper.{here.address}/deep?link=1")
    assert "GET /deep?link=1 HTTP/1.1" in dump.text
    assertion = re.search(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", dump.text)
    assert assertion is not None
    keys = person.request("GET", f"https://{here.address}/.well-known/jwks.json")
    key = jwt.PyJWKSet.from_json(keys.text)[jwt.get_unverified_header(assertion[0])["kid"]]
    claims = jwt.decode(assertion[0], key, options={"verify_aud": False})
    assert (claims["username"], claims["roles"]) == ("appuser", ["access"])

    person.open(f"https://grafana.{here.address}/teleport-logout")
    assert person.request("GET", app).status == 401


def test_short_forms_work_where_nothing_is_in_doubt(cluster: Cluster) -> None:
    """The proxy and the token by the environment, the token by stdin, neither beside the cluster."""
    with grafana() as port:
        token = cluster.token()
        uri = f"--app-uri=http://localhost:{port}"
        by_environment = cluster.start(
            "start",
            "--roles=app",
            "--app-name=one",
            uri,
            env={
                "TPORT_PROXY": cluster.address,
                "TPORT_TOKEN_FILE": str(token),
                "TPORT_DATA_DIR": str(cluster.folder / "one"),
            },
        )
        by_stdin = cluster.spawn(
            [
                "sh",
                "-c",
                f"exec tport start --roles=app --token=- --auth-server={cluster.address}"
                f" --app-name=two {uri} --data-dir={cluster.folder}/two < {token}",
            ],
            env=on_path(),
        )
        beside = cluster.start(
            "start",
            "--roles=app",
            "--app-name=three",
            uri,
            env={"TPORT_CONFIG_FILE": str(cluster.file)},
        )
        for name, agent in (("one", by_environment), ("two", by_stdin), ("three", beside)):
            cluster.wait_for_app(name, agent)
            said(agent)
            assert agent.stop() == 143
        assert "joining the cluster that runs on this machine" in beside.stderr


def on_path() -> dict[str, str]:
    return {"PATH": f"{Path(TPORT).parent}:{os.environ['PATH']}"}


def test_a_relative_token_file_is_a_file(cluster: Cluster) -> None:
    token = cluster.token("near")
    with grafana() as port:
        agent = cluster.spawn(
            [
                "sh",
                "-c",
                f"exec tport start --roles=app --token={token.name} --app-name=near"
                f" --auth-server={cluster.address} --app-uri=http://localhost:{port}"
                f" --data-dir={cluster.folder}/near",
            ],
            env=on_path(),
            cwd=token.parent,
        )
        cluster.wait_for_app("near", agent)
        said(agent)
        agent.stop()


def test_what_is_missing_is_one_message_with_the_whole_line(tport: Tport) -> None:
    """In a pipe nothing is asked: the lines say what lacks and what to type."""
    for flags, missing in (
        (("--app-name=nosuchapp",), "--app-uri is missing"),
        (("--app-name=x", "--app-uri=http://localhost:9"), "no proxy to dial"),
        (
            ("--app-name=x", "--app-uri=http://localhost:9", "--auth-server=tport.localhost:9"),
            "no token to join with",
        ),
    ):
        done = tport.run(
            "start", "--roles=app", *flags, env={"TPORT_DATA_DIR": str(tport.folder / "fresh")}
        )
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert missing in done.stderr
        assert "tport start --roles=app --token=FILE --auth-server=" in done.stderr
        assert all(line.startswith("tport: ") for line in done.stderr.splitlines())


def test_two_agents_do_not_share_one_folder(cluster: Cluster) -> None:
    with grafana() as port:
        folder = cluster.folder / "both"
        first = cluster.start_agent("first", f"http://localhost:{port}", data_dir=folder)

        second = cluster.run(
            "start",
            "--roles=app",
            f"--data-dir={folder}",
            f"--token={cluster.token()}",
            f"--auth-server={cluster.address}",
            "--app-name=second",
            f"--app-uri=http://localhost:{port}",
        )

        assert second.returncode == 2
        assert "is in use by another tport process" in second.stderr
        assert "--data-dir" in second.stderr
        first.stop()
