"""A child that does not come up is told by its own last words, and leaves nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio

from tport.engine.errors import TportError
from tport.engine.selftest.throwaway import Child, open_throwaway


async def never() -> bool:
    await trio.lowlevel.checkpoint()
    return False


def runs(child: Child) -> bool:
    return Path("/proc", str(child.pid)).exists()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_child_that_ends_is_told_by_its_last_words(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        child = await Child.start(nursery, tmp_path, "server", {"proxy_service": {"enabled": "?"}})
        with pytest.raises(TportError, match="expected yes or no, found '\\?'") as ended:
            await child.until(never)

    assert "the selftest's server ended" in str(ended.value)


async def test_a_child_ends_with_its_nursery_and_its_file_is_for_us_alone(tmp_path: Path) -> None:
    config = {"tport": {"data_dir": str(tmp_path)}, "proxy_service": {"enabled": "no"}}
    async with trio.open_nursery() as nursery:
        child = await Child.start(nursery, tmp_path, "server", config)
        assert runs(child)
        nursery.cancel_scope.cancel()

    assert not runs(child)
    assert mode(tmp_path / "server.yaml") == 0o600


async def test_without_a_place_for_temporary_files_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))

    with pytest.raises(BaseException, match="folder for temporary files") as refused:
        async with open_throwaway("http://127.0.0.1:1"):
            pass

    assert "TMPDIR" in getattr(refused.value, "hint", "")
