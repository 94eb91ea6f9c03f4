"""A role's folder in the data directory: made for its owner alone, and held by one process."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tport.engine.errors import ConfigError
from tport.engine.files import keep_owner, owner_of

logger = logging.getLogger(__name__)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a role's folder, for its owner alone, and hold it for this process.

    What root writes there meanwhile is given to whom the folder, or the data directory around it,
    belongs: the service, which runs as another user, must be able to read it.

    Raises:
        ConfigError: it can't be made, or another process holds it.
    """
    try:
        owner = owner_of(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise ConfigError(
            f"can't be used: {str(problem.strerror).lower()}",
            where=folder,
            hint="name another folder: data_dir in the file, --data-dir, or $TPORT_DATA_DIR",
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
