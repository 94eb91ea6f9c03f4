"""A backup's file is read whole and unchanged, or not at all."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.backup.archive import Manifest, pack_backup, read_backup, unpack_backup
from tport.engine.backup.cluster import restore_backup
from tport.engine.errors import InvalidRequest

if TYPE_CHECKING:
    from typing_extensions import Buffer

FILES = {"auth/tport.db": b"database" * 50, "auth/factors.key": b"key"}
MADE = datetime(2026, 11, 25, tzinfo=UTC)
PACKED = pack_backup(FILES, version="0.1.0", cluster="c", created=MADE, revision=7)


def test_what_was_packed_comes_back_with_what_is_said_of_it() -> None:
    manifest, files = unpack_backup(PACKED)

    assert files == FILES
    assert (manifest.cluster, manifest.created, manifest.revision) == ("c", MADE, 7)


@given(cut=st.integers(0, len(PACKED) - 1))
def test_what_was_cut_off_is_refused_unless_nothing_is_missing(cut: int) -> None:
    try:
        _, files = unpack_backup(PACKED[:cut])
    except InvalidRequest:
        return
    assert files == FILES  # only padding was cut


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


# --- What unpacks to more than anybody has room for ------------------------------------------------

MIB = 1024**2


class Endless(io.RawIOBase):
    """A file that is zipped while it is read."""

    def __init__(self, head: bytes, content: Iterator[bytes]) -> None:
        self._zip = zlib.compressobj(wbits=31)
        self._waiting = self._zip.compress(head)
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        room = memoryview(buffer)
        while len(self._waiting) < len(room):
            self._waiting += self._zip.compress(next(self._content))
        taken, self._waiting = self._waiting[: len(room)], self._waiting[len(room) :]
        room[:] = taken
        return len(taken)


def zeros() -> Iterator[bytes]:
    while True:
        yield bytes(MIB)


def begun(*members: tarfile.TarInfo, **files: str) -> bytes:
    """Return an archive as far as the header of its last member."""
    manifest = msgspec.structs.replace(unpack_backup(PACKED)[0], files=files)
    whole = gzip.decompress(repacked(manifest, *((member, b"") for member in members[:-1])))
    return whole.rstrip(b"\0").ljust(-(-len(whole.rstrip(b"\0")) // 512) * 512, b"\0") + (
        members[-1].tobuf(tarfile.GNU_FORMAT)
    )


def large(size: int, name: str = "auth/tport.db", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def refused(file: Endless, most: int) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest) as told:
            read_backup(io.BufferedReader(file), most)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
    return str(told.value)


def test_more_than_there_is_room_for_is_refused_before_it_is_unpacked() -> None:
    """2 MiB of a bomb are 2 GiB of zeros: they would fill the memory, or the disk."""
    bomb = Endless(begun(large(2**40), **{"auth/tport.db": "0" * 64}), zeros())

    said = refused(bomb, 64 * MIB)
    assert "1024.0 GiB" in said
    assert "0.1 GiB" in said


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_names_are_not_longer_than_any_name_is(kind: bytes) -> None:
    """tarfile reads what a header says of the next one as a whole."""
    refused(Endless(begun(large(2**32, kind=kind)), zeros()), 2**40)


def test_headers_of_headers_without_end_are_no_backup() -> None:
    """Each says something of the next one, and tarfile calls itself for it."""
    header = large(0, kind=tarfile.XHDTYPE)
    whole = begun(*[header] * 2000)

    with pytest.raises(InvalidRequest, match="no backup"):
        unpack_backup(gzip.compress(whole))


def test_what_is_not_told_of_at_the_beginning_is_not_unpacked() -> None:
    bomb = Endless(begun(large(2**30, name="other"), **{"auth/tport.db": "0" * 64}), zeros())

    assert "changed, or is damaged" in refused(bomb, 2**40)


def test_as_much_as_there_is_room_for_is_unpacked() -> None:
    most = sum(len(content) for content in FILES.values())

    assert read_backup(io.BytesIO(PACKED), most)[1] == FILES
    with pytest.raises(InvalidRequest, match="room"):
        read_backup(io.BytesIO(PACKED), most - 1)


def test_a_disk_that_has_no_room_for_it_gets_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk(NamedTuple):
        f_bavail: int = 0
        f_frsize: int = 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Disk())
    with pytest.raises(InvalidRequest, match="room"):
        restore_backup(tmp_path / "data", io.BytesIO(PACKED), MADE, keep_tokens=False)
    assert list(tmp_path.iterdir()) == []
