"""The key that seals second factors: a file of its own beside the database, made at the first start."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

from tport.engine.auth.seal import KEY_BYTES
from tport.engine.errors import ConfigError
from tport.engine.files import write_whole

SEAL_KEY_FILE: Final = "factors.key"  # in auth's folder


def open_seal_key(path: Path) -> bytes:
    """Return the key in the file at `path`; where there is none, make it, for its owner alone.

    It is on disk before it is used: what is sealed with it outlives a power cut.

    Raises:
        ConfigError: it can't be read or written, or is no key.
    """
    try:
        if not path.exists():
            write_whole(path, f"{b64encode(os.urandom(KEY_BYTES)).decode()}\n".encode())
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
