"""The programs that the bench drives: found, or told how to get."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / ".bench"  # made by bench/deps.sh
# Started by root, nginx would serve as somebody who may not read the bench's files.
NGINX_USER: Final = "user root;\n" if os.getuid() == 0 else ""


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
        SystemExit: it isn't here; says how it comes.
    """
    own = FOLDER / "peers" / "bin" / name
    if own.exists():
        return str(own)
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"bench: {name} is not here; get it with: make bench-deps")
    return found
