"""tport and its Python, frozen by PyInstaller: as a folder, which starts quickly, and as one file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

PROGRAM: Final = Path(__file__).with_name("program.py")

# Commands are imported by name, pages and word lists are read from the package, and plug-ins and
# versions are asked of its metadata: of all that PyInstaller, who reads imports, knows nothing.
_WHOLE: Final = ("--collect-submodules=tport", "--collect-data=tport", "--copy-metadata=tport")


class FreezingFailed(Exception):
    """PyInstaller gave up; the words are its own."""


def freeze(work: Path, form: Literal["onedir", "onefile"]) -> Path:
    """Freeze what is installed here; return the folder, or the file.

    Args:
        work: a folder for it and for what is made on the way.

    Raises:
        FreezingFailed: as it says.
    """
    out = work / form
    flags = (f"--{form}", *_WHOLE, "--name=tport", "--noconfirm", "--log-level=WARN", "--noupx")
    places = (f"--distpath={out}", f"--workpath={work / 'build'}", f"--specpath={work}")
    command = (sys.executable, "-m", "PyInstaller", *flags, *places, str(PROGRAM))
    # Sets and dictionaries are written as they are ordered: the same way each time.
    surroundings = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FreezingFailed(done.stderr.strip()[-4000:])
    shutil.rmtree(work / "build")
    return out / "tport"
