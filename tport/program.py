"""What the script `tport` runs."""

from __future__ import annotations

import os
import sys

from tport import VERSION_LINE


def main() -> None:
    """Answer `tport version`, which scripts ask in loops, at once; run the command line for all else."""
    _open_closed_streams()
    sys.exit(_status(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Let what is printed go nowhere where who started us closed what it is printed to (`>&-`).

    The next file that is opened would take its number otherwise, and get what is printed; here, or in
    a program that is started from here.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: the stream's
            os.set_inheritable(nowhere, True)
            stream = os.fdopen(nowhere, mode, errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def _status(args: list[str]) -> int:
    if args == ["version"] and _is_written(f"{VERSION_LINE}\n"):
        return 0
    from tport.cli import run

    return run(args)


def _is_written(line: str) -> bool:
    """Write to stdout; False where that fails: a command knows what to say then."""
    try:
        return os.write(1, line.encode()) == len(line)
    except OSError:
        return False
