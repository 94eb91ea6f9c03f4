"""The program that is frozen: `tport`, and what `python -P -m MODULE` is to tport's own processes.

There is no interpreter beside it to start those by, so it is one to them.
"""

from __future__ import annotations

import runpy
import sys


def main() -> None:
    """Run a module of tport where it is started as Python would be, else the command line."""
    match sys.argv[1:4]:
        case ["-P", "-m", module] if module.partition(".")[0] == "tport":
            del sys.argv[1:4]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case _:
            from tport.cli import main

            main()


if __name__ == "__main__":
    main()
