"""Making a machine's browsers trust the cluster's web authority: what that takes, here.

Chromium and its kin on Linux read the user's NSS database; curl, Python and others the system's
store; on macOS and Windows all read the system's. Nothing asks for a password: a step that needs
root and isn't run by root is told, with sudo in front, and fails with that line.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tport.engine.errors import AccessDenied, TportError

_DEBIAN = Path("/usr/local/share/ca-certificates")
_FEDORA = Path("/etc/pki/ca-trust/source/anchors")
_ARCH = Path("/etc/ca-certificates/trust-source/anchors")
_DEADLINE = 60.0  # s that a command may take


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    what: str
    pem: str = field(repr=False)
    file: Path
    argvs: tuple[tuple[str, ...], ...]
    needs_root: bool

    def commands(self, export: str) -> tuple[str, ...]:
        """Return the lines for a shell; `export` is the one that prints the authority."""
        sudo = "sudo " if self.needs_root and not _is_root() else ""
        folder, file = shlex.quote(str(self.file.parent)), shlex.quote(str(self.file))
        made = () if self.file.parent.is_dir() else (f"{sudo}mkdir -p {folder}",)
        copy = f"{export} | {sudo}tee {file} > /dev/null"
        return (*made, copy, *(sudo + shlex.join(argv) for argv in self.argvs))

    def do(self) -> None:
        """Do it. Blocks.

        Raises:
            AccessDenied: it needs root.
            TportError: a command failed; its own words.
        """
        if self.needs_root and not _is_root():
            raise AccessDenied("needs root", hint="run the lines above, or: sudo tport ca trust")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(self.pem, "ascii")
            for argv in self.argvs:
                subprocess.run(  # noqa: S603 - our own words, no shell
                    argv, check=True, capture_output=True, text=True, timeout=_DEADLINE
                )
        except subprocess.CalledProcessError as failed:
            raise TportError((failed.stderr or failed.stdout).strip() or str(failed)) from None
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise TportError(str(problem)) from None


def plan_trust(cluster: str, pem: str) -> list[Step]:
    """Return the steps for this machine; empty: not known.

    Args:
        cluster: names the entry, so that two clusters' authorities stand side by side.
        pem: the web authority's certificates.
    """
    name = f"tport-{''.join(c if c.isalnum() else '-' for c in cluster)}"
    if sys.platform == "darwin":
        file = Path.home() / ".config" / "tport" / f"{name}.crt"
        keychain = str(Path.home() / "Library/Keychains/login.keychain-db")
        argv = ("security", "add-trusted-cert", "-r", "trustRoot", "-k", keychain, str(file))
        return [Step("your login keychain", pem, file, (argv,), needs_root=False)]
    if sys.platform == "win32":
        file = Path.home() / "AppData" / "Local" / "tport" / f"{name}.crt"
        argv = ("certutil", "-user", "-addstore", "Root", str(file))
        return [Step("your user's Root store", pem, file, (argv,), needs_root=False)]
    return [*_nss(name, pem), *_system(name, pem)]


def _nss(name: str, pem: str) -> list[Step]:
    """The user's NSS database: Chromium, Chrome, Edge on Linux."""
    certutil = shutil.which("certutil")
    if certutil is None:
        return []
    folder = Path.home() / ".pki" / "nssdb"
    database = f"sql:{folder}"
    file = folder / f"{name}.crt"
    argvs: list[tuple[str, ...]] = []
    if not (folder / "cert9.db").exists():
        argvs.append((certutil, "-N", "-d", database, "--empty-password"))
    argvs.append((certutil, "-A", "-d", database, "-t", "C,,", "-n", name, "-i", str(file)))
    return [Step("Chromium's authorities (NSS)", pem, file, tuple(argvs), needs_root=False)]


def _system(name: str, pem: str) -> list[Step]:
    """The system's store: curl, wget, Python, and what follows it."""
    stores = (
        (_DEBIAN, ("update-ca-certificates",)),
        (_FEDORA, ("update-ca-trust", "extract")),
        (_ARCH, ("trust", "extract-compat")),
    )
    for folder, argv in stores:
        if folder.is_dir() and shutil.which(argv[0], path=os.defpath + ":/usr/sbin:/sbin"):
            what = "the system's authorities"
            return [Step(what, pem, folder / f"{name}.crt", (argv,), needs_root=True)]
    return []


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
