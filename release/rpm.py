"""The package for Fedora, Red Hat and SUSE: rpmbuild makes it, from a folder that looks as the system will."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from release.tree import FILES, Entry, write

# What is inside is built already: neither stripped nor compiled, and no debug package is made of it.
_AS_IT_IS: Final = ("_build_id_links none", "debug_package %{nil}", "__os_install_post %{nil}")
_SMALL: Final = "_binary_payload w7.xzdio"  # a fifth less than by gzip, and every rpm reads it
_THE_SAME_AGAIN: Final = (
    "_buildhost reproducible",
    "clamp_mtime_to_source_date_epoch 1",
    "use_source_date_epoch_as_buildtime 1",
)


def write_rpm(
    path: Path, entries: Iterable[Entry], *, work: Path, version: str, machine: str, when: int
) -> None:
    """Write the package.

    Args:
        work: an empty folder.
        machine: as uname(1) calls it.
        when: seconds since the epoch, the time of every file.
    """
    root, spec = work / "root", work / "tport.spec"
    write(iter(entries), root, "/usr", when)
    glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.36").split()[-1]
    text = FILES.joinpath("rpm", "tport.spec").read_text()
    spec.write_text(text.replace("@version@", version).replace("@glibc@", glibc))
    defines = [
        f"--define={each}" for each in (*_AS_IT_IS, *_THE_SAME_AGAIN, _SMALL, f"_topdir {work}")
    ]
    command = ("rpmbuild", "-bb", f"--target={machine}", f"--buildroot={root}", *defines, str(spec))
    surroundings = os.environ | {"SOURCE_DATE_EPOCH": str(when)}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"rpmbuild: {done.stderr.strip()[-2000:]}")
    (made,) = work.joinpath("RPMS").rglob("*.rpm")
    shutil.move(made, path)
