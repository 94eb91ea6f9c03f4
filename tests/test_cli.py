"""The root command: built-in commands, plug-ins, wrong command lines, closed pipes, and CPU time."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tport
from tport.cli import BUILT_IN, run

TPORT = Path(sys.executable).with_name("tport")
GREETING = """
import typer
app = typer.Typer()

@app.command()
def hello(name: str = "world") -> None:
    "Greet someone."
    typer.echo(f"hello {name}")
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package that adds one command: the command's name, and the source of its module."""

    def install_package(command: str, source: str) -> None:
        module = f"plugin_{command}"
        folder = tmp_path / module
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        folder.joinpath(f"{module}.py").write_text(source)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        info.joinpath("entry_points.txt").write_text(
            f"[tport.commands]\n{command} = {module}:app\n"
        )
        monkeypatch.syspath_prepend(str(folder))

    return install_package


def test_a_plugin_is_a_command_with_its_line_in_the_help(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("hello", GREETING)

    assert run(["hello", "--name", "walrus"]) == 0
    assert capsys.readouterr().out == "hello walrus\n"
    assert run(["--help"]) == 0
    assert re.search(r"^  hello +Greet someone\.$", capsys.readouterr().out, re.MULTILINE)


def test_a_plugin_that_fails_to_load_costs_its_command_and_a_warning(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken", "import a_module_that_is_not_there")
    install("hello", GREETING)

    assert run(["version"]) == 0
    assert capsys.readouterr().err == ""  # who doesn't call it, doesn't hear of it
    assert run(["hello"]) == 0
    assert run(["broken"]) == 1
    warning = "tport: warning: plug-in plugin_broken:app not loaded: No module named"
    assert capsys.readouterr().err.startswith(warning)
    assert run(["--help"]) == 0
    heard = capsys.readouterr()
    assert "hello" in heard.out
    assert heard.err.startswith(warning)


def test_a_builtin_command_wins_over_a_plugin_of_its_name(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("version", GREETING)

    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"tport {tport.__version__} ")
    assert run(["--help"]) == 0
    assert "Greet someone" not in capsys.readouterr().out


def test_a_plugin_that_ends_with_a_status_of_its_own_keeps_it(install: Install) -> None:
    install("failing", GREETING + "    raise SystemExit(7)\n")

    assert run(["failing"]) == 7


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["frobnicate"], "no such command 'frobnicate'"),
        (["token"], "no such command 'token'. Did you mean 'tokens'?"),
        (["users", "frobnicate"], "no such command 'frobnicate'"),
        (["users", "ls", "--frob"], "no such option: --frob"),
        (["users", "add"], "missing argument"),
        (["tokens", "add", "--max-uses=-1"], "invalid value for '--max-uses'"),
        (["version", "--format=xml"], "'xml' is not one of 'text', 'json', 'yaml'"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_words_on_stderr_alone(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == 2

    heard = capsys.readouterr()
    assert heard.out == ""
    error, hint = heard.err.splitlines()
    assert error.startswith("tport: error: ")
    assert said in error
    assert hint.startswith("tport: hint: tport ")
    assert hint.endswith(" --help")


def test_the_program_without_python_says_that_plug_ins_want_the_wheel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever types a plug-in's command there learns why it is unknown; a slip of a letter still helps."""
    monkeypatch.setattr("sys.frozen", True, raising=False)

    assert run(["hello", "alice"]) == 2
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.splitlines() == [
        "tport: error: no such command 'hello'",
        "tport: hint: tport --help",
        "tport: hint: if it is of a plug-in: this program carries its own Python and takes none;"
        " use the wheel: pipx install tport",
    ]
    assert run(["user"]) == 2
    assert "did you mean" in capsys.readouterr().err.lower()

    assert run(["--hello"]) == 2
    assert "plug-in" not in capsys.readouterr().err, "an option is none of a plug-in's"


@pytest.mark.parametrize("args", [[], ["users"], ["tokens"], ["apps"], ["ca"]])
def test_a_command_line_without_a_command_is_answered_with_the_commands(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == 2

    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.startswith("Usage: tport")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_builtin_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0

    heard = capsys.readouterr()
    assert heard.out.startswith(f"Usage: tport {name}")
    assert "--install-completion" not in heard.out  # the root's own
    assert heard.err == ""


def test_no_cluster_is_status_4_and_says_where_it_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--data-dir", str(tmp_path), "users", "ls"]) == 4

    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.startswith("tport: error: ")
    assert str(tmp_path) in heard.err


def test_the_version_is_json_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--format=json"]) == 0

    assert json.loads(capsys.readouterr().out)["version"] == tport.__version__


@pytest.mark.parametrize("args", [["--help"], ["version"], ["version", "--format=json"]])
def test_a_reader_that_went_away_is_no_error(args: list[str]) -> None:
    """As `tport … | head -1` does, but earlier: the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [TPORT, *args], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("args", "status"),
    [(["--help"], 0), (["version"], 0), (["version", "--format=json"], 0), (["nonsense"], 2)],
)
@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_what_is_printed_to_a_closed_stream_goes_nowhere(
    args: list[str], status: int, closed: str
) -> None:
    """And into no file that is opened later: it would have the stream's number."""
    command = f'"$0" "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, str(TPORT), *args],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr


# Says on stderr of which of stdin and stdout the number is /dev/null's; once here, once in a child.
_LOOK = """
import os, subprocess, sys
if len(sys.argv) == 1:
    from tport.program import _open_closed_streams
    _open_closed_streams()
opened = os.open("/", os.O_RDONLY)
nowhere = os.stat(os.devnull).st_rdev
sys.stderr.write(f"{opened > 2} {[os.fstat(number).st_rdev == nowhere for number in (0, 1)]}\\n")
sys.stderr.flush()
if len(sys.argv) == 1:
    subprocess.run([sys.executable, "-c", sys.orig_argv[2], "child"])
"""


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    """It would get what is printed: here, or in what is started from here."""
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" 0<&- 1>&-', sys.executable, _LOOK],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == "True [True, True]\n" * 2


@pytest.mark.parametrize(
    ("args", "budget"), [(["version"], 0.100), (["--help"], 0.200)], ids=["version", "help"]
)
def test_the_command_line_is_quick(args: list[str], budget: float) -> None:
    """CPU seconds, user and system, of an installed tport with its bytecode.

    The least of some runs counts, since what else the machine does can only add. It stops at the
    first that is good enough.
    """
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", str(Path(tport.__file__).parent)], check=True
    )
    least = min(_until(budget, lambda: cpu_of([str(TPORT), *args])))

    assert least < budget, (
        f"a bare interpreter takes {cpu_of([sys.executable, '-c', 'pass']):.3f} s"
    )


def _until(good: float, measure: Callable[[], float]) -> list[float]:
    """Return what was measured, up to the first value below `good`, 20 at most."""
    found = [measure()]
    while found[-1] >= good and len(found) < 20:
        found.append(measure())
    return found


def cpu_of(command: list[str]) -> float:
    """Run a command to its end and return the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tokens", "add", "--ttl=5"], "--ttl: expected a duration like 5s"),
        (["lock", "--user=ann", "--ttl=soon"], "--ttl: expected a duration like 5s"),
        (["requests", "approve", "1", "--role=a", "--ttl=1"], "--ttl: expected a duration like 5s"),
        (["audit", "ls", "--since=yesterday"], "--since: 'yesterday' is no time"),
        (["audit", "ls", "--until=1"], "--until: '1' is no time"),
        (["up", "ftp://x"], "URI: 'ftp' is not served"),
        (["up", "http://me:pw@x"], "URI: has a user name or password in it"),
        (["join", "tport.example.com", "x:y"], "URI: 'http://x:y' has a bad host or port"),
        (["join", "tport.example.com", "3000", "--ca-pin=zonk"], "--ca-pin: 'zonk' is no CA pin"),
    ],
)
def test_a_value_that_cannot_be_meant_comes_with_the_name_of_its_option(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == 2
    assert capsys.readouterr().err.startswith(f"tport: error: {said}")
