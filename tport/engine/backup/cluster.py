"""A cluster's state: taken from auth's folder, running or not, and put back where there is none."""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

import tport
from tport.engine.auth.seal_key import SEAL_KEY_FILE
from tport.engine.auth.stores import ClusterRecord
from tport.engine.backup.archive import Manifest, pack_backup, unpack_backup
from tport.engine.errors import AlreadyExists, InvalidRequest, TportError, Unavailable
from tport.engine.storage.folder import locked_folder
from tport.engine.storage.snapshot import judge, put_in_place, take_snapshot

AUTH_DIR: Final = "auth"  # in a data directory; and in a backup
DATABASE_FILE: Final = "tport.db"
_DATABASE: Final = f"{AUTH_DIR}/{DATABASE_FILE}"
_SEAL_KEY: Final = f"{AUTH_DIR}/{SEAL_KEY_FILE}"
# What may have been ended, used up or taken back since: none of it is to live again.
PASSING: Final = (
    *("/sessions/", "/seen/", "/proofs/", "/attempts/", "/launch/", "/known/"),
    *("/invites/", "/invite_of/", "/join_requests/"),
)
TOKENS: Final = ("/tokens/", "/joins/", "/device_tokens/", "/device_tokens_of/")


class Restored(NamedTuple):
    """`left_out`: how many records of the backup were not to live again."""

    manifest: Manifest
    left_out: int


def make_backup(data_dir: Path, now: datetime) -> tuple[bytes, Manifest]:
    """Return the file that `restore_backup` reads, a secret. Blocks.

    Raises:
        NotFound: there is no cluster.
        Unavailable: it can't be read now.
        TportError: the database is damaged; a backup of it would be worth nothing.
    """
    folder = data_dir / AUTH_DIR
    snapshot = take_snapshot(folder / DATABASE_FILE)
    if snapshot.complaints:
        raise TportError(
            f"the database is damaged, and no backup is made of it: {snapshot.complaints[0]}",
            hint="see all of it: tport db check",
        )
    record = snapshot.value("/cluster")
    if record is None:
        raise Unavailable(
            "auth has not finished its first start yet", hint="try again when it serves"
        )
    try:
        key = (folder / SEAL_KEY_FILE).read_bytes()
    except OSError as problem:
        raise Unavailable(f"{folder / SEAL_KEY_FILE} can't be read: {problem.strerror}") from None
    data = pack_backup(
        {_DATABASE: snapshot.data, _SEAL_KEY: key},
        version=tport.__version__,
        cluster=msgspec.json.decode(record, type=ClusterRecord).name,
        created=now,
        revision=snapshot.revision,
    )
    return data, unpack_backup(data)[0]  # as it will be read


def restore_backup(data_dir: Path, data: bytes, *, keep_tokens: bool) -> Restored:
    """Put a backup's cluster into a data directory that has none. Blocks.

    Sessions and what else is of the moment is left out, and tokens too unless `keep_tokens`.

    Raises:
        InvalidRequest: it is no backup, or damaged.
        AlreadyExists: there is a cluster already; it stays.
        ConfigError: the folder can't be used, or a process has it.
        Unavailable: it can't be written.
    """
    manifest, files = unpack_backup(data)
    if set(files) != {_DATABASE, _SEAL_KEY}:
        raise InvalidRequest("this backup has other files in it than a cluster's")
    try:
        complaints = judge(files[_DATABASE]).complaints
    except sqlite3.DatabaseError as problem:
        complaints = (str(problem),)
    if complaints:
        raise InvalidRequest(f"the database in this backup is damaged: {complaints[0]}")
    folder = data_dir / AUTH_DIR
    with locked_folder(folder):
        if (folder / DATABASE_FILE).exists():
            raise AlreadyExists(
                f"there is a cluster in {folder} already, and it stays as it is",
                hint=f"move it away first: mv {folder} {folder}.old; or name another --data-dir",
            )
        try:
            _write(folder / SEAL_KEY_FILE, files[_SEAL_KEY])
            without = PASSING if keep_tokens else (*PASSING, *TOKENS)
            left_out = put_in_place(folder / DATABASE_FILE, files[_DATABASE], without)
        except OSError as problem:
            raise Unavailable(f"{folder} can't be written: {problem.strerror}") from None
    return Restored(manifest, left_out)


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
