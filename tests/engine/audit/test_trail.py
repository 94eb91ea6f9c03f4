"""The two logs together: the chain goes on over restarts, what is too old is removed and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from tests.fakes import START, WallClock
from tport.engine.audit.files import MARK, list_days
from tport.engine.audit.trail import Retention, Trail, open_audit_log
from tport.engine.errors import Unavailable
from tport.engine.types.chain import ChainState, Finding
from tport.engine.types.event import event
from tport.engine.types.event_query import EventQuery, LogName
from tport.engine.types.request_record import RequestRecord

DAY = timedelta(days=1)


def record(n: int = 0, **fields: object) -> RequestRecord:
    values: dict[str, object] = {
        "time": START,
        "duration": 12.5,
        "request_id": f"r{n}",
        "user": "alice",
        "session": "s",
        "app": "grafana",
        "host": "grafana.example.com",
        "method": "GET",
        "path": "/d/1",
        "query": "",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": n,
        "remote": "192.0.2.1",
        "user_agent": "UA",
        "error": "",
    }
    return RequestRecord(**{**values, **fields})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take its time, on a busy machine."""
    monkeypatch.setattr("tport.engine.audit.emitter.EMIT_DEADLINE", 60.0)
    monkeypatch.setattr("tport.engine.audit.trail.CLOSE_DEADLINE", 60.0)


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[Trail]:
    async with open_audit_log(tmp_path, "example", WallClock()) as opened:
        yield opened


async def findings(trail: Trail, log: LogName = "audit") -> list[Finding]:
    report = await trail.check(log, ChainState())
    assert report.is_done
    return list(report.findings)


async def test_a_request_is_found_in_its_own_log_as_teleport_names_it(trail: Trail) -> None:
    await trail.record_requests([record(1)], "proxy-1")
    await trail.record_requests([record(2, query="a=b", error="timeout: slow", status=504)], "p")

    page = await trail.search(EventQuery(log="requests", user="alice"), cursor="", limit=9)
    second, first = page.events
    assert (
        first.items()
        >= {
            "event": "app.session.request",
            "code": "T2009I",
            "uid": "r1",
            "time": "2026-01-01T12:00:00.000Z",
            "app_name": "grafana",
            "method": "GET",
            "path": "/d/1",
            "status_code": 200,
            "bytes_out": 1,
            "duration_ms": 12.5,
            "addr.remote": "192.0.2.1",
            "server_id": "proxy-1",
        }.items()
    )
    assert first.keys().isdisjoint({"raw_query", "error"})
    assert (second["raw_query"], second["error"]) == ("a=b", "timeout: slow")
    assert (await trail.search(EventQuery(), cursor="", limit=9)).events == ()


async def test_what_a_client_sends_makes_one_short_line_of_a_request(
    trail: Trail, tmp_path: Path
) -> None:
    """OPS-01: control characters, an override of direction, a megabyte."""
    hostile = "\x1b[2J\n\u202e\x7f" + "x" * 1_000_000
    await trail.record_requests([record(1, user_agent=hostile, path=hostile)], "p")

    [line] = (tmp_path / "requests" / "2026-01-01.jsonl").read_bytes().splitlines()
    assert len(line) < 20_000
    assert all(0x20 <= byte < 0x7F for byte in line)
    [read] = (await trail.search(EventQuery(log="requests"), cursor="", limit=9)).events
    assert str(read["path"]).startswith("\x1b[2J\n\u202e\x7fxxx")


async def test_requests_that_cannot_be_written_stay_with_who_sent_them(
    trail: Trail, tmp_path: Path
) -> None:
    (tmp_path / "requests" / "2026-01-01.jsonl").mkdir()  # as good as a full disk

    with pytest.raises(Unavailable, match="log of requests"):
        await trail.record_requests([record()], "p")


async def test_the_chain_goes_on_over_restarts_and_days(tmp_path: Path) -> None:
    clock = WallClock()
    for _ in range(3):
        async with open_audit_log(tmp_path, "example", clock) as trail:
            await trail.record(event("user.create", name="alice"))
            await trail.record_requests([record()], "p")
            clock.now += DAY
            await trail.record(event("user.create", name="bob"))

    async with open_audit_log(tmp_path, "example", clock) as trail:
        assert await findings(trail) == []
        assert await findings(trail, "requests") == []
        page = await trail.search(EventQuery(), cursor="", limit=99)
        assert [each["seq"] for each in page.events] == [6, 5, 4, 3, 2, 1]


