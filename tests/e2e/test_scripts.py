"""What a script may count on: pipes, formats, exit statuses, no colours, no questions, no waiting for ever."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from ruamel.yaml import YAML

from tests.e2e.harness import TPORT, Cluster, Tport, need, program, start_cluster
from tests.figures import BUSY

pytestmark = pytest.mark.e2e

ESCAPE = "\x1b"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with some of everything to list."""
    with start_cluster(tmp_path_factory.mktemp("busy")) as cluster:
        agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
        cluster.wait_for_app("dumper", agent)
        for number in range(8):
            cluster.tell("users", "add", "--roles=access", f"user-{number}")
        yield cluster


LISTS = ("users ls", "tokens ls", "apps ls", "status", "version")


@pytest.mark.parametrize("command", LISTS)
def test_json_and_yaml_parse_and_say_the_same(busy: Cluster, command: str) -> None:
    as_json = json.loads(busy.tell(*command.split(), "--format=json"))
    as_yaml = YAML(typ="safe", pure=True).load(busy.tell(*command.split(), "--format=yaml"))

    assert as_json == as_yaml
    assert as_json
    for key, value in times(as_json):
        assert value == "" or TIME.fullmatch(value), f"{key}: {value}"


def times(value: object) -> Iterator[tuple[str, str]]:
    """Every value whose key says that it is a time."""
    for item in value if isinstance(value, list) else [value]:
        for key, inner in item.items() if isinstance(item, dict) else ():
            if key in ("created", "expires", "since", "invited_until", "locked_until"):
                yield key, inner
            else:
                yield from times(inner)


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("tokens add --app-name=x --app-uri=http://localhost:1", {"token", "roles", "expires"}),
        ("users add --roles=access made-{format}", {"user", "url", "expires"}),
        ("users reset user-1", {"user", "url", "expires"}),
    ],
)
def test_what_creates_prints_what_it_made(busy: Cluster, command: str, keys: set[str]) -> None:
    for form in ("json", "yaml"):
        words = command.format(format=form).split()
        text = busy.tell(*words, f"--format={form}")
        value = json.loads(text) if form == "json" else YAML(typ="safe", pure=True).load(text)
        assert keys <= set(value)


def test_an_empty_list_is_a_list(cluster: Cluster) -> None:
    for command in ("users ls", "tokens ls", "apps ls"):
        done = cluster.command(*command.split(), "--format=json")
        assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")
        text = cluster.command(*command.split())
        assert (text.returncode, text.stdout) == (0, "")
        assert text.stderr.startswith("tport: no ")


