"""Workers are started, kept, replaced and stopped; what they do is in `scripted`."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice, pairwise, repeat
from pathlib import Path

import pytest
import trio

from tests.engine.auth.world import World, open_world
from tests.engine.config.places import read
from tport.engine.auth.server import AuthServer
from tport.engine.config.in_force import settings_in_force
from tport.engine.errors import ConfigError, TportError, Unavailable
from tport.engine.net.dial import open_listener
from tport.engine.pki.keys import KeyPair
from tport.engine.signals import Signals
from tport.engine.types.identity import IdentityKind
from tport.engine.workers import pool
from tport.engine.workers.channel import channel_pair
from tport.engine.workers.pool import (
    LONGEST,
    OUTDATED,
    Workers,
    program_on_disk,
    restart_delays,
)

SCRIPT = str(Path(__file__).with_name("scripted.py"))
SERVES = re.compile(r"worker (\d) serves, as process (\d+)")
PATIENCE = 90.0  # s, for real processes on a busy machine
CONFIG = read(
    "tport: {auth_token: '0123456789abcdef0123456789abcdef'}\n"
    "proxy_service: {workers: 2, web_listen_addr: '127.0.0.1:0'}"
)


@pytest.fixture(autouse=True)
def chatty(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tport")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let real processes take their time to answer, on a busy machine."""
    monkeypatch.setattr("tport.engine.workers.measuring.PATIENCE", 5.0)


@asynccontextmanager
async def two(
    how: str,
    delays: Iterator[float],
    program: Callable[[], object] = program_on_disk,
    prepare: Callable[[World], None] = lambda _: None,
) -> AsyncIterator[tuple[Workers, Signals]]:
    """Have two workers that do `how`, wait until both serve, and stop them at the end."""
    signals = Signals()
    async with open_world() as world:
        prepare(world)
        workers = Workers(
            CONFIG,
            shown=settings_in_force(CONFIG),
            listener=await open_listener(CONFIG.proxy_service.web_listen_addr),
            http=None,
            service=world.service,
            server=AuthServer(world.service, "auth"),
            stop=signals.stop,
            signals=signals,
            command=(sys.executable, SCRIPT, how),
            delays=lambda: delays,
            program=program,
        )
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                await nursery.start(workers.run)
                yield workers, signals
                signals.stop.set()


async def troubles(workers: Workers) -> list[tuple[bool, str]]:
    told = await workers.figures()
    return [(each.degrades, each.why) for report in told.values() for each in report.troubles]


async def requests(workers: Workers) -> float:
    """Return how many requests of the application `echo` they have counted, those ended too."""
    told = await workers.figures()
    return sum(
        sum(sample.values)
        for report in told.values()
        for sample in report.samples
        if sample.name == "tport_requests_total"
    )


def processes(caplog: pytest.LogCaptureFixture) -> dict[int, list[int]]:
    """Return the processes that each worker has had, in order."""
    found: dict[int, list[int]] = {}
    for number, pid in SERVES.findall(caplog.text):
        found.setdefault(int(number), []).append(int(pid))
    return found


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_said(caplog: pytest.LogCaptureFixture, text: str, times: int = 1) -> None:
    while caplog.text.count(text) < times:  # noqa: ASYNC110 - a real process does it, in real time
        await trio.sleep(0.01)


def test_the_first_restart_is_at_once_and_further_ones_wait_longer_and_longer() -> None:
    waits = list(islice(restart_delays(), 20))

    assert waits[0] == 0
    assert all(a < b or b == LONGEST for a, b in pairwise(waits))
    assert max(waits) == LONGEST


async def test_all_serve_and_all_have_ended_when_it_returns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two("serve", repeat(0.0)) as (workers, _):
        assert sorted(processes(caplog)) == [1, 2]
        pids = [pid for (pid,) in processes(caplog).values()]
        assert all(map(lives, pids))
        assert await troubles(workers) == []
    assert not any(map(lives, pids))
    assert (True, "none of the proxy's workers serves") in await troubles(workers)
    assert "ended" not in caplog.text


