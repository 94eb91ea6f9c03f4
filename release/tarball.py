"""An archive that a script of its own installs, on any Linux and without a package manager."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from release.tree import FILES, Entry

_SCRIPTS: Final = ("install", "uninstall")


def write_tarball(path: Path, name: str, entries: Iterable[Entry], when: int) -> None:
    """Write entries and the scripts as `<name>/…`; the same bytes for the same input.

    Args:
        when: seconds since the epoch, the time of every file.
    """
    scripts = [
        Entry(PurePosixPath(each), FILES.joinpath(each).read_bytes(), 0o755) for each in _SCRIPTS
    ]
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=when) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in (*scripts, *entries):
            info = tarfile.TarInfo(f"{name}/{entry.path}")
            info.mtime, info.mode = when, entry.mode
            info.uname = info.gname = "root"
            if entry.content is None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
                archive.addfile(info)
            else:
                info.size = len(entry.content)
                archive.addfile(info, io.BytesIO(entry.content))
