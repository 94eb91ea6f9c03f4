"""A backup of a cluster that runs is a cluster again, without what may have been ended since."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import trio

from tests.stack import DOMAIN, PASSWORD, Stack, open_stack
from tport.cli import run
from tport.engine.config.address import Address
from tport.engine.config.model import AppService, AuthService, Config, Log, ProxyService
from tport.engine.errors import NotSignedIn
from tport.engine.process import open_process
from tport.engine.types.session import session_id


async def tport(folder: Path, *args: str) -> int:
    """Run a command about the cluster in `folder` as its own process would; return its status."""
    return await trio.to_thread.run_sync(run, ["--data-dir", str(folder), *args])


async def backed_up(stack: Stack, to: Path) -> Path:
    assert await tport(stack.running.config.data_dir, "backup", str(to)) == 0
    return to


def config(folder: Path) -> Config:
    return Config(
        data_dir=folder,
        nodename="testhost",
        log=Log(),
        auth_service=AuthService(
            enabled=True,
            listen_addr=Address("127.0.0.1", 0),
            listen_is_given=True,
            cluster_name=DOMAIN,
        ),
        proxy_service=ProxyService(
            enabled=False,
            web_listen_addr=Address("127.0.0.1", 0),
            public_addrs=(),
            public_is_given=False,
        ),
        app_service=AppService(enabled=False),
    )


@pytest.mark.parametrize("keep", [False, True])
async def test_it_is_a_cluster_again_in_which_nothing_that_was_ended_since_lives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, keep: bool
) -> None:
    """R-12: restored, with the same authorities and people, and no session or token of then."""
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        await alice.get("echo")
        token = await stack.admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
        )
        file = await backed_up(stack, tmp_path / "backup.tar.gz")
        await stack.admin.create_user(name="later", roles=("access",), traits={})
        authorities = stack.auth.authorities
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    options = ["--keep-tokens"] if keep else []
    assert await tport(tmp_path / "new", "restore", str(file), *options) == 0
    assert "people sign in again" in capfd.readouterr().err

    stop = trio.Event()
    async with open_process(config(tmp_path / "new"), stop) as running:
        assert running.auth is not None
        assert running.admin is not None
        assert running.auth.authorities == authorities
        assert [each.user.name for each in await running.admin.list_users()] == ["alice"]
        with pytest.raises(NotSignedIn):
            await running.auth.sessions.web(session_id(alice.web))
        kept = [each.id for each in await running.admin.list_tokens()]
        assert bool(kept) is keep
        assert running.auth.degraded() == ()
        stop.set()
    assert token.token not in file.read_bytes().decode("latin-1")


async def test_what_was_restored_is_checked_and_backed_up_before_auth_has_ever_run_there(
    tmp_path: Path,
) -> None:
    """An operator looks before the start: the administrator's files, which a start makes, aren't there yet."""
    async with open_stack(drain=False) as stack:
        file = await backed_up(stack, tmp_path / "backup.tar.gz")
    assert await tport(tmp_path / "new", "restore", str(file)) == 0

    assert await tport(tmp_path / "new", "db", "check") == 0
    assert await tport(tmp_path / "new", "backup", str(tmp_path / "again.tar.gz")) == 0


async def test_it_overwrites_nothing_neither_a_file_nor_a_cluster(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_stack(drain=False) as stack:
        folder = stack.running.config.data_dir
        file = await backed_up(stack, tmp_path / "backup.tar.gz")
        before = file.read_bytes()
        assert await tport(folder, "backup", str(file)) == 6
        assert file.read_bytes() == before
        assert await tport(folder, "restore", str(file)) == 2
        assert "is in use by another tport process" in capfd.readouterr().err
        shutil.copytree(folder / "auth", tmp_path / "old" / "auth")
    (tmp_path / "old" / "auth" / ".lock").unlink()
    assert await tport(tmp_path / "old", "restore", str(file)) == 6
    assert "move it away first" in capfd.readouterr().err


@pytest.mark.parametrize("harm", [lambda data: data[:-100], lambda data: b"", lambda _: b"x" * 999])
async def test_what_is_no_backup_leaves_nothing_behind(
    tmp_path: Path, harm: object, capfd: pytest.CaptureFixture[str]
) -> None:
    assert callable(harm)
    async with open_stack(drain=False) as stack:
        file = await backed_up(stack, tmp_path / "backup.tar.gz")
    file.write_bytes(harm(file.read_bytes()))

    assert await tport(tmp_path / "new", "restore", str(file)) != 0
    assert "backup" in capfd.readouterr().err
    assert not (tmp_path / "new" / "auth" / "tport.db").exists()


async def test_a_damaged_database_is_found_and_no_backup_is_made_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_stack(drain=False) as stack:
        folder = stack.running.config.data_dir
        assert await tport(folder, "db", "check", "--format=json") == 0
        told = json.loads(capfd.readouterr().out)
        assert told["in_use"]
        assert told["problems"] == []
        assert told["records"] > 10
        shutil.copytree(folder / "auth", tmp_path / "auth")
    (tmp_path / "auth" / "tport.db-wal").unlink()

    assert await tport(tmp_path, "db", "check") == 1
    assert "writes were lost" in capfd.readouterr().out
    assert await tport(tmp_path, "backup", str(tmp_path / "b")) == 1
    assert not (tmp_path / "b").exists()


async def test_files_that_others_may_read_are_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_stack(drain=False) as stack:
        folder = stack.running.config.data_dir
        os.chmod(folder / "auth" / "factors.key", 0o640)
        assert await tport(folder, "db", "check") == 1
    assert "factors.key has mode 0640" in capfd.readouterr().out


async def test_the_key_that_seals_is_in_it(tmp_path: Path) -> None:
    async with open_stack(drain=False) as stack:
        folder = stack.running.config.data_dir
        key = (folder / "auth" / "factors.key").read_bytes()
        file = await backed_up(stack, tmp_path / "backup.tar.gz")

    assert await tport(tmp_path / "new", "restore", str(file)) == 0
    restored = tmp_path / "new" / "auth" / "factors.key"
    assert restored.read_bytes() == key
    assert stat.S_IMODE(restored.stat().st_mode) == 0o600
    assert stat.S_IMODE(restored.parent.stat().st_mode) == 0o700


async def test_no_secret_is_left_anywhere_but_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    async with open_stack(drain=False) as stack:
        await stack.user("alice")
        folder = stack.running.config.data_dir
        before = sorted(folder.rglob("*"))
        await backed_up(stack, tmp_path / "backup.tar.gz")
        assert sorted(folder.rglob("*")) == before
        key = (folder / "auth" / "factors.key").read_text().strip()
    printed = capfd.readouterr()
    assert key not in printed.out + printed.err
    assert PASSWORD not in printed.out + printed.err
    assert sorted(os.listdir(tmp_path)) == ["backup.tar.gz", "scratch"]
    assert os.listdir(tmp_path / "scratch") == []
