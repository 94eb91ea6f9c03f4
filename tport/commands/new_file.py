"""Files that commands write for a person: new ones only, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from tport.engine.errors import AlreadyExists, ConfigError


def write_new(
    path: Path,
    content: str | bytes,
    *,
    mode: int = 0o600,
    or_else: str = "remove it first, or name another file",
) -> None:
    """Write a file that isn't there yet; folders that are missing are made.

    Args:
        mode: 0o600, for its owner alone: there may be a token in it.
        or_else: what to do when it is there.

    Raises:
        AlreadyExists: it is there, and stays as it is.
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        if not path.parent.is_dir():
            raise ConfigError("cannot be written: its folder is a file", where=path) from None
        raise AlreadyExists(f"{path} exists and is left as it is", hint=or_else) from None
    except PermissionError:
        raise ConfigError(
            "you may not write there",
            where=path,
            hint="do it as root (sudo), or let it go to stdout: … | sudo tee FILE",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=path) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk: half a file would be in the way of the next try
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot be written: {error.strerror}", where=path) from None
