"""Every event is written, or counted; nobody waits for long."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import START, WallClock
from tport.engine.audit.emitter import CLOSE_DEADLINE, EMIT_DEADLINE, Emitter
from tport.engine.audit.files import list_days
from tport.engine.audit.log import AuditLog
from tport.engine.audit.trail import open_audit_log
from tport.engine.defaults import AUDIT_QUEUE
from tport.engine.errors import Unavailable
from tport.engine.types.chain import ChainState
from tport.engine.types.event import event
from tport.engine.types.event_query import EventQuery


class FickleLog(AuditLog):
    """A log in memory, on a disk that is full while `is_full`. It takes no thread, and so no real time."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.is_full = False
        self.events: list[dict[str, Any]] = []

    async def append(self, day: date, lines: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.events += [json.loads(line) for line in lines]

    @property
    def names(self) -> list[Any]:
        return [event.get("n", event.get("event")) for event in self.events]


@pytest.fixture
def log() -> FickleLog:
    return FickleLog()


@pytest.fixture
def emitter(log: FickleLog) -> Emitter:
    return Emitter(log, "example", WallClock())


async def test_what_was_emitted_is_found(tmp_path: Path) -> None:
    async with open_audit_log(tmp_path, "example", WallClock()) as audit:
        await audit.emit(event("user.login", user="alice"))
        await audit.emit(event("user.login", user="bob", path=b"/\x1b\n"))

        [bob, alice] = (await audit.search(EventQuery(), cursor="", limit=9)).events

    assert (alice["user"], alice["code"], alice["cluster_name"]) == ("alice", "T1000I", "example")
    assert (bob["user"], bob["path"], bob["time"]) == ("bob", "/\x1b\n", "2026-01-01T12:00:00.000Z")
    assert uuid.UUID(alice["uid"]).version == 4
    assert alice["uid"] != bob["uid"]


async def test_events_of_two_days_lie_in_two_files(tmp_path: Path) -> None:
    clock = WallClock()
    async with open_audit_log(tmp_path, "example", clock) as audit:
        await audit.emit({"n": 0})
        clock.now += timedelta(days=1)
        await audit.emit({"n": 1})

    assert list_days(tmp_path / "audit") == ["2026-01-01.jsonl", "2026-01-02.jsonl"]


async def test_a_recorded_event_is_in_the_file_when_record_returns(tmp_path: Path) -> None:
    async with open_audit_log(tmp_path, "example", WallClock()) as audit:
        await audit.record(event("user.create", name="alice"))

        [written] = (await AuditLog(tmp_path / "audit").search(EventQuery())).events
        assert written["name"] == "alice"


async def test_closing_writes_what_is_queued_even_when_cancelled(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_audit_log(tmp_path, "example", WallClock()) as audit:
            scope.cancel()
            for n in range(300):
                await audit.emit(
                    {"n": n}
                )  # the caller is cancelled: it gets its event in nevertheless

    found = await AuditLog(tmp_path / "audit").search(EventQuery(), limit=500)
    assert [event["n"] for event in found.events] == list(range(299, -1, -1))


async def test_events_outlive_a_full_disk_in_order(
    emitter: Emitter, log: FickleLog, autojump_clock: MockClock
) -> None:
    """R-16: recovery takes no restart."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(emitter.keep_writing)
        log.is_full = True
        for n in range(AUDIT_QUEUE):
            await emitter.emit({"n": n})
        await trio.sleep(60)
        log.is_full = False
        await trio.sleep(2)
        await emitter.drain()

    assert log.names == list(range(AUDIT_QUEUE))
    assert emitter.lost == 0


async def test_what_finds_no_room_is_counted_and_the_count_is_written_first(
    emitter: Emitter, log: FickleLog, autojump_clock: MockClock
) -> None:
    """OPS-02: app traffic goes on, the gauge rises."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(emitter.keep_writing)
        log.is_full = True
        await emitter.emit({"n": "first"})
        await wait_all_tasks_blocked()  # it is with the writer
        for n in range(AUDIT_QUEUE):
            await emitter.emit({"n": n})
        before = trio.current_time()
        await emitter.emit({"n": "lost"})
        assert trio.current_time() - before == EMIT_DEADLINE
        with trio.move_on_after(0.1):
            await emitter.emit({"n": "lost too"})
        assert emitter.lost == 2

        log.is_full = False
        await trio.sleep(2)
        await emitter.emit({"n": "last"})
        await emitter.drain()

    assert log.names == ["audit.lost", "first", *range(AUDIT_QUEUE), "last"]
    assert log.events[0]["count"] == 2
    assert log.events[0]["code"] == "TPX01E"


async def test_a_recorded_event_that_cannot_be_written_stops_its_caller(
    emitter: Emitter, log: FickleLog, autojump_clock: MockClock
) -> None:
    """OPS-02: what must leave a trace fails closed; the event is not written when it is untrue."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(emitter.keep_writing)
        log.is_full = True
        with pytest.raises(Unavailable, match="audit log can't be written"):
            await emitter.record({"n": "refused"})
        assert trio.current_time() == EMIT_DEADLINE
        await trio.sleep(0.5)  # past the writer's try at this very moment
        log.is_full = False
        await emitter.record({"n": "done"})
        await emitter.drain()

    assert log.names == ["done"]


async def test_closing_on_a_full_disk_ends_in_time_and_says_so(
    emitter: Emitter,
    log: FickleLog,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log.is_full = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(emitter.keep_writing)
        await emitter.emit({"n": 0})
        with trio.move_on_after(CLOSE_DEADLINE):
            await emitter.drain()
        emitter.stop()

    assert trio.current_time() == CLOSE_DEADLINE
    assert "unwritten" in caplog.text


async def test_an_event_after_the_end_is_counted(emitter: Emitter) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(emitter.keep_writing)
        await emitter.drain()
        await emitter.emit({"n": 0})
        with pytest.raises(Unavailable):
            await emitter.record({"n": 1})

    assert emitter.lost == 1


async def test_a_partial_write_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills in the middle of a line; the line is written whole when there is room."""
    write, failures = os.write, 1

    def tear(fd: int, data: bytes) -> int:
        nonlocal failures
        if failures == 1 and len(data) > 10:
            failures = 2
            return write(fd, data[:10])
        if failures == 2:
            failures = 3
            raise OSError(28, "No space left on device")
        return write(fd, data)

    log = AuditLog(tmp_path)
    await log.create()
    await log.append(START.date(), [b'{"a":1}\n'])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", tear)
        with pytest.raises(OSError, match="No space left"):
            await log.append(START.date(), [b'{"b": "bcdefghijk"}\n'])
    await log.append(START.date(), [b'{"z":1}\n'])

    lines = (tmp_path / "2026-01-01.jsonl").read_bytes().splitlines()
    assert [json.loads(line).keys() - {"prev"} for line in lines] == [{"a", "seq"}, {"z", "seq"}]
    assert (await log.check(ChainState())).findings == (), "the next line names the last whole one"


async def test_that_nothing_can_be_written_is_told_for_as_long_as_it_is_so(
    emitter: Emitter, log: FickleLog, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """For `/readyz` and the figures."""
    log.is_full = True
    nursery.start_soon(emitter.keep_writing)
    await emitter.emit({"n": 1})
    await emitter.emit({"n": 2})
    await wait_all_tasks_blocked()
    assert "its disk is full" in emitter.problem
    log.is_full = False
    await trio.sleep(2)
    assert emitter.problem == ""
    assert emitter.waiting == 0
    await emitter.drain()
