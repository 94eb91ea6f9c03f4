"""The file of a backup: a tar.gz whose first member says what the others are. Pure, but for reading it.

manifest.json      format, version, cluster, time, revision, and of each other member its SHA-256
auth/tport.db      the database at one commit; the authorities' keys are in it
auth/factors.key   the key that seals secrets in it
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Final, cast

import msgspec

from tport.engine.errors import InvalidRequest

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_MAX_MANIFEST: Final = 64 * 1024  # bytes
MAX_CONTENT: Final = 8 * 1024**3  # bytes; what a header of ustar can say, and memory must hold
_OVERHEAD: Final = 1024**2  # bytes; the manifest, and headers and padding of some members
_NEEDS: Final = "give a file that `tport backup` wrote, whole"
_CHANGED: Final = "this backup was changed, or is damaged"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """
    Attributes:
        format: of the file; another one is not read.
        version: of tport, that wrote it.
        revision: of the database's last write.
        files: SHA-256, hex, of each member but this.
    """

    format: int
    version: str
    cluster: str
    created: datetime
    revision: int
    files: Mapping[str, str]


def pack_backup(
    files: Mapping[str, bytes], *, version: str, cluster: str, created: datetime, revision: int
) -> bytes:
    """Return the file."""
    manifest = Manifest(
        format=FORMAT,
        version=version,
        cluster=cluster,
        created=created,
        revision=revision,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        for name, content in ((MANIFEST, msgspec.json.encode(manifest)), *files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o600, int(created.timestamp())
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def unpack_backup(data: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """Read what is in memory already: `read_backup`."""
    return read_backup(io.BytesIO(data), MAX_CONTENT)


def read_backup(file: IO[bytes], most: int) -> tuple[Manifest, dict[str, bytes]]:
    """Read it. Nothing is written: members are bytes by the names that the manifest has.

    Args:
        file: read from where it stands, in pieces.
        most: bytes that all members may have; what would be more is not unpacked.

    Raises:
        InvalidRequest: it is no backup, is cut off or changed, of a format that isn't known, or
            holds more than `most`.
    """
    bounded = _Bounded(file, most)
    try:
        # As a stream: else tarfile goes back and forth, and asks for any length at once.
        with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST or first.size > _MAX_MANIFEST:
                raise InvalidRequest("this is no backup", hint=_NEEDS)
            manifest = msgspec.json.decode(_content(tar, first), type=Manifest)
            if manifest.format != FORMAT:
                raise InvalidRequest(
                    f"this backup has format {manifest.format}, this version of tport knows {FORMAT}",
                    hint=f"restore it with tport {manifest.version}",
                )
            files: dict[str, bytes] = {}
            while (member := tar.next()) is not None:
                if member.name not in manifest.files:
                    raise InvalidRequest(_CHANGED, hint=_NEEDS)
                bounded.allow(member.size)
                files[member.name] = _content(tar, member)
    except (
        tarfile.TarError,
        EOFError,
        OSError,
        ValueError,
        RecursionError,
        zlib.error,
        msgspec.MsgspecError,
    ) as problem:
        raise InvalidRequest(
            f"this is no backup, or not all of it: {problem}", hint=_NEEDS
        ) from None
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if found != dict(manifest.files):
        raise InvalidRequest(_CHANGED, hint=_NEEDS)
    return manifest, files


class _Bounded:
    """What is in a gzip file, as far as it was allowed: some kilobytes may unpack to gigabytes."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._unzipped = gzip.GzipFile(fileobj=file)
        self._left = _OVERHEAD
        self._room = self._most = most

    def allow(self, size: int) -> None:
        """Let a member of `size` bytes be read.

        Raises:
            InvalidRequest: there is no room for that.
        """
        self._room -= size
        if size < 0 or self._room < 0:
            raise InvalidRequest(
                f"this backup holds {(self._most - self._room) / 1024**3:.1f} GiB or more, and there is"
                f" room for {self._most / 1024**3:.1f} GiB",
                hint="that much must be free where it is restored, and fit into the memory",
            )
        self._left += size

    def read(self, size: int) -> bytes:
        data = self._unzipped.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise InvalidRequest("this is no backup: its headers are longer than any", hint=_NEEDS)
        return data


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise InvalidRequest("this is no backup", hint=_NEEDS)
    return file.read()
