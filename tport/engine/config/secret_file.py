"""Reading the file that a secret lies in, with the suspicion it deserves (AG-02)."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tport.engine.errors import ConfigError

MAX_SECRET: Final = 64 * 1024  # bytes; a file of pins or tokens, a line each


def read_secret_file(path: Path, *, any_owner: bool = False) -> tuple[str, str]:
    """Return what the file holds, without the white space around it, and a warning or "". Blocks.

    Args:
        any_owner: it may belong to whomever: who looks does so for another user.

    Raises:
        ConfigError: it isn't there, isn't a regular file (a link is none), isn't ours, may be
            written by others, or holds no text.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        is_link = path.is_symlink()
        why = "it is a link, and could lead anywhere" if is_link else str(problem.strerror).lower()
        raise ConfigError(f"can't be read: {why}", where=path) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):  # of a folder no file object can be made
        os.close(descriptor)
        raise ConfigError("is no regular file", where=path)
    with open(descriptor, "rb") as file:
        if found.st_uid not in (os.geteuid(), 0) and not any_owner:
            raise ConfigError("belongs to another user, who could change it", where=path)
        by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, _own_group(found))
        if found.st_mode & stat.S_IWOTH or by_group:
            raise ConfigError(
                "may be written by others, who could change it;"
                f" see that it is yours still, then: chmod go-w {path}",
                where=path,
            )
        data = file.read(MAX_SECRET + 1)
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > MAX_SECRET:
        raise ConfigError("holds no secret: it is empty, too long, or no text", where=path)
    open_to_others = found.st_mode & (stat.S_IRGRP | stat.S_IROTH)
    warning = f"{path} can be read by others; mend it: chmod 600 {path}" if open_to_others else ""
    return text, warning


def read_pins(pins: Sequence[str]) -> tuple[str, ...]:
    """Return pins of a cluster's authorities, with those of the files that are among them. Blocks.

    Args:
        pins: each a pin, or the absolute path of a file of pins.

    Raises:
        ConfigError: as `read_secret_file`.
    """
    found: list[str] = []
    for pin in pins:
        found += read_secret_file(Path(pin))[0].split() if pin.startswith("/") else [pin]
    return tuple(found)


def _own_group(found: os.stat_result) -> int:
    """Return the group that a file's owner has alone: under umask 002 it may write what they make."""
    import pwd

    try:
        return pwd.getpwuid(found.st_uid).pw_gid
    except KeyError:  # as in a container
        return os.getegid()