def bash(cluster: Cluster, lines: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run lines by bash, with `tport` on the PATH and this cluster in the environment."""
    found = program("bash")
    need("bash", found, "pipefail is its own")
    return subprocess.run(
        [found, "-c", f"set -euo pipefail\n{lines}"],
        env={
            **cluster.env,
            "PATH": f"{Path(TPORT).parent}:{os.environ['PATH']}",
            "TPORT_CONFIG_FILE": str(cluster.file),
            **env,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["users ls", "users ls --format=json", "status", "ca export"])
def test_a_reader_that_goes_away_is_no_error(busy: Cluster, command: str) -> None:
    """`tport users ls | head -1` with pipefail."""
    done = bash(busy, f"for i in 1 2 3; do tport {command} | head -1; done")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_nothing_in_a_pipe_is_coloured(busy: Cluster) -> None:
    """Not even where a program asks for colours by TERM; errors and help included."""
    lines = "\n".join(
        [
            *(f"tport {command}" for command in LISTS),
            "tport --help",
            "tport start --help",
            "tport users frob || true",
            "tport users rm nobody || true",
        ]
    )
    done = bash(busy, lines, TERM="xterm-256color", NO_COLOR="")

    assert done.returncode == 0, done.stderr
    assert ESCAPE not in done.stdout + done.stderr


@pytest.mark.parametrize("no_color", ["1", ""])
def test_on_a_terminal_no_color_is_obeyed(busy: Cluster, no_color: str) -> None:
    ours, its = pty.openpty()
    env = {**busy.env, "TERM": "xterm-256color", "NO_COLOR": no_color}
    with subprocess.Popen(
        [TPORT, f"--config={busy.file}", "users", "ls"], env=env, stdout=its, stdin=its
    ) as process:
        os.close(its)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass  # how Linux says that the other side has closed
        os.close(ours)
    assert process.returncode == 0
    assert b"user-7" in shown
    if no_color:
        assert re.search(rb"\x1b\[[0-9;]*(3|4|9)[0-9]", shown) is None


def test_if_exists_and_if_not_exists_make_repeats_harmless(cluster: Cluster) -> None:
    twice = "users add --roles=access --if-not-exists repeat"
    assert "web/invite" in cluster.command(*twice.split()).stdout
    again = cluster.command(*twice.split())
    assert (again.returncode, again.stdout) == (0, "")
    plain = cluster.command("users", "add", "--roles=access", "repeat")
    assert (plain.returncode, plain.stdout) == (6, "")
    assert "tport users reset repeat" in plain.stderr

    for noun, name in (("users", "repeat"), ("tokens", cluster.token().read_text())):
        assert cluster.command(noun, "rm", name).returncode == 0
        assert cluster.command(noun, "rm", name).returncode == 4
        gone = cluster.command(noun, "rm", "--if-exists", name)
        assert (gone.returncode, gone.stdout, gone.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("version", 0),
        ("users update nobody --roles=access", 4),
        ("users add --roles=nosuch bob", 4),
        ("users add bob", 2),
        ("users add --roles=access a/b", 2),
        ("tokens add --ttl=100h", 2),
        ("tokens add --type=node", 2),
        ("frob", 2),
        ("users", 2),
        ("--config=/nowhere/tport.yaml users ls", 2),
        ("--data-dir=/nowhere users ls", 4),
        ("start --roles=kube", 2),
        ("ca export --type=web", 0),
    ],
)
def test_exit_statuses(cluster: Cluster, command: str, status: int) -> None:
    done = cluster.run(*command.split(), env={"TPORT_CONFIG_FILE": str(cluster.file)})

    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if status:
        assert done.stdout == ""
        assert done.stderr


def test_a_cluster_that_is_not_running_is_5_and_said_by_name(tport: Tport) -> None:
    with start_cluster(tport.folder / "stopped") as cluster:
        assert cluster.proxy.stop() == 143
        done = cluster.command("users", "ls")
        status = cluster.command("status", "--wait", "--timeout=1")
    assert done.returncode == 5
    assert f"the cluster of {cluster.data_dir} (--config) does not answer" in done.stderr
    assert status.returncode == 5
    assert "not well within 1 s" in status.stderr


def test_status_waits_for_a_cluster_that_is_still_starting(tport: Tport) -> None:
    with start_cluster(tport.folder / "late") as cluster:
        cluster.proxy.stop()
        waiting = cluster.spawn([TPORT, f"--config={cluster.file}", "status", "--wait"])
        time.sleep(0.5)
        assert waiting.status is None
        cluster.start_services()
        assert waiting.wait(10) == 0
        assert "state    well" in waiting.stdout


def test_an_authority_can_be_exported_and_trusted_without_a_terminal(cluster: Cluster) -> None:
    """Export prints PEM and nothing else. Trust in a pipe only says; with --yes it does."""
    pem = cluster.command("ca", "export")
    assert pem.stderr == ""
    authority = x509.load_pem_x509_certificate(pem.stdout.encode())
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    need("certutil", program("certutil"), "apt-get install libnss3-tools")
    said = cluster.command("ca", "trust")
    assert said.returncode == 0
    assert f"tport --config {cluster.file} ca trust --yes" in said.stderr
    assert f"tport --config {cluster.file} ca export | " in said.stdout
    assert not (cluster.home / ".pki").exists()
    if os.geteuid() == 0:
        return  # --yes would change this machine's own authorities too
    done = cluster.command("ca", "trust", "--yes")
    assert "done: Chromium's authorities (NSS)" in done.stderr
    assert (cluster.home / ".pki" / "nssdb" / "cert9.db").exists()


def test_quiet_leaves_results_and_errors(cluster: Cluster) -> None:
    assert cluster.command("--quiet", "users", "ls").stderr == ""
    error = cluster.command("--quiet", "users", "rm", "nobody")
    assert error.returncode == 4
    assert "no user is called" in error.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_ends_a_command_that_waits(
    tport: Tport, number: signal.Signals, status: int
) -> None:
    waiting = tport.start(f"--data-dir={tport.folder}/none", "status", "--wait", "--timeout=30")
    time.sleep(BUSY)  # it says nothing while it waits: by then it does, on a busy machine too
    waiting.signal(number)
    ended = waiting.wait()
    assert ended in (status, -number)  # -15 here is 143 in a shell
    assert "Traceback" not in waiting.stderr
