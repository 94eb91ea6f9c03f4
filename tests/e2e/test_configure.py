"""`tport configure`: asks at a terminal and shows the file; looks around for what a file needs."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import TPORT, Cluster, Tport, need
from tests.ports import free_port

pytestmark = pytest.mark.e2e

PATIENCE = 60.0  # s for the next question


class Terminal:
    """A program at a terminal of its own, and who types there."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self.screen = ""
        self._seen = 0

    def wait_for(self, text: str) -> None:
        """Read on until `text` is on the screen, behind what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen[self._seen :]:
            ready, _, _ = select.select([self._end], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} never came:\n{self.screen}"
            try:
                self.screen += os.read(self._end, 4096).decode()
            except OSError:  # Linux: everybody has closed it
                pytest.fail(f"it ended before {text!r}:\n{self.screen}")
        self._seen = self.screen.index(text, self._seen) + len(text)

    def answer(self, question: str, answer: str) -> None:
        self.wait_for(question)
        os.write(self._end, f"{answer}\n".encode())


@contextmanager
def at_terminal(tport: Tport, *args: str) -> Iterator[Terminal]:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [TPORT, *args], stdin=its, stdout=its, stderr=its, env=tport.env, cwd=tport.folder
    )
    os.close(its)
    try:
        yield Terminal(process, ours)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_four_answers_at_a_terminal_make_a_file_that_passes_its_test(tport: Tport) -> None:
    file = tport.folder / "etc" / "tport.yaml"

    with at_terminal(tport, "configure", "--interactive", f"--output={file}") as terminal:
        terminal.answer("Where do people reach tport", "https://tport.example.com")
        terminal.answer("leave out 'https://'", "tport.example.com")
        terminal.answer("Which [1]", "")
        terminal.answer("e-mail", "alice@example.com")
        terminal.answer("first application", "http://localhost:3000")
        terminal.answer("called", "grafana")
        terminal.wait_for('public_addr: "tport.example.com:443"')
        terminal.answer(f"Write it to {file}?", "y")
        terminal.wait_for(f"wrote {file}")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert 'email: "alice@example.com"' in text
    assert 'name: "grafana"' in text
    assert tport.output("configure", "--test", file) == f"{file}: ok"


def test_bare_at_a_terminal_it_asks_too_and_writes_nothing_unless_told(tport: Tport) -> None:
    before = sorted(Path(tport.folder).rglob("*.yaml"))

    with at_terminal(tport, "configure") as terminal:
        terminal.answer("Where do people reach tport", "tport.internal:8443")
        terminal.answer("Which [3]", "3")
        terminal.answer("first application", "")
        terminal.wait_for('public_addr: "tport.internal:8443"')
        terminal.answer("Write it to", "-")

    assert sorted(Path(tport.folder).rglob("*.yaml")) == before


# --- A look around ---------------------------------------------------------------------------------


def file_of(tport: Tport, name: str, acme: str = "") -> Path:
    file = tport.folder / "tport.yaml"
    file.write_text(
        f"tport: {{data_dir: {tport.folder}/data}}\n"
        f"auth_service: {{listen_addr: '127.0.0.1:{free_port()}'}}\n"
        f"proxy_service: {{web_listen_addr: '127.0.0.1:{free_port()}', public_addr: {name}{acme}}}\n"
    )
    return file


def test_a_server_that_runs_has_nothing_to_mend(cluster: Cluster) -> None:
    done = cluster.run("configure", "--check", cluster.file)

    assert done.returncode == 0, done.stdout
    assert f"127.0.0.1:{cluster.port}: tport serves there" in done.stdout
    assert f"tport answers at {cluster.address}" in done.stdout
    assert done.stderr.endswith("tport: nothing is wrong\n")


def test_what_is_wrong_stands_in_a_table_with_what_to_do_and_status_1(tport: Tport) -> None:
    file = file_of(tport, "tport.example.invalid", ", acme: {enabled: yes, email: a@b.test}")

    done = tport.run("configure", "--check", file)
    machine = tport.run("configure", "--check", file, "--format=json")

    assert (done.returncode, machine.returncode) == (1, 1)
    assert done.stdout.startswith("CHECK ")
    assert "*.tport.example.invalid. 300 IN CNAME tport.example.invalid." in done.stdout
    assert "acme port" in done.stdout
    rows = json.loads(machine.stdout)
    assert all(set(row) == {"check", "verdict", "found", "advice"} for row in rows)
    assert all(row["advice"] for row in rows if row["verdict"] == "problem")


def test_a_machine_without_a_network_is_told_at_once_and_once(tport: Tport) -> None:
    unshare = shutil.which("unshare") and os.geteuid() == 0
    need("a network namespace", unshare, "only root can make one")
    file = file_of(tport, "tport.example.com", ", acme: {enabled: yes, email: a@b.test}")

    began = time.monotonic()
    done = subprocess.run(
        ["unshare", "--net", TPORT, "configure", "--check", "--format=json", file],
        env=tport.env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert time.monotonic() - began < PATIENCE
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert "this machine looks up no name" in rows["dns"]["found"]
    assert not [check for check in rows if check.startswith(("dns ", "reachable", "acme dir"))]


def test_a_file_that_is_faulty_itself_is_told_as_ever(tport: Tport) -> None:
    file = tport.folder / "tport.yaml"
    file.write_text("auth_servise: {}\n")

    done = tport.run("configure", "--check", file)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}:1:1: auth_servise: unknown setting" in done.stderr


# --- The guide's line ------------------------------------------------------------------------------


def test_what_the_guides_line_writes_starts_a_server_as_it_is(tport: Tport) -> None:
    """In a network of its own, where port 443 is free; only the data is elsewhere."""
    has_own = shutil.which("unshare") and shutil.which("ip") and os.geteuid() == 0
    need("a network namespace", has_own, "only root can make one, with unshare and ip")
    file = tport.folder / "tport.yaml"
    flags = ["--acme", "--acme-email=alice@example.com", "--cluster-name=tport.example.com"]
    file.write_text(tport.output("configure", *flags) + "\n")

    start = f"ip link set lo up; exec {TPORT} start --config={file} --data-dir={tport.folder}/data"
    process = tport.spawn(["unshare", "--net", "sh", "-c", start])

    process.wait_for("tport: ready")
    assert process.stop() == 143
