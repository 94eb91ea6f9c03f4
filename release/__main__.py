"""`python -m release OUTPUT`: see the package."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from release.deb import ARCHITECTURES, write_deb
from release.freeze import FreezingFailed, freeze
from release.rpm import write_rpm
from release.tarball import write_tarball
from release.tree import frozen_files, service, words
from tport import __version__

ROOT = Path(__file__).resolve().parents[1]


def build(out: Path, work: Path, when: int) -> None:
    """Build everything but sdist and wheel into `out`.

    Args:
        work: an empty folder, for what is made on the way.
        when: seconds since the epoch, the time that every file is given.

    Raises:
        FreezingFailed, CalledProcessError, RuntimeError: a tool gave up.
    """
    machine = platform.machine()
    name = f"tport-{__version__}-linux-{machine}"
    shutil.copy(freeze(work, "onefile"), out / name)
    installed = [*frozen_files(freeze(work, "onedir")), *words(ROOT)]
    write_tarball(out / f"{name}-bin.tar.gz", f"{name}-bin", installed, when)
    packaged = [*installed, *service()]
    if (architecture := ARCHITECTURES.get(machine)) and _has("dpkg-deb"):
        deb = out / f"tport_{__version__}_{architecture}.deb"
        write_deb(deb, packaged, work=work / "deb", version=__version__, machine=machine, when=when)
    if _has("rpmbuild"):
        rpm = out / f"tport-{__version__}-1.{machine}.rpm"
        write_rpm(rpm, packaged, work=work / "rpm", version=__version__, machine=machine, when=when)


def _has(program: str) -> bool:
    """Tell whether a package's tool is here; where it isn't, say what that means."""
    if shutil.which(program):
        return True
    package = {"rpmbuild": "rpm", "dpkg-deb": "dpkg"}[program]
    print(
        f"tport: dist: no {program}, so no such package (apt-get install {package})",
        file=sys.stderr,
    )
    return False


def write_sums(out: Path) -> Path:
    """Write SHA256SUMS of all that is in `out`, as sha256sum(1) reads it; return it."""
    sums = out / "SHA256SUMS"
    _signature_of(sums).unlink(missing_ok=True)  # it was of others
    files = sorted(file for file in out.iterdir() if file.name != sums.name)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    sums.write_text("".join(lines))
    return sums


def sign(sums: Path, key: str) -> None:
    """Sign the sums by a key of the operator's GnuPG keyring, which asks for what it needs.

    Raises:
        CalledProcessError: gpg would not; it has said why.
    """
    output = f"--output={_signature_of(sums)}"
    command = ("gpg", f"--local-user={key}", output, "--armor", "--detach-sign")
    subprocess.run((*command, str(sums)), check=True)


def check_key(key: str) -> None:
    """Say at once, and not when all is built, that there is nothing to sign by.

    Raises:
        RuntimeError: no gpg here, or no such key in its keyring.
    """
    if shutil.which("gpg") is None:
        raise RuntimeError("no gpg to sign with (apt-get install gnupg)")
    command = ("gpg", "--batch", "--list-secret-keys", "--", key)
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise RuntimeError(
            f"gpg has no secret key {key!r}: gpg --list-secret-keys names those it has"
        )


def _signature_of(sums: Path) -> Path:
    return sums.with_name(f"{sums.name}.asc")


def main(argv: Sequence[str] | None = None) -> None:
    """Build, write the sums, sign them."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sign", metavar="KEY", default="", help="of gpg: an id or an address")
    asked = parser.parse_args(argv)
    asked.output.mkdir(parents=True, exist_ok=True)
    when = int(os.environ.get("SOURCE_DATE_EPOCH", "") or time.time())
    try:
        if asked.sign:
            check_key(asked.sign)
        with tempfile.TemporaryDirectory() as work:
            build(asked.output, Path(work), when)
        sums = write_sums(asked.output)
        if asked.sign:
            sign(sums, asked.sign)
    except (FreezingFailed, subprocess.CalledProcessError, RuntimeError) as error:
        sys.exit(f"tport: dist: {error}")


if __name__ == "__main__":
    main()