@pytest.mark.parametrize(
    ("by", "told"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 6, "signal 40")]
)
async def test_one_that_is_killed_is_replaced_and_the_other_stays(
    by: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by a signal without a name, which nothing but a program itself chooses."""
    async with two("serve", repeat(0.0)) as (workers, _):
        before = processes(caplog)
        os.kill(before[2][0], by)
        await until_said(caplog, "worker 2 serves", 2)
        assert await troubles(workers) == []
    assert f"worker 2 ended (killed by {told}); another starts now" in caplog.text
    assert processes(caplog)[1] == before[1]
    assert len(processes(caplog)[2]) == 2


async def test_a_worker_that_ends_after_an_upgrade_is_not_replaced_by_one_of_another_version(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The other serves on, and `/readyz` says what to do."""
    installed = ["0.1"]
    async with two("serve", repeat(0.0), lambda: installed[0]) as (workers, _):
        before = processes(caplog)
        installed[0] = "0.2"
        os.kill(before[2][0], signal.SIGKILL)
        await until_said(caplog, "worker 2 is not replaced")
        assert "systemctl restart tport" in caplog.text
        assert (True, OUTDATED) in await troubles(workers)
        assert processes(caplog) == before
        assert lives(before[1][0])


async def test_after_an_upgrade_the_last_worker_to_end_ends_all_for_the_supervisor_to_start_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    installed = ["0.1"]
    with pytest.RaisesGroup(
        pytest.RaisesExc(Unavailable, match="replaced on disk"), flatten_subgroups=True
    ):
        async with two("serve", repeat(0.0), lambda: installed[0]):
            installed[0] = "0.2"
            for pids in processes(caplog).values():
                os.kill(pids[0], signal.SIGKILL)
            await trio.sleep(PATIENCE)


async def test_what_goes_wrong_with_the_system_ends_a_worker_and_not_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor for a channel, or an error in what is done for one: another is started."""
    real, wrong = channel_pair, [OSError(24, "Too many open files")]

    def pair() -> object:
        if wrong:
            raise wrong.pop()
        return real()

    async def fails(*_: object) -> None:
        if served:
            served.clear()
            raise OSError(12, "Cannot allocate memory")

    served: list[bool] = []
    async with two("serve", repeat(0.0)) as (workers, _):
        monkeypatch.setattr(pool, "channel_pair", pair)
        monkeypatch.setattr(workers, "_tell_pairs", fails)
        served.append(True)
        os.kill(processes(caplog)[2][0], signal.SIGKILL)
        await until_said(caplog, "worker 2 serves", 2)
        assert await troubles(workers) == []
    assert "can't be started: [Errno 24]" in caplog.text
    assert "can't be served: [Errno 12]" in caplog.text


async def test_a_workers_first_certificate_is_renewed_by_when_it_was_made_not_by_when_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock may be put right while the process starts."""
    made: dict[str, int] = {}

    def prepare(world: World) -> None:
        issue = world.service.issue_own_identity

        def issue_late(kind: IdentityKind, host_id: str) -> KeyPair:
            pair = issue(kind, host_id)
            made[host_id] = made.get(host_id, 0) + 1
            if made[host_id] == 1:
                world.clock.now += pool.RENEWAL
            return pair

        monkeypatch.setattr(world.service, "issue_own_identity", issue_late)

    monkeypatch.setattr(pool, "LOOK", 0.01)
    async with two("serve", repeat(0.0), prepare=prepare):
        while sorted(made.values()) < [2, 2]:  # noqa: ASYNC110 - the looks are in real time
            await trio.sleep(0.01)


def test_a_program_that_needs_no_python_is_told_from_another_by_its_own_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "tport"
    program.write_text("1.0")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr("tport.__file__", str(tmp_path / "inside" / "tport" / "__init__.pyc"))
    before = program_on_disk()

    (tmp_path / "new").write_text("1.1")
    (tmp_path / "new").replace(program)

    assert program_on_disk() != before


async def test_what_they_count_never_falls_though_one_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two("serve", repeat(0.0)) as (workers, _):
        counts = [await requests(workers), await requests(workers)]
        assert counts == [20, 40]  # each counts ten more each time that it is asked
        os.kill(processes(caplog)[2][0], signal.SIGKILL)
        counts.append(await requests(workers))
        await until_said(caplog, "worker 2 serves", 2)
        counts.append(await requests(workers))
    assert counts == sorted(counts)
    assert counts[-1] > 60


async def test_one_that_tells_nothing_costs_its_figures_and_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tport.engine.workers.measuring.PATIENCE", 0.05)
    async with two("mute", repeat(0.0)) as (workers, _):
        assert await troubles(workers) == [
            (False, "worker-1 told nothing for 0.05 s"),
            (False, "worker-2 told nothing for 0.05 s"),
        ]


async def test_one_that_ends_again_and_again_is_started_with_the_delays_that_are_due(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two("leave", iter([0.0, 0.0, 0.01, *repeat(3600.0, 20)])):
        await until_said(caplog, "another starts in 3600 s", 2)
    assert caplog.text.count("(exit status 4); another starts now") == 2
    assert caplog.text.count("(exit status 4); another starts in 0.01 s") == 1


@pytest.mark.parametrize(
    ("how", "error", "why"),
    [
        ("fail", ConfigError, "cert.pem: no such file"),
        ("crash", Unavailable, "worker . does not start: exit status 3"),
        ("confused", Unavailable, "worker . does not start: no message between our processes"),
    ],
)
async def test_at_the_start_what_keeps_one_from_serving_ends_all(
    how: str, error: type[TportError], why: str
) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(error, match=why), flatten_subgroups=True, allow_unwrapped=True
    ) as told:
        async with two(how, repeat(0.0)):
            raise AssertionError("it serves")
    if how == "fail":
        assert "make it" in str([leaf.hint for leaf in leaves(told.value)])


def leaves(group: BaseException) -> Iterator[TportError]:
    if isinstance(group, BaseExceptionGroup):
        for each in group.exceptions:
            yield from leaves(each)
    elif isinstance(group, TportError):
        yield group


async def test_one_that_gives_no_sign_of_life_is_ended_and_replaced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SILENCE", 0.05)
    monkeypatch.setattr(pool, "DRAIN", 0.0)
    monkeypatch.setattr(pool, "LAST_WORK", 0.05)
    async with two("deaf", iter([0.0, 0.0, *repeat(3600.0, 20)])):
        await until_said(caplog, "another starts in 3600 s", 2)
    assert "ended (no sign of life for 0 s); another starts now" in caplog.text
    assert not any(lives(pid) for pids in processes(caplog).values() for pid in pids)


async def test_one_that_does_not_stop_is_ended(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "DRAIN", 0.0)
    monkeypatch.setattr(pool, "LAST_WORK", 0.05)
    async with two("deaf", repeat(0.0)):
        pass
    assert not any(lives(pid) for pids in processes(caplog).values() for pid in pids)


async def test_a_reload_is_over_when_every_worker_has_read_its_files() -> None:
    async with two("serve", repeat(0.0)) as (_, signals):
        assert await signals.read_anew()
        assert signals.reload.statistics().tasks_waiting == 1


async def test_a_connection_for_a_proxy_that_is_none_of_the_workers_comes_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = ""
    async with two("lost", repeat(0.0)):
        while said.count("\n") < 2:
            said += capfd.readouterr().out
            await trio.sleep(0.01)  # real processes do it, in real time
    assert sorted(said.splitlines()) == [
        "worker 1: 192.0.2.9 said hello",
        "worker 2: 192.0.2.9 said hello",
    ]


async def test_r_10_workers_that_were_there_live_on_after_the_main_process_stood_still(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-10: as when its virtual machine is moved: their signs of life have come, and wait to be read."""
    monkeypatch.setattr(pool, "SILENCE", 1.0)
    monkeypatch.setattr(
        pool, "LAST_LOOK", PATIENCE
    )  # what they said is there; reading it may take a while
    async with two("beat", repeat(0.0)) as (workers, _):
        before = processes(caplog)
        # From outside, while the loop waits: on waking it finds that time has passed, and nothing else.
        stop = f"sleep 0.2; kill -STOP {os.getpid()}; sleep 2; kill -CONT {os.getpid()}"
        await trio.run_process(["sh", "-c", stop])
        await trio.sleep(0.5)

        assert processes(caplog) == before
        assert "no sign of life" not in caplog.text
        assert await troubles(workers) == []
