"""`tport configure` at a terminal: questions are asked, the file is shown, and written when wanted."""

from __future__ import annotations

import os
import pty
import select
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import TPORT, Tport

pytestmark = pytest.mark.e2e

PATIENCE = 20.0  # s for the next question


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
