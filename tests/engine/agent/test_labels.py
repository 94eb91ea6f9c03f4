import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tport.engine.agent.labels import CommandFailed, keep_labels, run_command
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import DynamicLabel

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="the commands are shell scripts")


def label(name: str, *command: str, period: float = 10) -> DynamicLabel:
    return DynamicLabel(name=name, command=command or (f"/bin/{name}",), period=period)


class Machine:
    """Runs commands by name: each takes `takes` seconds and prints what `prints` says now."""

    def __init__(self, takes: float = 0) -> None:
        self.prints: dict[str, bytes | None] = {}
        self.takes = takes
        self.running = self.most = 0
        self.started: list[tuple[float, str]] = []

    async def run(self, argv: Sequence[str]) -> bytes:
        name = argv[0].rpartition("/")[2]
        self.started.append((trio.current_time(), name))
        self.running += 1
        self.most = max(self.most, self.running)
        await trio.sleep(self.takes)
        self.running -= 1
        output = self.prints.get(name, b"value\n")
        if output is None:
            raise CommandFailed("told to")
        return output


@pytest.fixture
def published() -> list[tuple[float, dict[str, str]]]:
    return []


@pytest.fixture
def publish(
    published: list[tuple[float, dict[str, str]]],
) -> Callable[[Mapping[str, str]], None]:
    return lambda labels: published.append((trio.current_time(), dict(labels)))


async def test_every_label_has_a_value_before_anything_is_offered(
    autojump_clock: MockClock,
    published: list[tuple[float, dict[str, str]]],
    publish: Callable[[Mapping[str, str]], None],
) -> None:
    machine = Machine(takes=2)
    machine.prints = {"os": b"Linux\n", "zone": b" eu-1 \n"}
    commands = [label("os"), label("zone")]

    async with trio.open_nursery() as nursery:
        keep = partial(keep_labels, limiter=trio.CapacityLimiter(4), run=machine.run)
        await nursery.start(keep, commands, publish)
        assert published == [(2, {"os": "Linux", "zone": "eu-1"})]
        nursery.cancel_scope.cancel()


async def test_a_label_is_measured_each_period_and_told_when_it_changes(
    autojump_clock: MockClock,
    published: list[tuple[float, dict[str, str]]],
    publish: Callable[[Mapping[str, str]], None],
) -> None:
    machine = Machine()
    commands = [label("fast", period=5), label("slow", period=60)]

    with trio.move_on_after(62):
        async with trio.open_nursery() as nursery:
            keep = partial(keep_labels, limiter=trio.CapacityLimiter(4), run=machine.run)
            await nursery.start(keep, commands, publish)
            await trio.sleep(11)
            machine.prints["fast"] = b"other"
            await trio.sleep_forever()

    assert published == [
        (0, {"fast": "value", "slow": "value"}),
        (15, {"fast": "other", "slow": "value"}),
    ]
    assert [at for at, name in machine.started if name == "slow"] == [0, 60]


