"""A cluster's state: taken from auth's folder, running or not, and put back where there is none."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec
import trio
from msgspec.structs import replace

import tport
from tport.engine.access.totp import WINDOW, time_step
from tport.engine.audit.trail import open_audit_log
from tport.engine.auth.seal_key import SEAL_KEY_FILE
from tport.engine.auth.stores import ClusterRecord
from tport.engine.backup.archive import (
    MAX_CONTENT,
    Manifest,
    pack_backup,
    read_backup,
    unpack_backup,
)
from tport.engine.errors import AlreadyExists, InvalidRequest, NotFound, TportError, Unavailable
from tport.engine.files import write_whole
from tport.engine.storage.database import explain
from tport.engine.storage.folder import locked_folder
from tport.engine.storage.formats import FORMATS, Formats
from tport.engine.storage.snapshot import (
    Forgetting,
    Snapshot,
    go_on_with,
    is_in_use,
    judge,
    put_in_place,
    take_snapshot,
)
from tport.engine.types.event import event
from tport.engine.types.factor import Factors, TotpDevice

AUTH_DIR: Final = "auth"  # in a data directory; and in a backup
DATABASE_FILE: Final = "tport.db"
_DATABASE: Final = f"{AUTH_DIR}/{DATABASE_FILE}"
_SEAL_KEY: Final = f"{AUTH_DIR}/{SEAL_KEY_FILE}"
# What may have been ended, used up or taken back since: none of it is to live again.
PASSING: Final = (
    *("/sessions/", "/seen/", "/proofs/", "/attempts/", "/launch/", "/known/"),
    *("/sso/", "/sso_tests/", "/provider_sessions/"),
    *("/invites/", "/invite_of/", "/join_requests/"),
)
_FACTORS: Final = "/factors/"
# What reading a record raises that a fallen bit spoiled: its JSON, a letter in it, its type in the row.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, TypeError)
KEPT_IN: Final = "backups"  # within auth's folder: who may read one may read the other
KEPT: Final = 3
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
    if snapshot.value("/cluster") is None:
        raise Unavailable(
            "auth has not finished its first start yet", hint="try again when it serves"
        )
    return _packed(folder, snapshot, now)


class _Named(msgspec.Struct, frozen=True):
    """As much of a cluster's record as every format has."""

    name: str = ""


def _packed(folder: Path, snapshot: Snapshot, now: datetime) -> tuple[bytes, Manifest]:
    record = snapshot.value("/cluster") or b"{}"
    try:
        key = (folder / SEAL_KEY_FILE).read_bytes()
    except OSError as problem:
        raise Unavailable(f"{folder / SEAL_KEY_FILE} can't be read: {problem.strerror}") from None
    data = pack_backup(
        {_DATABASE: snapshot.data, _SEAL_KEY: key},
        version=tport.__version__,
        cluster=msgspec.json.decode(record, type=_Named).name,
        created=now,
        revision=snapshot.revision,
    )
    return data, unpack_backup(data)[0]  # as it will be read


def keep_backup(folder: Path, now: datetime, formats: Formats = FORMATS) -> str:
    """Put the database aside as it is before this version changes its format; return the file's name.

    It lies in `folder`, auth's, under KEPT_IN; the name is as seen from there. One stays for each
    version that was upgraded to, of the last KEPT of them. Blocks.

    Raises:
        Unavailable: it can't be written, as on a full disk; nothing has changed then.
        TportError: the database is damaged.
    """
    snapshot = take_snapshot(folder / DATABASE_FILE, formats)
    if snapshot.complaints:
        raise TportError(
            f"the database is damaged, and not brought forward: {snapshot.complaints[0]}",
            hint="see all of it: tport db check",
        )
    data, _ = _packed(folder, snapshot, now)
    kept = folder / KEPT_IN
    before = f"before-{tport.__version__}-"
    file = kept / f"{before}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    try:
        kept.mkdir(mode=0o700, exist_ok=True)
        write_whole(file, data)
    except OSError as problem:
        with suppress(OSError):
            file.with_name(f"{file.name}.new").unlink()
        raise Unavailable(
            f"the backup before the upgrade can't be written to {kept}: {problem.strerror}",
            hint=f"it takes {len(data) / 1e6:.1f} MB; nothing was changed, and tport as it was before"
            " still starts",
        ) from None
    others = sorted(each for each in kept.glob("before-*.tar.gz") if each != file)
    same = [
        each for each in others if each.name.startswith(before)
    ]  # of starts that came no further
    for old in (*same, *_oldest([each for each in others if each not in same], KEPT - 1)):
        with suppress(OSError):
            old.unlink()
    return f"{KEPT_IN}/{file.name}"


def _oldest(files: list[Path], but: int) -> list[Path]:
    """Return all but so many of the newest, by the time in their names."""
    return sorted(files, key=lambda file: file.name.rpartition("-")[2], reverse=True)[but:]


