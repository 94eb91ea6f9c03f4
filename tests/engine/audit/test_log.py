"""Events are appended to the file of their day, and found again."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes import START
from tport.engine.audit.line import encode_line
from tport.engine.audit.log import BLOCK, AuditLog
from tport.engine.errors import InvalidRequest, Unavailable

DAY = timedelta(days=1)
FILE = "2026-01-01.jsonl"


@pytest.fixture
async def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "log" / "audit")
    await log.create()
    return log


async def append(log: AuditLog, now: datetime, **fields: object) -> None:
    await log.append(now.date(), [encode_line(fields, uid="u", cluster="c", now=now)])


async def numbers(
    log: AuditLog,
    since: datetime = START - DAY,
    until: datetime = START + 9 * DAY,
    *,
    types: tuple[str, ...] = (),
    user: str | None = None,
    limit: int = 500,
) -> list[int]:
    found = await log.search(since=since, until=until, types=types, user=user, limit=limit)
    return [event["n"] for event in found]


async def test_a_file_a_day_readable_by_its_owner_alone(log: AuditLog) -> None:
    """OPS-04; a file made wider is narrowed."""
    (log.directory / "2026-01-02.jsonl").touch(mode=0o644)
    await append(log, START)
    await append(log, START + DAY)

    files = sorted(log.directory.iterdir())
    assert [file.name for file in files] == [FILE, "2026-01-02.jsonl"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(log.directory.stat().st_mode) == 0o700


async def test_a_search_returns_the_last_written_first_over_all_days(log: AuditLog) -> None:
    for n in range(5):
        await append(log, START + n * DAY / 2, n=n)

    assert await numbers(log) == [4, 3, 2, 1, 0]
    assert await numbers(log, limit=2) == [4, 3]


async def test_since_counts_and_until_does_not(log: AuditLog) -> None:
    for n in range(5):
        await append(log, START + timedelta(seconds=n), n=n)

    since, until = START + timedelta(seconds=1), START + timedelta(seconds=3)
    assert await numbers(log, since, until) == [2, 1]
    assert await numbers(log, until, since) == []


async def test_an_event_that_arrived_after_midnight_is_found_by_its_time(log: AuditLog) -> None:
    late = encode_line({"time": START, "n": 1}, uid="u", cluster="c", now=START + DAY)
    await log.append((START + DAY).date(), [late])

    assert await numbers(log, START, START + timedelta(seconds=1)) == [1]


async def test_a_search_keeps_the_types_and_the_user_asked_for(log: AuditLog) -> None:
    await append(log, START, event="user.login", user="alice", n=0)
    await append(log, START, event="user.login", user="bob", n=1)
    await append(log, START, event="user.create", user="alice", n=2)
    await append(log, START, event="lock.created", user="alice", n=3)

    assert await numbers(log, types=("user.login", "user.create")) == [2, 1, 0]
    assert await numbers(log, user="alice") == [3, 2, 0]
    assert await numbers(log, types=("user.login",), user="alice") == [0]


async def test_a_torn_line_costs_nothing_but_itself(log: AuditLog) -> None:
    """As a crash in the middle of a write leaves it; neither before nor after is anything lost."""
    await append(log, START, n=0)
    with (log.directory / FILE).open("ab") as file:
        file.write(b'{"n":1,"time":"2026-01-0')
    assert await numbers(log) == [0]

    await append(log, START, n=2)
    assert await numbers(log) == [2, 0]


async def test_lines_that_are_no_events_are_passed_over(log: AuditLog) -> None:
    await append(log, START, n=0)
    with (log.directory / FILE).open("ab") as file:
        file.write(b'[]\n\xff\xfe\n\n"time"\n{"time":5}\n')
    (log.directory / "notes-here.jsonl").write_text("x")

    assert await numbers(log) == [0]


async def test_a_file_longer_than_a_block_is_read_whole(log: AuditLog) -> None:
    lines = [
        encode_line({"n": n, "pad": "x" * (n % 3000)}, uid="u", cluster="c", now=START)
        for n in range(500)
    ]
    assert sum(map(len, lines)) > 2 * BLOCK
    await log.append(START.date(), lines)

    assert await numbers(log) == list(range(499, -1, -1))


async def test_there_is_nothing_in_an_empty_log(log: AuditLog) -> None:
    assert await numbers(log) == []


async def test_a_search_that_means_nothing_is_refused(log: AuditLog) -> None:
    for limit in (0, 10_001):
        with pytest.raises(InvalidRequest):
            await numbers(log, limit=limit)
    with pytest.raises(InvalidRequest):
        await numbers(log, since=START.replace(tzinfo=None))


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="file/audit"):
        await AuditLog(tmp_path / "file" / "audit").create()
