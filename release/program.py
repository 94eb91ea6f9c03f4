"""The program that is frozen: `tport`, and what `python -P -m MODULE` is to tport's own processes.

There is no interpreter beside it to start those by, so it is one to them.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def main() -> None:
    """Run a module of tport where it is started as Python would be, else the command line."""
    match sys.argv[1:4]:
        case ["-P", "-m", module] if module.partition(".")[0] == "tport":
            del sys.argv[1:4]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case _:
            if _is_one_file():
                _end_with(os.getppid())
            from tport.program import main as tport

            tport()


def _is_one_file() -> bool:
    """Tell whether another process, the one that people know, unpacked us and waits for our end."""
    unpacked = getattr(sys, "_MEIPASS", "")
    return bool(unpacked) and not Path(unpacked).is_relative_to(Path(sys.executable).parent)


def _end_with(parent: int) -> None:
    """End when the process that was started ends: whoever kills it means us.

    tport's own processes are nobody's to unpack, and see by themselves that the main one has gone.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had gone before
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
