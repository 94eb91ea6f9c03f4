"""The file of a backup: a tar.gz whose first member says what the others are. Pure.

manifest.json      format, version, cluster, time, revision, and of each other member its SHA-256
auth/tport.db      the database at one commit; the authorities' keys are in it
auth/factors.key   the key that seals secrets in it
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from tport.engine.errors import InvalidRequest

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_MAX_MANIFEST: Final = 64 * 1024  # bytes
_NEEDS: Final = "give a file that `tport backup` wrote, whole"


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
    """Read it. Nothing is written: members are bytes by the names that the manifest has.

    Raises:
        InvalidRequest: it is no backup, is cut off or changed, or of a format that isn't known.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST or first.size > _MAX_MANIFEST:
                raise InvalidRequest("this is no backup", hint=_NEEDS)
            manifest = msgspec.json.decode(_content(tar, first), type=Manifest)
            if manifest.format != FORMAT:
                raise InvalidRequest(
                    f"this backup has format {manifest.format}, this version of tport knows {FORMAT}",
                    hint=f"restore it with tport {manifest.version}",
                )
            files = {member.name: _content(tar, member) for member in tar if member is not first}
    except (
        tarfile.TarError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
        msgspec.MsgspecError,
    ) as problem:
        raise InvalidRequest(
            f"this is no backup, or not all of it: {problem}", hint=_NEEDS
        ) from None
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if found != dict(manifest.files):
        raise InvalidRequest("this backup was changed, or is damaged", hint=_NEEDS)
    return manifest, files


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise InvalidRequest("this is no backup", hint=_NEEDS)
    return file.read()
