"""`tport join` reads the word at a terminal and from a script; `tport tokens approve` prints it."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator

import pytest
import trio
from msgspec.structs import replace

from tests.engine.web.test_join import ASKED, CODE
from tests.fakes import FakeAuth, WallClock
from tport.cli import run
from tport.commands import tokens
from tport.commands.join import ask_word
from tport.engine.agent.approval import TRIES

Stdin = Callable[[str], None]


@pytest.fixture(params=["a pipe", "a terminal"])
def stdin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stdin]:
    """Put text into standard input, and end it there where it is a pipe."""
    is_pipe = request.param == "a pipe"
    ours, theirs = os.pipe()[::-1] if is_pipe else pty.openpty()

    def put(text: str) -> None:
        os.write(ours, text.encode() if is_pipe else text.encode() + b"\x04")
        if is_pipe:
            os.close(ours)

    with open(theirs) as file:
        monkeypatch.setattr("sys.stdin", file)
        yield put
    if not is_pipe:
        os.close(ours)


async def test_the_word_is_the_next_line_that_is_not_empty(
    stdin: Stdin, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each try has a line of its own; who pressed Enter meanwhile has not tried."""
    stdin("\n \nk7q4 xm\nother\n")

    assert await ask_word(TRIES) == "k7q4 xm"
    assert await ask_word(TRIES - 1) == "other"
    assert await ask_word(TRIES - 2) is None
    out, err = capfd.readouterr()
    assert out == ""
    assert "this machine was let in" in err
    assert "not the word; 2 tries are left" in err
    assert "not the word; 1 try is left" in err


async def test_who_has_no_standard_input_types_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)

    assert await ask_word(TRIES) is None


@pytest.mark.parametrize("stdin", ["a pipe"], indirect=True)
async def test_a_script_hears_that_the_word_is_waited_for(
    stdin: Stdin, capfd: pytest.CaptureFixture[str]
) -> None:
    stdin("")
    assert await ask_word(TRIES) is None

    assert "tport: waiting for the word on standard input" in capfd.readouterr().err


async def test_who_leaves_instead_of_typing_is_not_kept(stdin: Stdin) -> None:
    with trio.fail_after(30), trio.move_on_after(0.01) as left:
        await ask_word(TRIES)
    stdin("too late\n")

    assert left.cancelled_caught


@pytest.mark.parametrize(
    ("args", "word", "printed"),
    [((), "K7Q4XM", "K7Q4XM\n"), (("--refuse",), "K7Q4XM", ""), ((), "", "")],
)
def test_who_lets_a_machine_in_gets_the_word_on_stdout(
    args: tuple[str, ...],
    word: str,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """None of an auth of the version before, which tells none."""
    auth = FakeAuth(WallClock())
    auth.join, auth.join_word = replace(ASKED, hostname="box7"), word
    monkeypatch.setattr(tokens, "with_cluster", lambda _ctx, ask: trio.run(ask, auth))

    assert run(["--yes", "tokens", "approve", CODE, *args]) == 0

    out, err = capsys.readouterr()
    assert out == printed
    assert ("if the machine asks for a word, it is" in err) is bool(printed)
