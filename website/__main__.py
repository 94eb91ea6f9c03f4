"""`python -m website OUTPUT`: build the site into a folder, or say what is wrong with the documents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from website.assemble import ROOT, assemble

MKDOCS: Final = ROOT / ".test" / "site" / "bin" / "mkdocs"  # `make test-deps` installs it
SOURCE: Final = ROOT / "build" / "site-source"  # as mkdocs.yml says


def build(out: Path) -> str:
    """Build the site; return what is wrong with the documents: "" for nothing, and then it is built."""
    assemble(SOURCE)
    command = (str(MKDOCS), "build", "--strict", "--quiet", "--site-dir", str(out.absolute()))
    surroundings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    where = ("-f", str(Path(__file__).with_name("mkdocs.yml")))
    done = subprocess.run(
        (*command, *where), env=surroundings, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 and not done.stderr else done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])) or None)
