"""How much memory a process takes at its worst, as Linux counts it in /proc."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Makes the peak what the process has now: proc(5), /proc/pid/clear_refs.
_FORGET_PEAK: Final = "5"
UNKNOWN: Final = "this system does not tell the peak memory of a process"


class MemoryWatch:
    """Watches one process of ours from now on."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc", str(pid))
        self._before: int | None = None
        try:
            self._folder.joinpath("clear_refs").write_text(_FORGET_PEAK, "ascii")
            self._before = self._read("VmRSS")
        except (OSError, LookupError):
            pass  # no such system; or one that keeps the peak to itself, as some containers do

    def grown(self) -> int | None:
        """Return by how many bytes it was larger at its worst; None: the system doesn't tell."""
        if self._before is None:
            return None
        try:
            return max(0, self._read("VmHWM") - self._before)
        except (OSError, LookupError):
            return None

    def _read(self, name: str) -> int:
        for line in self._folder.joinpath("status").read_text("ascii", "replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024  # "12345 kB", which are KiB
        raise LookupError(name)
