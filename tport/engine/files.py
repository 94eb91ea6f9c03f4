"""Small files that survive a power cut, and that stay their folder's owner's, whoever writes them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, for its owner alone: the old one or the new, whole, also after a power cut. Blocks.

    It is always a new file: one that lies in its way, of an earlier try or of somebody else, gets nothing of it.

    Raises:
        OSError: it can't be written, as where a link lies in its way; or it is, and may be the old one again after a power cut.
    """
    new = path.with_name(f"{path.name}.new")
    if new.is_symlink():  # none that was left of an earlier try
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(new))
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def keep_owner(folder: Path, owner: os.stat_result) -> None:
    """Give what root has just made in a folder to whom the folder, or the one around it, belongs. Blocks.

    By others than root nothing is done: what they make is theirs. Links are not followed, and files
    that have another name elsewhere are left: who owns the folder may have put them there.

    Raises:
        OSError: it can't be done.
    """
    mine = os.geteuid()
    if mine != 0:
        return
    for _, folders, files, inside in os.fwalk(folder, follow_symlinks=False):
        _give(".", inside, mine, owner)
        for name in (*folders, *files):
            _give(name, inside, mine, owner)


def _give(name: str, inside: int, mine: int, owner: os.stat_result) -> None:
    # By a descriptor: what has the name may be another file by the time that it is given away.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=inside)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.ENXIO, errno.ENOENT):  # a link, a socket, nothing
            return
        raise
    try:
        status = os.fstat(descriptor)
        is_plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if status.st_uid == mine and (is_plain or stat.S_ISDIR(status.st_mode)):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)
