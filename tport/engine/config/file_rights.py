"""Who else may change or read the file: it names programs that run, and may hold secrets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Final

from tport.engine.config.model import Config, Secret
from tport.engine.errors import ConfigError
from tport.engine.types.app import Header

# In names of headers that prove something; any other plain value may be, and mostly is, no secret.
_PROVING: Final = ("auth", "cookie", "credential", "key", "passw", "secret", "token")


def refuse_writable(path: Path, descriptor: int, name: str) -> None:
    """Refuse a file that everybody may change, or put another in place of. Blocks.

    What can't be written at all, as a volume that is read only, nobody changes, whatever its mode says.

    Args:
        descriptor: of the file, open.
        name: what the complaint calls it.

    Raises:
        ConfigError: others may.
        OSError: its folder can't be looked at.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return
    check = "see that it says what you wrote, then:"
    if found.st_mode & stat.S_IWOTH and not _is_read_only(descriptor):
        raise ConfigError(
            "may be written by others, who could name programs in it that tport runs",
            where=name,
            hint=f"{check} chmod o-w {quote(str(path))}",
        )
    named = path.absolute()
    for each in (named, named.resolve()):
        folder, owner = each.parent, each.lstat().st_uid
        above = folder.stat()
        kept = above.st_mode & stat.S_ISVTX and {owner, found.st_uid} <= {os.geteuid(), 0}
        if above.st_mode & stat.S_IWOTH and not kept and not _is_read_only(folder):
            raise ConfigError(
                "may be replaced by others, who could name programs in it that tport runs",
                where=name,
                hint=f"{check} {_closed(folder, above)}",
            )


def _closed(folder: Path, found: os.stat_result) -> str:
    """Say how a file is kept from those who may write to its folder.

    A folder that is meant for everybody, as /tmp, or is another's, stays as it is: others need it so.
    """
    if found.st_mode & stat.S_ISVTX:
        return "move it where only you may write, or chown it"
    if found.st_uid != os.geteuid():
        return "move it where only you may write"
    return f"chmod o-w {quote(str(folder))}"


def _is_read_only(place: int | Path) -> bool:
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def note_of_readable(config: Config, mode: int, path: Path) -> tuple[str, ...]:
    """Return what is to be told of secrets in a file of such a mode, in one line. Pure."""
    found = list(_secrets(config))
    if not found or not mode & stat.S_IROTH:
        return ()
    return (
        f"{path}: can be read by everybody on this machine, and has secrets in it"
        f" ({', '.join(found)}): chmod o-r {quote(str(path))}",
    )


def _secrets(config: Config) -> Iterator[str]:
    """Yield the settings that have a secret in the file itself."""
    eab = config.proxy_service.acme.eab
    if config.auth_token is not None and _is_here(config.auth_token):
        yield "tport.auth_token"
    if any(_is_here(each) for each in config.auth_service.tokens):
        yield "auth_service.tokens"
    if eab is not None and _is_here(eab.hmac):
        yield "proxy_service.acme.eab.hmac"
    for app in config.app_service.apps:
        if any(_is_secret(header) for header in app.rewrite.headers):
            yield f"app_service.apps: rewrite.headers of {app.name}"


def _is_here(secret: Secret) -> bool:
    return secret.file is None and not secret.is_stdin


def _is_secret(header: Header) -> bool:
    """Tell whether a header proves something to the application, by its name and by text of its own."""
    name = header.name.lower()
    return header.as_offered() != header and any(word in name for word in _PROVING)
