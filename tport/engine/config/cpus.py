"""How many CPUs this process may use: as the scheduler, and a container's quota, have it.

Source: sched_getaffinity(2); Linux, Documentation/admin-guide/cgroup-v2.rst, "cpu.max".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/cgroup")
_ALL: Final = Path("/sys/fs/cgroup")


def usable_cpus(own: Path = _OWN, groups: Path = _ALL) -> int:
    """Return how many, at least 1; where nothing tells, as many as there are. A part counts whole.

    Args:
        own: says which group the process is in.
        groups: where all groups are.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min((count, *_quotas(own, groups))))


def _quotas(own: Path, groups: Path) -> Iterator[int]:
    """Yield what the process's group, and each that it is in, may use."""
    try:
        lines = own.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    path = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if path is None:
        return
    group = groups / path.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(groups):
            return
        try:
            quota, period = folder.joinpath("cpu.max").read_text("ascii").split()
            yield -(-int(quota) // int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # "max": no limit here; or no such file, as at the root