def restore_backup(
    data_dir: Path, file: IO[bytes], now: datetime, *, keep_tokens: bool
) -> Restored:
    """Put a backup's cluster into a data directory that has none. Blocks.

    Sessions and what else is of the moment is left out, and tokens too unless `keep_tokens`. A code of
    an authenticator app that counts at `now` counts no more: it may have been used.

    Raises:
        InvalidRequest: it is no backup, damaged, or larger than there is room for.
        AlreadyExists: there is a cluster already; it stays.
        ConfigError: the folder can't be used, or a process has it.
        Unavailable: it can't be written.
    """
    manifest, files = read_backup(file, _room(data_dir))
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
            write_whole(folder / SEAL_KEY_FILE, files[_SEAL_KEY])
            without = PASSING if keep_tokens else (*PASSING, *TOKENS)
            forgetting = Forgetting(without=without, changed={_FACTORS: _codes_used(now)})
            left_out = put_in_place(folder / DATABASE_FILE, files[_DATABASE], forgetting)
        except OSError as problem:
            raise Unavailable(f"{folder} can't be written: {problem.strerror}") from None
    return Restored(manifest, left_out)


def _room(data_dir: Path) -> int:
    """Return how many bytes a backup may hold: it is in memory whole, and then on the disk."""
    places = (data_dir, *data_dir.absolute().parents)
    there = next(each for each in places if os.path.exists(each))  # and may be looked at
    disk = os.statvfs(there)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MAX_CONTENT, disk.f_bavail * disk.f_frsize, memory)


class Accepted(NamedTuple):
    """`complaints`: what was wrong; `left_out`: how many records are not to live again."""

    complaints: tuple[str, ...]
    left_out: int


async def accept_rollback(data_dir: Path, clock: Callable[[], datetime]) -> Accepted:
    """Go on with a database that lost writes, or whose records were changed.

    What may have been ended, used up or taken back in the writes that are lost doesn't live again:
    sessions, invites, tokens, codes of authenticator apps. The audit log says so before it is done, and
    no auth service starts in between.

    Raises:
        NotFound: there is no cluster.
        InvalidRequest: nothing is wrong with it.
        ConfigError, Unavailable: a process has it, or it or the audit log can't be written.
        TportError: it is damaged beyond that.
    """
    folder = data_dir / AUTH_DIR
    path = folder / DATABASE_FILE
    if not await trio.Path(path).exists():
        raise NotFound(f"there is no database at {path}")
    with locked_folder(folder):
        snapshot = await trio.to_thread.run_sync(_acceptable, path)
        cluster = _cluster_of(snapshot)
        async with open_audit_log(folder, cluster, clock) as audit:

            def tell(left_out: int) -> None:
                told = event(
                    "storage.rollback",
                    revision=snapshot.revision,
                    left_out=left_out,
                    error="; ".join(snapshot.complaints),
                )
                trio.from_thread.run(audit.record, told)

            left_out = await trio.to_thread.run_sync(_go_on, path, clock(), tell)
    return Accepted(snapshot.complaints, left_out)


def _acceptable(path: Path) -> Snapshot:
    """Return the database as it is, where something is wrong with it that one can go on with. Blocks."""
    if is_in_use(path):
        raise Unavailable("a process has the database open", hint="stop auth first")
    snapshot = take_snapshot(path)
    if not snapshot.complaints:
        raise InvalidRequest("the database is as it was last written: there is nothing to accept")
    if snapshot.format < FORMATS.newest:
        raise TportError(
            f"the database has format {snapshot.format}, older than this version's {FORMATS.newest}",
            hint="go on with it by the version of tport that wrote it, and upgrade then",
        )
    if not snapshot.is_whole:
        raise TportError(
            f"there is no going on with this database: {snapshot.complaints[0]}",
            hint="begin again from a backup: move the folder away, then tport restore FILE",
        )
    return snapshot


def _go_on(path: Path, now: datetime, tell: Callable[[int], None]) -> int:
    forgetting = Forgetting(without=(*PASSING, *TOKENS), changed={_FACTORS: _codes_used(now)})
    try:
        return go_on_with(path, forgetting, tell)
    except (sqlite3.DatabaseError, OSError) as problem:
        known = explain(problem)
        raise Unavailable(f"{path}: {known}", hint=known.hint) from problem


def _cluster_of(snapshot: Snapshot) -> str:
    """Return the name of the cluster that a database holds; "": none.

    Raises:
        TportError: it can't be read, and no auth service starts with it.
    """
    try:
        record = snapshot.value("/cluster")
        return msgspec.json.decode(record, type=ClusterRecord).name if record else ""
    except _UNREADABLE:
        raise TportError(
            "there is no going on with this database: which cluster it holds can't be read",
            hint="begin again from a backup: move the folder away, then tport restore FILE",
        ) from None


def _codes_used(now: datetime) -> Callable[[bytes], bytes | None]:
    """Return what makes every code that an authenticator app shows at `now`, or before, a used one.

    Factors that can't be read prove nobody, and are left out.
    """
    step = time_step(now) + WINDOW

    def use(value: bytes) -> bytes | None:
        try:
            factors = msgspec.json.decode(value, type=Factors)
        except _UNREADABLE:
            return None
        devices = tuple(
            replace(each, step=max(each.step, step)) if isinstance(each, TotpDevice) else each
            for each in factors.devices
        )
        return msgspec.json.encode(replace(factors, devices=devices))

    return use
