"""`tport audit`: times as people write them, rows that a terminal survives, checks of a copy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.fakes import START
from tport.commands.audit import app, request_row, row
from tport.commands.moments import parse_moment
from tport.engine.audit.log import AuditLog
from tport.engine.errors import InvalidRequest, NotFound

DAY = timedelta(days=1)


def audit(*args: str) -> Result:
    result = CliRunner().invoke(app, list(args), catch_exceptions=False)
    assert isinstance(result, Result)
    return result


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    log = AuditLog(tmp_path / "audit")
    await log.create()
    for day in range(3):
        lines = [b'{"time":"2026-01-01T12:00:00.000Z","n":%d}\n' % n for n in range(3)]
        await log.append((START + day * DAY).date(), lines)
    return log.directory


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", START - timedelta(minutes=30)),
        ("7d", START - 7 * DAY),
        ("2w", START - 14 * DAY),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_so_long_ago_or_a_time(text: str, moment: datetime) -> None:
    assert parse_moment(text, START) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "7", "d", "2026-13-01", "999999w"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_moment(text, START)


def test_a_row_tells_all_that_is_particular() -> None:
    event = {
        "time": "T",
        "uid": "u",
        "event": "user.create",
        "code": "T1002I",
        "user": "admin",
        "name": "alice",
        "roles": ["access", "auditor"],
        "seq": 4,
        "prev": "0" * 64,
    }
    assert row(event) == ["T", "user.create", "admin", "", "name=alice roles=access,auditor"]
    assert request_row({"time": "T", "user": "alice", "path": "/", "status_code": 200})[:6] == [
        "T",
        "alice",
        "",
        "200",
        "",
        "/",
    ]


async def test_a_copy_that_is_as_it_was_written_is_said_to_be_so(folder: Path) -> None:
    told = audit("verify", f"--dir={folder}")

    assert (told.exit_code, told.stdout) == (0, "")
    assert "9 lines, each as it was written" in told.stderr


async def test_a_copy_that_is_not_is_told_by_file_and_line(folder: Path) -> None:
    file = folder / "2026-01-02.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"n":1', b'"n":8'))

    told = audit("verify", f"--dir={folder}")
    assert told.exit_code == 1
    assert told.stdout.startswith(f"{folder}: 2026-01-02.jsonl:2: changed: ")

    told = audit("verify", f"--dir={folder}", "--format=json")
    [report] = json.loads(told.stdout)
    assert (told.exit_code, report["ok"], report["lines"]) == (1, False, 9)
    assert report["findings"][0]["where"] == "2026-01-02.jsonl:2"

    told = audit("verify", f"--dir={folder}", "--since=2026-01-03")
    assert (told.exit_code, told.stdout) == (0, "")
    assert "earlier lines were not asked for" in told.stderr


def test_a_folder_without_a_log_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotFound, match="holds no log"):
            audit("verify", f"--dir={folder}")