async def test_after_a_crash_in_the_middle_of_a_line_the_chain_goes_on_and_says_so(
    tmp_path: Path,
) -> None:
    file = tmp_path / "audit" / "2026-01-01.jsonl"
    async with open_audit_log(tmp_path, "example", WallClock()) as trail:
        await trail.record(event("user.create", name="alice"))
    with file.open("ab") as torn:
        torn.write(b'{"time":"2026-01-01T12:00:00.000Z","ev')

    async with open_audit_log(tmp_path, "example", WallClock()) as trail:
        [note] = await findings(trail)
        assert (note.kind, note.where) == ("torn", "2026-01-01.jsonl:2")
        await trail.record(event("user.create", name="bob"))
        assert [each.kind for each in await findings(trail)] == ["torn"]


@pytest.mark.parametrize("harm", ["cut", "changed", "emptied"])
async def test_an_end_that_was_spoilt_while_nothing_ran_is_told_and_stays_to_be_seen(
    tmp_path: Path, harm: str
) -> None:
    """The next line goes on from the mark: what is missing can't be hidden by writing more."""
    file = tmp_path / "audit" / "2026-01-01.jsonl"
    async with open_audit_log(tmp_path, "example", WallClock()) as trail:
        for name in ("alice", "bob"):
            await trail.record(event("user.create", name=name))
    lines = file.read_bytes().splitlines(keepends=True)
    spoilt = {"cut": lines[:1], "changed": [lines[0], lines[1].replace(b"bob", b"eve")]}
    file.write_bytes(b"".join(spoilt.get(harm, [])))

    async with open_audit_log(tmp_path, "example", WallClock()) as trail:
        await trail.record(event("user.create", name="carol"))
        [told] = (
            await trail.search(EventQuery(types=("audit.damaged",)), cursor="", limit=9)
        ).events
        found = await findings(trail)

    assert told["code"] == "TPX02E"
    assert [each.kind for each in found if each.is_fault] == [
        "changed" if harm == "changed" else "missing"
    ]


async def test_a_log_from_before_the_chain_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "2025-12-31.jsonl").write_text('{"time":"2025-12-31T00:00:00.000Z"}\n' * 2)

    async with open_audit_log(tmp_path, "example", WallClock()) as trail:
        await trail.record(event("user.create", name="alice"))
        [note] = await findings(trail)

    assert (note.kind, note.text.split()[0]) == ("unchained", "2")


async def test_nothing_is_removed_unless_told_so(tmp_path: Path) -> None:
    clock = WallClock()
    async with open_audit_log(tmp_path, "example", clock, Retention(requests=5)) as trail:
        await trail.record(event("user.create", name="alice"))
        clock.now += 3650 * DAY
        await trail.record(event("user.create", name="bob"))

    (tmp_path / "audit" / "retention-day").unlink(missing_ok=True)  # the newest file is believed
    async with open_audit_log(tmp_path, "example", clock, Retention(requests=5)) as trail:
        with trio.move_on_after(1):
            await trail.keep_retention()
    assert len(list_days(tmp_path / "audit")) == 2


@pytest.mark.parametrize("log", ["audit", "requests"])
async def test_what_was_kept_long_enough_is_removed_and_the_chain_says_so(
    tmp_path: Path, log: LogName
) -> None:
    clock = WallClock()
    async with open_audit_log(tmp_path, "example", clock) as trail:
        for _ in range(5):
            await trail.record(event("user.create", name="alice"))
            await trail.record_requests([record()], "p")
            clock.now += DAY

        await trail.remove_expired(log, 2)  # today is the sixth

        assert list_days(tmp_path / log)[0] == "2026-01-04.jsonl"
        [note] = await findings(trail, log)
        assert (note.kind, note.is_fault) == ("begins", False)
        page = await trail.search(EventQuery(log=log, types=("audit.removed",)), cursor="", limit=9)
        assert page.events[0].items() >= {"log": log, "through": 3}.items()

        (tmp_path / log / "2026-01-04.jsonl").unlink()
        assert [each.kind for each in await findings(trail, log)] == ["missing"]


