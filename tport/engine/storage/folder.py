"""A role's folder in the data directory: made for its owner alone, and held by one process."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Final

from tport.engine.errors import ConfigError
from tport.engine.files import keep_owner

logger = logging.getLogger(__name__)


_NAME_ANOTHER: Final = "name another folder: data_dir in the file, --data-dir, or $TPORT_DATA_DIR"
_BELOW: Final = (
    "let data_dir be a folder below it, which tport makes for itself; what it has here already (auth,"
    " proxy, agent) moves there"
)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a role's folder, for its owner alone, and hold it for this process.

    What root writes there meanwhile is given to whom the folder, or the data directory around it,
    belongs: the service, which runs as another user, must be able to read it.

    Raises:
        ConfigError: it can't be made, it or the data directory is somebody else's or may be written
            by others, or another process holds it.
    """
    try:
        descriptor, owner = _opened(folder)
    except OSError as problem:
        raise ConfigError(
            f"can't be used: {str(problem.strerror).lower()}", where=folder, hint=_NAME_ANOTHER
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise ConfigError(
                "is in use by another tport process",
                where=folder,
                hint="stop that one, or give this one a data directory of its own: --data-dir",
            ) from None
        try:
            yield
        finally:
            _keep_owner(folder, owner)
    finally:
        os.close(descriptor)


def check_folder(folder: Path) -> list[str]:
    """Judge a role's folder as `locked_folder` does, as far as it is there; make nothing. Blocks.

    Returns:
        What it warns of.

    Raises:
        ConfigError: it would refuse what is there.
        OSError: that can't be looked at.
    """
    around = folder.parent
    if not os.path.lexists(around):
        return []
    outer, note = _look_at_data(around)
    notes = [note]
    if os.path.lexists(folder):
        _refuse_link(folder)
        notes.append(_judge(folder, folder.lstat(), outer, _NAME_ANOTHER))
        if (lock := folder / ".lock").is_symlink():
            raise _link_for_lock(lock)
    return [note for note in notes if note]


def _keep_owner(folder: Path, owner: os.stat_result | None) -> None:
    try:
        if owner is not None:
            keep_owner(folder, owner)
    except OSError as problem:
        # No failure: what was done is done, and who is root in here only may read it all the same.
        whose = f"{owner.st_uid}:{owner.st_gid}" if owner is not None else ""
        logger.warning(
            "%s has files of root's that its owner can't read (%s): chown -R %s %s",
            folder,
            problem.strerror,
            whose,
            folder,
        )


def _opened(folder: Path) -> tuple[int, os.stat_result | None]:
    """Return the lock, open, and the status of who is to own what root makes; None: root.

    Raises:
        ConfigError: others could have put something there, or could do so.
        OSError: it can't be made or opened.
    """
    around = folder.parent
    around.mkdir(parents=True, exist_ok=True, mode=0o700)
    outer, around_note = _look_at_data(around)
    _refuse_link(folder)
    folder.mkdir(exist_ok=True, mode=0o700)
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        inner = os.fstat(inside)
        note = _judge(folder, inner, outer, _NAME_ANOTHER)
        lock = _open_lock(folder, inside)
    finally:
        os.close(inside)
    for each in filter(None, (around_note, note)):
        logger.warning("%s", each)
    return lock, next((each for each in (inner, outer) if each.st_uid != 0), None)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        around = quote(str(folder.parent))
        raise ConfigError(
            "is a link, and could lead anywhere",
            where=folder,
            hint=f"move what it leads to into its place; {around} as a whole may be a link",
        )


def _open_lock(folder: Path, inside: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(".lock", flags, 0o600, dir_fd=inside)
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise _link_for_lock(folder / ".lock") from None


def _link_for_lock(lock: Path) -> ConfigError:
    return ConfigError(
        "is a link, and could lead anywhere", where=lock, hint=f"rm {quote(str(lock))}"
    )


def _look_at_data(place: Path) -> tuple[os.stat_result, str]:
    """Return the status of a data directory, which may be a link of root's or of ours; and `_judge`'s.

    Raises:
        ConfigError: it is not to be trusted.
    """
    link = place.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"is a link of {_user(link.st_uid)}'s, who could lead it anywhere",
            where=place,
            hint=_NAME_ANOTHER,
        )
    real = place.resolve()
    found = real.stat()
    return found, _judge(place, found, real.parent.stat(), _BELOW)


def _judge(place: Path, found: os.stat_result, above: os.stat_result, elsewhere: str) -> str:
    """Refuse a folder that is somebody else's, or that others may write to.

    Root may work in a service's, where nobody but root or the service can have put it.

    Args:
        elsewhere: what to do where the folder isn't one's own, so that its mode is others' to choose.

    Returns:
        What to warn of; "": nothing.
    """
    me = os.geteuid()
    placed_by_others = above.st_uid not in (0, found.st_uid) or above.st_mode & stat.S_IWOTH
    if found.st_uid not in (me, 0) and (me != 0 or placed_by_others):
        raise ConfigError(
            f"belongs to {_user(found.st_uid)}, who could change what lies there",
            where=place,
            hint=f"where it is meant for tport: chown -R {me}:{os.getegid()} {quote(str(place))};"
            f" else {_NAME_ANOTHER}",
        )
    own, others = _groups_of(found.st_uid)
    by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, own)
    if found.st_mode & stat.S_IWOTH or (by_group and found.st_gid not in others):
        hint = f"chmod go-w {quote(str(place))}"
        if me not in (0, found.st_uid):
            hint = elsewhere
        elif found.st_mode & stat.S_ISVTX:  # meant for everybody, as /tmp: others need it so
            hint = _NAME_ANOTHER
        raise ConfigError(
            "may be written by others, who could put files of theirs there", where=place, hint=hint
        )
    if not by_group:
        return ""
    return (
        f"{place} may be written by all of its group, {found.st_gid}; if others are in it:"
        f" chmod g-w {quote(str(place))}"
    )


def _groups_of(owner: int) -> tuple[int, list[int]]:
    """Return the group that a user, or the service that root made a folder for, has as its own, and its others.

    Under umask 002 what one makes is for the own group, in which there is nobody else.
    """
    import pwd

    if owner == os.geteuid():
        return os.getegid(), os.getgroups()
    if owner == 0:
        return 0, [os.getegid(), *os.getgroups()]
    try:
        user = pwd.getpwuid(owner)
    except KeyError:  # as in a container
        return owner, []
    return user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
