"""R-15, R-16, OPS-02: a disk that is full costs changes, and no request."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from tests.fakes import WallClock
from tests.faults.disk import SmallDisk, small_disk
from tests.faults.test_kill import partial_files
from tests.figures import Hold
from tests.stack import Person, Stack, open_stack
from tport.engine import process as process_module
from tport.engine.errors import Unavailable
from tport.engine.storage.backend import Item
from tport.engine.storage.snapshot import take_snapshot
from tport.engine.storage.sqlite import open_sqlite_backend

REQUESTS = 60
EVENTS = 1400  # more than wait for the audit log at a time


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """A small disk, on which a stack's data directory lies."""
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
        yield disk


async def statuses(person: Person, count: int = REQUESTS) -> set[int]:
    return {(await person.get("echo", f"/{number}")).status for number in range(count)}


async def until_it_writes(stack: Stack) -> float:
    """Wait until a user can be made; return how long it took, in seconds."""
    began = trio.current_time()
    for number in range(100):
        try:
            await stack.admin.create_user(name=f"later-{number}", roles=("access",), traits={})
        except Unavailable:
            await trio.sleep(0.1)  # the disk's recovery, in real time
        else:
            return trio.current_time() - began
    raise AssertionError("it doesn't write again")


async def test_ops_02_a_full_disk_refuses_changes_serves_requests_and_is_forgotten(
    disk: SmallDisk, hold: Hold
) -> None:
    """R-15, OPS-02: no change without its trace; requests go on; what the audit log lost is counted in it."""
    async with open_stack(diagnostics=True) as stack:
        alice = await stack.user("alice")
        assert await statuses(alice, 1) == {200}
        disk.fill()

        for _ in range(2):
            with pytest.raises(Unavailable, match="full") as refused:
                await stack.admin.create_user(name="bob", roles=("access",), traits={})
            assert refused.value.status == 503
        page = await stack.request("tport.localhost", "/web/login")
        assert page.status == 200
        failed = REQUESTS - sum(
            [(await alice.get("echo", f"/{number}")).status == 200 for number in range(REQUESTS)]
        )
        ready = await stack.diagnose("/readyz")
        assert "full" in ready.body.decode()

        # More events than wait: what finds no room is counted, and nobody is held up for long.
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(EVENTS):
                    nursery.start_soon(stack.auth.cluster.emit, "tunnel.up")
        lost = stack.auth.cluster.audit.lost
        assert lost > 0
        figures = (await stack.diagnose("/metrics")).body.decode()
        assert f'tport_shed_total{{what="audit"}} {lost}' in figures

        assert "the audit log can't be written: its disk is full" in (
            (await stack.diagnose("/readyz")).body.decode()
        )
        with pytest.raises(Unavailable, match="the audit log can't be written: its disk is full"):
            await stack.admin.create_user(name="bob", roles=("access",), traits={})

        disk.free()
        took = await until_it_writes(stack)
        told = await stack.event("audit.lost")
        assert told["count"] == lost
        assert not await stack.events("user.create.failed")
        assert await statuses(alice, 5) == {200}
        assert len(await stack.events("tunnel.up")) > EVENTS / 2
        folder = stack.running.config.data_dir
        assert take_snapshot(folder / "auth" / "tport.db").complaints == ()
        assert list(partial_files(folder)) == []

    hold("R-15 requests failed while the data directory's disk was full", failed, at_most=0)
    hold("R-15 changes possible again after space is back", took, "s", at_most=10)


async def test_r_15_what_is_written_from_time_to_time_waits_for_space_and_ends_nothing(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-15, OPS-04: the administrator's certificate stays as it is, whole, until the next one fits."""
    monkeypatch.setattr(process_module, "ADMIN_RENEWAL", timedelta(0))
    monkeypatch.setattr(process_module, "ADMIN_LOOK", 0.2)
    monkeypatch.setattr(process_module, "ADMIN_RETRY", 0.2)
    async with open_stack() as stack:
        alice = await stack.user("alice")
        assert await statuses(alice, 1) == {200}
        folder = stack.running.config.data_dir
        pem = folder / "auth" / "admin.pem"
        disk.fill()
        await trio.sleep(0.5)  # real: some tries
        kept = pem.read_bytes()
        await trio.sleep(0.5)

        assert pem.read_bytes() == kept
        assert list(partial_files(folder)) == []
        assert await statuses(alice, 3) == {200}
        disk.free()
        with trio.fail_after(10):
            while pem.read_bytes() == kept:  # noqa: ASYNC110 - a file tells nobody that it changed
                await trio.sleep(0.05)
        assert list(partial_files(folder)) == []


async def test_a_start_on_a_full_disk_says_so_and_succeeds_once_there_is_room(
    tmp_path: Path,
) -> None:
    """R-15: SQLite calls it a fault of the disk; who reads that would restore a backup that nothing needs."""
    with small_disk(tmp_path / "disk", "2m") as disk:
        path = disk.folder / "auth" / "tport.db"
        async with open_sqlite_backend(path, WallClock()) as backend:
            await backend.create(Item("/kept", b"1"))
        disk.fill()
        with pytest.raises(Unavailable, match="its disk is full") as refused:
            async with open_sqlite_backend(path, WallClock()):
                pass
        assert "free some space" in refused.value.hint

        disk.free()
        async with open_sqlite_backend(path, WallClock()) as backend:
            assert await backend.count("/") == 1
