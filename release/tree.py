"""The files of an installed tport, wherever they go: program, manual, completions, service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from release.manual import SHELLS, completion, manual_pages
from tport.engine.config.systemd_unit import Unit, unit_text

FILES: Final = Path(__file__).with_name("files")
CONFIG: Final = PurePosixPath("/etc/tport.yaml")
DATA: Final = PurePosixPath("/var/lib/tport")

_COMPLETIONS: Final = {
    "bash": "share/bash-completion/completions/tport",
    "zsh": "share/zsh/site-functions/_tport",
    "fish": "share/fish/vendor_completions.d/tport.fish",
}


class Entry(msgspec.Struct, frozen=True):
    """One file, or a link.

    Attributes:
        path: relative to the prefix; absolute where it is always at the same place.
        content: of a file; None: it is a link.
        link: where it leads, relative to its own folder.
    """

    path: PurePosixPath
    content: bytes | None
    mode: int = 0o644
    link: str = ""


def frozen_files(folder: Path) -> Iterator[Entry]:
    """Yield what PyInstaller made, as `lib/tport`, and the link by which it is found."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            place = PurePosixPath("lib/tport") / file.relative_to(folder).as_posix()
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            yield Entry(place, file.read_bytes(), mode)
    yield Entry(PurePosixPath("bin/tport"), None, 0o777, "../lib/tport/tport")


def words(documents: Path) -> Iterator[Entry]:
    """Yield manual pages, completions and the licence. `documents`: the project's folder."""
    for name, page in manual_pages():
        yield Entry(PurePosixPath("share/man/man1") / name, page.encode())
    for shell in SHELLS:
        yield Entry(PurePosixPath(_COMPLETIONS[shell]), completion(shell).encode())
    for name in ("LICENSE", "README.md", "CHANGELOG.md"):
        place = PurePosixPath("share/doc/tport") / name
        yield Entry(place, documents.joinpath(name).read_bytes())


def service() -> Iterator[Entry]:
    """Yield what a package adds: the unit, and the file that it starts by."""
    unit = Unit(program="/usr/bin/tport", config_file=str(CONFIG), data_dir=str(DATA))
    yield Entry(PurePosixPath("lib/systemd/system/tport.service"), unit_text(unit).encode())
    yield Entry(CONFIG, FILES.joinpath("tport.yaml").read_bytes(), 0o640)


def write(entries: Iterator[Entry], root: Path, prefix: str, when: float) -> None:
    """Write entries under `root`, with the time of the release, as if `prefix` stood there."""
    for entry in entries:
        path = root / (PurePosixPath(prefix) / entry.path).relative_to("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.content is None:
            path.symlink_to(entry.link)
        else:
            path.write_bytes(entry.content)
            path.chmod(entry.mode)
            os.utime(path, (when, when))