async def test_a_failure_is_the_word_error_until_it_works_again(
    autojump_clock: MockClock,
    published: list[tuple[float, dict[str, str]]],
    publish: Callable[[Mapping[str, str]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine()
    machine.prints["os"] = None

    with trio.move_on_after(35):
        async with trio.open_nursery() as nursery:
            keep = partial(keep_labels, limiter=trio.CapacityLimiter(4), run=machine.run)
            await nursery.start(keep, [label("os")], publish)
            await trio.sleep(25)
            machine.prints["os"] = b"Linux"
            await trio.sleep_forever()

    assert published == [(0, {"os": "error"}), (30, {"os": "Linux"})]
    assert caplog.text.count("told to") == 1  # once, not every period


@pytest.mark.parametrize(
    "output", [b"", b" \n", b"a\nb\n", b"a\x1b[31m", b"\xff", b"x" * 1025, b"a\0b"]
)
async def test_only_one_clean_line_is_a_value(
    output: bytes,
    published: list[tuple[float, dict[str, str]]],
    publish: Callable[[Mapping[str, str]], None],
) -> None:
    machine = Machine()
    machine.prints["os"] = output

    async with trio.open_nursery() as nursery:
        keep = partial(keep_labels, limiter=trio.CapacityLimiter(4), run=machine.run)
        await nursery.start(keep, [label("os")], publish)
        nursery.cancel_scope.cancel()

    assert published[0][1] == {"os": "error"}


async def test_only_so_many_commands_run_at_a_time(
    autojump_clock: MockClock, publish: Callable[[Mapping[str, str]], None]
) -> None:
    machine = Machine(takes=1)

    async with trio.open_nursery() as nursery:
        keep = partial(keep_labels, limiter=trio.CapacityLimiter(2), run=machine.run)
        await nursery.start(keep, [label(f"c{n}") for n in range(6)], publish)
        assert trio.current_time() == 3
        nursery.cancel_scope.cancel()

    assert machine.most == 2


async def test_without_commands_there_is_nothing_to_keep_or_tell(
    published: list[tuple[float, dict[str, str]]], publish: Callable[[Mapping[str, str]], None]
) -> None:
    await keep_labels((), publish, limiter=trio.CapacityLimiter(1))

    assert published == []


async def test_a_command_without_an_absolute_path_is_not_run(
    publish: Callable[[Mapping[str, str]], None],
) -> None:
    machine = Machine()

    with pytest.raises(InvalidRequest):
        await keep_labels(
            [label("os", "uname")], publish, limiter=trio.CapacityLimiter(1), run=machine.run
        )

    assert machine.started == []


# --- Real commands -------------------------------------------------------------------------------


@needs_posix
async def test_a_command_sees_none_of_our_environment_and_no_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OPS-03."""
    monkeypatch.setenv("TPORT_TOKEN", "secret")
    monkeypatch.setenv("TPORT_TOKEN_FILE", "secret")

    output = await run_command(["/bin/sh", "-c", "env | sort; pwd; cat"])

    lines = output.decode().split()
    assert "PATH=/usr/bin:/bin" in lines
    assert "LC_ALL=C.UTF-8" in lines
    assert lines[-1] == "/"
    assert not any("TPORT" in line or line.startswith("HOME=") for line in lines)


@needs_posix
async def test_words_are_arguments_and_no_shell_reads_them() -> None:
    assert await run_command(["/bin/echo", "$HOME; *"]) == b"$HOME; *\n"


@needs_posix
@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["/nowhere/command"], "can't be started"),
        (["/bin/sh", "-c", "echo fine; exit 3"], "status 3"),
        (["/bin/sh", "-c", "kill -9 $$"], "status -9"),
        (["/bin/sh", "-c", "while :; do echo endless; done"], "more than 4096 bytes"),
    ],
)
async def test_a_command_that_fails_says_how(argv: list[str], why: str) -> None:
    with pytest.raises(CommandFailed, match=why):
        await run_command(argv)


@needs_posix
async def test_a_command_that_hangs_is_killed_with_all_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tport.engine.agent.labels.TIMEOUT", 3.0)
    note = tmp_path / "child"

    with pytest.raises(CommandFailed, match="longer than"):
        await run_command(["/bin/sh", "-c", f"sleep 600 & echo $! > {note}; wait"])

    await _until(lambda: not _is_running(int(note.read_text())))


@needs_posix
async def test_cancelling_kills_the_command(tmp_path: Path) -> None:
    note = tmp_path / "child"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_command, ["/bin/sh", "-c", f"echo $$ > {note}; exec sleep 600"])
        await _until(lambda: note.exists() and note.read_text() != "")
        nursery.cancel_scope.cancel()

    await _until(lambda: not _is_running(int(note.read_text())))


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  other processes set no trio.Event
            await trio.sleep(0.01)


def _is_running(pid: int) -> bool:
    """Tell whether something runs under this id; a zombie that init has yet to bury does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
