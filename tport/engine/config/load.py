"""Find the file, read it, and say everything that is wrong with it. The one place here that reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tport.engine.config.document import SyntaxFault, parse_document
from tport.engine.config.file_rights import note_of_readable, refuse_writable
from tport.engine.config.model import Config
from tport.engine.config.origins import file_origins
from tport.engine.config.read import Complaint, Reading, read_file
from tport.engine.config.resolve import Machine, Resolver
from tport.engine.errors import ConfigError

DEFAULT_FILE: Final = Path("/etc/tport.yaml")
MAX_FILE: Final = 1024 * 1024  # bytes; a thousand apps are a tenth of it
STDIN: Final = Path("-")
_MAKE_ONE: Final = "make one with: tport configure --cluster-name=NAME --output={name}"


def find_config_file(
    explicit: Path | None,
    *,
    env: Mapping[str, str] | None = None,
    default: Path = DEFAULT_FILE,
) -> Path | None:
    """Return the file to read: `--config`, `$TPORT_CONFIG_FILE`, /etc/tport.yaml if it exists, or None.

    A file that was named is returned whether or not it exists: `load_config` then says so.
    """
    if explicit is not None:
        return explicit
    if named := (os.environ if env is None else env).get("TPORT_CONFIG_FILE"):
        return Path(named)
    return default if default.exists() else None


def load_config(
    path: Path | None, *, machine: Machine | None = None, to_run: bool = True
) -> Config:
    """Read and judge the file; None: the defaults alone, `-`: stdin.

    Faults in the values of single apps are in `app_service.faulty` and don't raise.

    Args:
        to_run: False: nothing is done by it now; that others may change it is one of its notes then.

    Raises:
        ConfigError: the file can't be read, may be changed by others and is `to_run`, or has other faults: every
            one of them, those of apps too, is a line `file:line:column: setting: what is wrong`
            of the message.
    """
    machine = machine or Machine.here()
    if path is None:
        nothing = Reading()
        config = Resolver(nothing, "defaults", Path.cwd(), machine).config(
            read_file(None, nothing), None
        )
        return msgspec.structs.replace(config, origins=file_origins(nothing, "", machine))
    folder = path.absolute().parent
    name = "stdin" if path == STDIN else str(path)
    notes: list[str] = []

    def judge(descriptor: int) -> None:
        try:
            refuse_writable(path, descriptor, name)
        except ConfigError as refused:
            if to_run:
                raise
            notes.append(f"warning: {refused}: no start takes it as it is; {refused.hint}")

    raw, mode = _read(path, name, hint=_MAKE_ONE, judge=judge)
    config = parse_config(_text(raw, name), name=name, folder=folder, machine=machine, path=path)
    return msgspec.structs.replace(
        config, notes=(*config.notes, *notes, *note_of_readable(config, mode, path))
    )


def parse_config(
    text: str, *, name: str, folder: Path, machine: Machine, path: Path | None = None
) -> Config:
    """Judge the text of a file. Pure.

    Args:
        name: what complaints call the file.
        folder: absolute, to which its relative paths belong.
        path: what `Config.file` becomes.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        root = parse_document(text)
    except SyntaxFault as fault:
        raise ConfigError(str(fault), where=f"{name}:{fault.line}:{fault.column}") from None
    reading = Reading()
    file = read_file(root, reading)
    config = Resolver(reading, name, folder, machine).config(file, path)
    if any(_stops(complaint) for complaint in reading.complaints):
        raise ConfigError(_told(reading.complaints, name))
    return msgspec.structs.replace(
        config,
        origins=file_origins(reading, name, machine),
        notes=tuple(note.told(name) for note in sorted(reading.notes)),
    )


def _stops(complaint: Complaint) -> bool:
    """Tell whether nothing can start: all but the faulty values of a single app."""
    return complaint.shape or not complaint.path.startswith("app_service.apps[")


def _told(complaints: list[Complaint], name: str) -> str:
    return "\n".join(complaint.told(name) for complaint in sorted(complaints))


def read_text(path: Path, name: str, *, hint: str = "") -> str:
    """Return the text of a file, `-` for stdin, of at most MAX_FILE bytes. Blocks.

    Raises:
        ConfigError: it can't be read, or isn't UTF-8; `name` is what the message calls it.
    """
    return _text(_read(path, name, hint=hint)[0], name)


def _read(
    path: Path, name: str, *, hint: str, judge: Callable[[int], None] = lambda _: None
) -> tuple[bytes, int]:
    """Return what a file holds, and its mode; 0 for stdin.

    Args:
        judge: looks at a file by its descriptor, before it is read; what it raises comes out of here.
    """
    try:
        if path == STDIN:
            raw, mode = sys.stdin.buffer.read(MAX_FILE + 1), 0
        else:
            with path.open("rb") as file:
                judge(file.fileno())
                raw, mode = file.read(MAX_FILE + 1), os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        raise ConfigError(
            "there is no such file",
            where=name,
            hint=hint.format(name=name),
        ) from None
    except PermissionError:
        raise ConfigError(
            "you may not read this file",
            where=name,
            hint="run tport as a user who may, or let this one: chgrp and chmod g+r",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", where=name) from None
    if len(raw) > MAX_FILE:
        raise ConfigError(f"is larger than {MAX_FILE // 1024} KiB", where=name)
    return raw, mode


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        raise ConfigError("is not UTF-8 here", where=f"{name}:{line}:{column}") from None
