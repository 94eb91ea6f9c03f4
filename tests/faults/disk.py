"""A disk that is really full: a small tmpfs, which root may mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.e2e.harness import need, program

FILLER: Final = "filler"


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.folder / FILLER).open("ab", buffering=0) as file:
            for size in (65536, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def free(self) -> None:
        (self.folder / FILLER).unlink()


@contextmanager
def small_disk(folder: Path, size: str = "24m") -> Iterator[SmallDisk]:
    """Mount one at `folder` until the block ends; without the right to, the test is skipped."""
    folder.mkdir()
    mount = program("mount")
    need("a disk of its own", mount and os.geteuid() == 0, "only root may mount a tmpfs")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    need("a disk of its own", done.returncode == 0, f"mount: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run([program("umount"), "-l", str(folder)], check=True)