async def years_of(tmp_path: Path, clock: WallClock) -> list[str]:
    async with open_audit_log(tmp_path, "example", clock, Retention(audit=30)) as trail:
        for _ in range(20):
            await trail.record(event("user.create", name="alice"))
            clock.now += DAY
            await trail.remove_expired("audit", 30, elapsed=86_400)
    return list_days(tmp_path / "audit")


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_clock_that_jumped_ahead_removes_nothing(
    tmp_path: Path, *, is_restarted: bool
) -> None:
    """R-13: else an hour of a wrong clock costs the whole audit log; nor is a restart a way around it."""
    clock = WallClock()
    before = await years_of(tmp_path, clock)
    clock.now += 365 * DAY

    async with open_audit_log(tmp_path, "example", clock, Retention(audit=30)) as trail:
        for _ in range(48):  # two days, by the hour
            await trail.remove_expired("audit", 30, elapsed=3600)
            await trail.record(event("user.create", name="bob"))
            if is_restarted:
                await trail.remove_expired("audit", 30)
        assert list_days(tmp_path / "audit")[:-1] == before

    clock.now -= 365 * DAY
    async with open_audit_log(tmp_path, "example", clock, Retention(audit=30)) as trail:
        await trail.remove_expired("audit", 30, elapsed=3600)
        assert list_days(tmp_path / "audit")[:-1] == before


async def test_after_a_month_off_what_is_too_old_goes_once_the_clock_has_shown_so_for_days(
    tmp_path: Path,
) -> None:
    clock = WallClock()
    await years_of(tmp_path, clock)
    clock.now += 40 * DAY

    async with open_audit_log(tmp_path, "example", clock, Retention(audit=30)) as trail:
        await trail.record(event("user.create", name="bob"))
        for _ in range(3 * 24):
            clock.now += DAY / 24
            await trail.remove_expired("audit", 30, elapsed=3600)
        assert list_days(tmp_path / "audit") == ["2026-03-02.jsonl", "2026-03-05.jsonl"]


async def test_days_that_come_one_after_the_other_are_believed_at_once(tmp_path: Path) -> None:
    clock = WallClock()
    async with open_audit_log(tmp_path, "example", clock) as trail:
        for _ in range(60):
            await trail.record(event("user.create", name="alice"))
            await trail.remove_expired("audit", 30, elapsed=3600)
            clock.now += DAY
    assert len(list_days(tmp_path / "audit")) == 31


async def test_after_the_clock_was_ahead_the_log_is_whole_and_all_in_it_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-13: no restart takes it for damaged, no check for tampered with, and no search misses a line."""
    clock = WallClock()
    for jump in (0 * DAY, 10 * DAY, -10 * DAY, DAY, DAY):
        clock.now += jump
        async with open_audit_log(tmp_path, "example", clock) as trail:
            await trail.record(event("user.create", name=f"{clock.now:%d}"))
            assert await findings(trail) == []
    assert not caplog.records

    async with open_audit_log(tmp_path, "example", clock) as trail:
        page = await trail.search(EventQuery(), cursor="", limit=9)
        assert [each["name"] for each in page.events] == ["03", "02", "01", "11", "01"]
        early = EventQuery(since=START - DAY, until=START + 1.5 * DAY)
        page = await trail.search(early, cursor="", limit=9)
        assert [each["name"] for each in page.events] == ["02", "01", "01"]


async def test_a_check_while_more_is_written_finds_nothing(trail: Trail) -> None:
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for n in range(60):
                await trail.record(event("user.create", name=str(n)))

        nursery.start_soon(write)
        for _ in range(10):
            assert await findings(trail) == []


async def test_a_line_behind_the_writers_own_is_found_at_once(trail: Trail, tmp_path: Path) -> None:
    await trail.record(event("user.create", name="alice"))
    file = tmp_path / "audit" / "2026-01-01.jsonl"
    line = file.read_bytes()
    file.write_bytes(line + line)
    assert [each.kind for each in await findings(trail)] == ["added"]

    (tmp_path / "audit" / MARK).unlink()
    file.write_bytes(b"")
    assert [each.kind for each in await findings(trail)] == ["missing"]
