"""Security items of what lies on disk: each test holds the ID of its item."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from tests.commands.test_backup import config, tport
from tests.stack import open_stack
from tport.engine.access.totp import matching_step, new_totp_secret, time_step, totp_code
from tport.engine.errors import NotSignedIn, TportError
from tport.engine.process import open_process
from tport.engine.types.event_query import EventQuery
from tport.engine.types.factor import Factors, TotpDevice
from tport.engine.types.session import session_id


async def test_ops_05_what_was_ended_lives_again_by_no_old_copy_neither_before_nor_after_it_is_accepted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The database of before a sign-out, a removed token and a used code, under the mark of after: R-12, R-17."""
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        token = await stack.admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=0
        )
        secret, factors = new_totp_secret(), stack.auth.cluster.stores.factors
        device = TotpDevice(id="1", name="phone", added=datetime.now(UTC), secret="sealed", step=0)
        await factors.put("alice", Factors(user_id="id", devices=(device,)))
        folder = stack.running.config.data_dir
        shutil.copytree(folder, tmp_path / "old")
        await stack.auth.sessions.sign_out(session_id(alice.web))
        await stack.admin.delete_token(token=token.token)
        shutil.copytree(folder, tmp_path / "new")
    code = totp_code(secret, time_step(datetime.now(UTC)))
    for name in ("tport.db", "tport.db-wal"):
        shutil.copy(tmp_path / "old" / "auth" / name, tmp_path / "new" / "auth")

    # Refused, by words that say what to do.
    with pytest.raises(TportError, match="isn't as it was last written: it ends at") as refused:
        async with open_process(config(tmp_path / "new"), trio.Event()):
            pass
    assert "tport db accept-rollback" in refused.value.hint
    assert "tport restore" in refused.value.hint
    assert await tport(tmp_path / "new", "db", "check") == 1
    told = capfd.readouterr()
    assert "writes were lost" in told.out
    assert "accept-rollback" in told.err

    # Accepted: what may have been ended since is gone.
    assert await tport(tmp_path / "new", "db", "accept-rollback") == 0
    assert "are removed" in capfd.readouterr().err
    stop = trio.Event()
    async with open_process(config(tmp_path / "new"), stop) as running:
        assert running.auth is not None
        assert running.admin is not None
        assert [each.user.name for each in await running.admin.list_users()] == ["alice"]
        with pytest.raises(NotSignedIn):
            await running.auth.sessions.web(session_id(alice.web))
        assert not await running.admin.list_tokens()
        [kept] = (await running.auth.cluster.stores.factors.get("alice")).devices
        assert isinstance(kept, TotpDevice)
        assert matching_step(secret, code, now=datetime.now(UTC), after=0) is not None
        assert matching_step(secret, code, now=datetime.now(UTC), after=kept.step) is None
        page = await running.admin.search_events(
            query=EventQuery(types=("storage.rollback",)), cursor="", limit=10
        )
        [event] = page.events
        assert "writes were lost" in str(event["error"])
        stop.set()
    assert await tport(tmp_path / "new", "db", "check") == 0
    assert await tport(tmp_path / "new", "db", "accept-rollback") == 2
    assert "nothing to accept" in capfd.readouterr().err


async def test_ops_05_nothing_is_accepted_under_a_running_auth_or_where_sqlite_reads_half(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_stack(drain=False) as stack:
        folder = stack.running.config.data_dir
        assert await tport(folder, "db", "accept-rollback") == 2
        assert "is in use by another tport process" in capfd.readouterr().err
    assert await tport(tmp_path, "db", "accept-rollback") == 4
    stop = trio.Event()
    async with open_process(config(tmp_path), stop):
        stop.set()
    database = tmp_path / "auth" / "tport.db"
    data = bytearray(database.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    database.write_bytes(data)
    assert await tport(tmp_path, "db", "accept-rollback") == 1
    assert "from a backup" in capfd.readouterr().err
    assert database.read_bytes() == data


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param("X'7B'", id="cut off"),
        pytest.param(
            """CAST(CAST('{"user_id":"' AS BLOB) || X'FF227D' AS BLOB)""",
            id="a letter that is none",
        ),
        pytest.param("CAST(X'FF' AS TEXT)", id="a text"),
        pytest.param("5", id="a number"),
    ],
)
async def test_ops_05_a_second_factor_that_a_flipped_byte_spoiled_keeps_nobody_from_going_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], spoilt: str
) -> None:
    """R-17: what can't be read proves nobody; all else goes on."""
    async with open_stack(drain=False) as stack:
        await stack.user("alice")
        await stack.auth.cluster.stores.factors.put("alice", Factors(user_id="id"))
        shutil.copytree(stack.running.config.data_dir, tmp_path / "new")
    with closing(sqlite3.connect(tmp_path / "new" / "auth" / "tport.db")) as database:
        database.execute(
            f"UPDATE items SET value = {spoilt} WHERE key = CAST('/factors/alice' AS BLOB)"
        )
        database.commit()

    assert await tport(tmp_path / "new", "db", "accept-rollback") == 0, capfd.readouterr().err
    stop = trio.Event()
    async with open_process(config(tmp_path / "new"), stop) as running:
        assert running.admin is not None
        assert [each.user.name for each in await running.admin.list_users()] == ["alice"]
        assert running.auth is not None
        assert await running.auth.cluster.stores.factors.find("alice") is None
        stop.set()


async def test_ops_05_what_the_audit_log_can_not_take_is_not_accepted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The trace comes first: a database that goes on, and nothing that tells, would look as if none was lost."""
    async with open_stack(drain=False) as stack:
        await stack.user("alice")
        shutil.copytree(stack.running.config.data_dir, tmp_path / "new")
    with closing(sqlite3.connect(tmp_path / "new" / "auth" / "tport.db")) as database:
        database.execute("DELETE FROM items WHERE key = CAST('/users/alice' AS BLOB)")
        database.commit()
    log = tmp_path / "new" / "auth" / "audit"
    shutil.move(log, tmp_path / "kept")
    log.mkdir()
    for days in (0, 1):
        (log / f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}.jsonl").mkdir()
    capfd.readouterr()

    assert await tport(tmp_path / "new", "db", "accept-rollback") != 0
    assert "Traceback" not in (told := capfd.readouterr().err)
    assert "audit" in told
    assert await tport(tmp_path / "new", "db", "check") == 1

    shutil.rmtree(log)
    shutil.move(tmp_path / "kept", log)
    assert await tport(tmp_path / "new", "db", "accept-rollback") == 0
    assert await tport(tmp_path / "new", "db", "check") == 0
