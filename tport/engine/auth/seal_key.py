"""The key that seals second factors: a file of its own beside the database, made at the first start."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

from tport.engine.auth.seal import KEY_BYTES
from tport.engine.errors import ConfigError

SEAL_KEY_FILE: Final = "factors.key"  # in auth's folder


def open_seal_key(path: Path) -> bytes:
    """Return the key in the file at `path`; where there is none, make it, for its owner alone.

    It is on disk before it is used: what is sealed with it outlives a power cut.

    Raises:
        ConfigError: it can't be read or written, or is no key.
    """
    try:
        if not path.exists():
            _make(path)
        key = b64decode(path.read_text("ascii").strip(), validate=True)
    except OSError as problem:
        raise ConfigError(f"can't be used: {str(problem.strerror).lower()}", where=path) from None
    except ValueError:  # no base64, no ASCII
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            "is no key for second factors",
            where=path,
            hint="restore it from the backup that the database came from; without it everybody"
            " must set up a second factor anew: remove it, and tport users reset NAME",
        )
    return key


def _make(path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)
        file.write(f"{b64encode(os.urandom(KEY_BYTES)).decode()}\n")
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
