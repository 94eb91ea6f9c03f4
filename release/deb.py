"""The package for Debian and its kin: dpkg-deb makes it, from a folder that looks as the system will."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from release.tree import CONFIG, FILES, Entry, write

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_SCRIPTS: Final = ("postinst", "prerm", "postrm")

# libc6: that of the machine it was built on; all else is inside. adduser(8) makes the user.
_CONTROL: Final = """\
Package: tport
Version: {version}
Architecture: {architecture}
Maintainer: The tport developers
Installed-Size: {size}
Depends: libc6 (>= {glibc}), adduser
Recommends: ca-certificates
Section: net
Priority: optional
Description: safe way to reach internal web applications
 An auth service, a TLS proxy and agents that dial out over reverse tunnels, driven by
 one command line: people sign in once and reach the applications that their roles allow,
 without a VPN and without an open port at the application.
"""


def write_deb(
    path: Path, entries: Iterable[Entry], *, work: Path, version: str, machine: str, when: int
) -> None:
    """Write the package.

    Args:
        work: an empty folder.
        machine: as uname(1) calls it; one of ARCHITECTURES.
        when: seconds since the epoch, the time of every file.
    """
    write(iter(entries), work, "/usr", when)
    size = sum(file.stat().st_size for file in work.rglob("*") if file.is_file()) // 1024
    control = work / "DEBIAN"
    control.mkdir(mode=0o755)
    glibc = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.36"
    control.joinpath("control").write_text(
        _CONTROL.format(
            version=version,
            architecture=ARCHITECTURES[machine],
            size=size,
            glibc=glibc.split()[-1],
        )
    )
    control.joinpath("conffiles").write_text(f"{CONFIG}\n")
    for name in _SCRIPTS:
        script = control / name
        script.write_bytes(FILES.joinpath("deb", name).read_bytes())
        script.chmod(0o755)
    command = ("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(work), str(path))
    surroundings = os.environ | {"SOURCE_DATE_EPOCH": str(when)}
    subprocess.run(command, env=surroundings, stdout=subprocess.DEVNULL, check=True)
