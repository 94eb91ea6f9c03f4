"""Events are appended to the file of their day, and found again."""

from __future__ import annotations

import stat
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fakes import START
from tport.engine.audit import check as check_module
from tport.engine.audit import log as log_module
from tport.engine.audit import search as search_module
from tport.engine.audit.files import BLOCK, MARK, list_days
from tport.engine.audit.line import encode_line
from tport.engine.audit.log import AuditLog
from tport.engine.errors import InvalidRequest, Unavailable
from tport.engine.types.chain import ChainState, Finding
from tport.engine.types.event_query import EventPage, EventQuery

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
    user: str = "",
    app: str = "",
    text: str = "",
    limit: int = 500,
) -> list[int]:
    query = EventQuery(since=since, until=until, types=types, user=user, app=app, text=text)
    return [event["n"] for event in (await log.search(query, limit=limit)).events]


async def test_a_file_a_day_readable_by_its_owner_alone(log: AuditLog) -> None:
    """OPS-04; a file made wider is narrowed."""
    (log.directory / "2026-01-02.jsonl").touch(mode=0o644)
    await append(log, START)
    await append(log, START + DAY)

    files = sorted(log.directory.iterdir())
    assert [file.name for file in files] == [FILE, "2026-01-02.jsonl", MARK]
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


async def test_a_search_keeps_the_application_asked_for(log: AuditLog) -> None:
    for n, app in enumerate(("grafana", "graf", "grafana")):
        await append(log, START, app_name=app, n=n)

    assert await numbers(log, app="grafana") == [2, 0]


async def test_a_search_for_words_finds_those_that_stand_in_the_values(log: AuditLog) -> None:
    """All of them, whatever their case, in nested values too; names of fields are no values."""
    await append(log, START, error="No Such User", n=0)
    await append(log, START, error="no such app", nested={"x": ["ÄPFEL\n"]}, n=1)

    assert await numbers(log, text="such NO") == [1, 0]
    assert await numbers(log, text="user no") == [0]
    assert await numbers(log, text="äpfel") == [1]
    assert await numbers(log, text="error") == []


async def test_pages_follow_each_other_without_a_gap_while_more_is_written(log: AuditLog) -> None:
    for n in range(25):
        await append(log, START + n * DAY / 10, n=n, user="bob" if n % 2 else "alice")
    query = EventQuery(user="alice")

    found: list[int] = []
    page = await log.search(query, limit=4)
    while page.cursor:
        found += [event["n"] for event in page.events]
        await append(log, START + 4 * DAY, n=99, user="alice")
        page = await log.search(query, limit=4, cursor=page.cursor)
    found += [event["n"] for event in page.events]

    assert found == list(range(24, -1, -2))


async def test_a_search_that_takes_long_says_where_it_stopped(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is bounded, and so are the bytes of one page."""
    lines = [encode_line({"n": n}, uid="u", cluster="c", now=START) for n in range(600)]
    await log.append(START.date(), lines)
    monkeypatch.setattr(search_module, "PAGE_TIME", -1.0)

    page = await log.search(EventQuery(text="nowhere"))
    assert (page.events, page.cursor != "") == ((), True)

    monkeypatch.undo()
    monkeypatch.setattr(search_module, "PAGE_BYTES", 1000)
    page = await log.search(EventQuery())
    assert 5 < len(page.events) < 20


async def collect(log: AuditLog, query: EventQuery, page: EventPage) -> tuple[list[int], EventPage]:
    page = await log.follow(query, cursor=page.cursor)
    return [event["n"] for event in page.events], page


async def test_following_tells_what_is_written_from_now_on_in_order(log: AuditLog) -> None:
    await append(log, START, n=0)
    page = await log.follow(EventQuery(), cursor="")
    assert page.events == ()

    await append(log, START, n=1)
    await append(log, START + DAY, n=2)
    found, page = await collect(log, EventQuery(), page)
    assert found == [1, 2]

    await append(log, START + DAY, n=3)
    await append(log, START + 2 * DAY, n=4, user="alice")
    found, page = await collect(log, EventQuery(user="alice"), page)
    assert found == [4]


async def test_following_waits_for_what_comes_and_not_for_ever(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "GATHER", 0.01)
    monkeypatch.setattr(log_module, "FOLLOW_WAIT", 60.0)
    monkeypatch.setattr("tport.engine.audit.search.PAGE_TIME", 60.0)
    await append(log, START, n=0)
    page = await log.follow(EventQuery(), cursor="")

    async with trio.open_nursery() as nursery:

        async def write_soon() -> None:
            await trio.sleep(0.05)
            await append(log, START, n=1)

        nursery.start_soon(write_soon)
        with trio.fail_after(30):
            found, page = await collect(log, EventQuery(), page)
    assert found == [1]

    monkeypatch.setattr(log_module, "FOLLOW_WAIT", 0.05)
    assert (await collect(log, EventQuery(), page))[0] == []


async def test_files_that_are_too_old_are_named_and_removed_but_never_the_newest(
    log: AuditLog,
) -> None:
    for day in range(3):
        await append(log, START + day * DAY, n=day)

    names, through = await log.expired((START + 9 * DAY).date())
    assert (names, through) == ([FILE, "2026-01-02.jsonl"], 2)
    assert await log.expired(START.date()) == ([], 0)

    await log.remove(names)
    assert list_days(log.directory) == ["2026-01-03.jsonl"]
    assert await numbers(log) == [2]


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
    for cursor in ("2026-01-01", "../../etc:0", "2026-01-01:-1"):
        with pytest.raises(InvalidRequest):
            await log.search(EventQuery(), cursor=cursor)
        with pytest.raises(InvalidRequest):
            await log.follow(EventQuery(), cursor=cursor)
    for limit in (0, 10_001):
        with pytest.raises(InvalidRequest):
            await numbers(log, limit=limit)
    with pytest.raises(InvalidRequest):
        await numbers(log, since=START.replace(tzinfo=None))


async def test_a_state_that_no_check_was_in_is_refused_and_names_no_other_file(
    log: AuditLog,
) -> None:
    await append(log, START, n=0)
    for state in (ChainState(file=FILE, offset=-1), ChainState(loose=[("x", True)] * 1001)):
        with pytest.raises(InvalidRequest):
            await log.check(state)
    (log.directory.parent / "other.jsonl").write_text("{}")

    report = await log.check(ChainState(file="../other.jsonl"))
    assert [finding.kind for finding in report.findings] == []


async def test_a_check_that_waits_for_searches_holds_up_nothing_that_is_written(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may read the log must not stop what has to be written into it."""
    is_read, goes_on = threading.Event(), threading.Event()
    searching = list[int]()

    def check_files(*_: object) -> tuple[list[Finding], bool]:
        is_read.wait(20)  # s
        return [], True

    def search(*_: object) -> EventPage:
        searching.append(1)
        goes_on.wait(20)
        return EventPage(events=(), cursor="")

    monkeypatch.setattr(check_module, "check_files", check_files)
    monkeypatch.setattr(search_module, "search_back", search)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.check, ChainState())
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(log_module.SEARCHES):  # one of them waits until the check has read
                nursery.start_soon(log.search, EventQuery())
            await trio.testing.wait_all_tasks_blocked()
            is_read.set()
            with trio.fail_after(20):
                while len(searching) < log_module.SEARCHES:  # noqa: ASYNC110 - a thread tells
                    await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(12) as patience:
                await append(log, START, n=1)
            goes_on.set()
    finally:
        is_read.set()
        goes_on.set()
    assert not patience.cancelled_caught


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="file/audit"):
        await AuditLog(tmp_path / "file" / "audit").create()
