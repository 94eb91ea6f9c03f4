"""A backup's file is read whole and unchanged, or not at all."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tport.engine.backup.archive import Manifest, pack_backup, unpack_backup
from tport.engine.errors import InvalidRequest

FILES = {"auth/tport.db": b"database" * 50, "auth/factors.key": b"key"}
MADE = datetime(2026, 11, 25, tzinfo=UTC)
PACKED = pack_backup(FILES, version="0.1.0", cluster="c", created=MADE, revision=7)


def test_what_was_packed_comes_back_with_what_is_said_of_it() -> None:
    manifest, files = unpack_backup(PACKED)

    assert files == FILES
    assert (manifest.cluster, manifest.created, manifest.revision) == ("c", MADE, 7)


@settings(deadline=None)
@given(cut=st.integers(0, len(PACKED) - 1))
def test_what_was_cut_off_is_refused_unless_nothing_is_missing(cut: int) -> None:
    try:
        _, files = unpack_backup(PACKED[:cut])
    except InvalidRequest:
        return
    assert files == FILES  # only padding was cut


@settings(deadline=None)
@given(at=st.integers(0, len(PACKED) - 1), by=st.integers(1, 255))
def test_what_was_changed_is_refused_or_means_the_same(at: int, by: int) -> None:
    data = bytearray(PACKED)
    data[at] ^= by
    try:
        _, files = unpack_backup(bytes(data))
    except InvalidRequest:
        return
    assert files == FILES


def repacked(manifest: Manifest, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("manifest.json")
        content = msgspec.json.encode(manifest)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def test_another_format_is_named_with_the_version_that_knows_it() -> None:
    manifest = msgspec.structs.replace(unpack_backup(PACKED)[0], format=2, version="9.9")

    with pytest.raises(InvalidRequest, match="format 2") as refused:
        unpack_backup(repacked(manifest))
    assert "9.9" in refused.value.hint


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_and_folders_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("auth/tport.db")
    info.type, info.linkname = kind, "/etc/passwd"

    with pytest.raises(InvalidRequest):
        unpack_backup(repacked(unpack_backup(PACKED)[0], (info, b"")))
