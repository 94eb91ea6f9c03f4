"""How many connections a process may take by the number of files that the system lets it open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tport.engine.defaults import RESERVED_DESCRIPTORS

FEWEST: Final = 16  # connections that are tried in any case: less serves nobody
_OPEN_FILES: Final = Path("/proc/self/fd")  # Linux
_SOME: Final = 64  # taken to be open where nobody tells


def connections_within_descriptors(wanted: int, *, each: int = 1) -> int:
    """Return how many connections there may be at a time, at most `wanted`, so that files are left.

    RESERVED_DESCRIPTORS and what is open now stay free of them. Where the system lets it, the
    limit of this process is raised as far as that takes.

    Args:
        each: file descriptors that one connection takes.
    """
    taken = _open_files() + RESERVED_DESCRIPTORS
    limit = _raised_limit(wanted * each + taken)
    return wanted if limit is None else fitting(wanted, each=each, taken=taken, limit=limit)


def fitting(wanted: int, *, each: int, taken: int, limit: int) -> int:
    """Return how many connections fit, of which each takes so many descriptors of those that are left."""
    return min(wanted, max(FEWEST, (limit - taken) // each))


def _open_files() -> int:
    try:
        return len(os.listdir(_OPEN_FILES))
    except OSError:
        return _SOME


def _raised_limit(wanted: int) -> int | None:
    """Return the limit of open files, raised to `wanted` if it was less; None: there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    if soft < wanted and (hard == resource.RLIM_INFINITY or soft < hard):
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        except (OSError, ValueError):  # the unit of systemd forbids it
            return soft
        return more
    return soft
