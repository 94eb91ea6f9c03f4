"""The machine itself: its clock, and the folder for what must not be lost. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from tport.engine.preflight.row import Row, ok, problem, unknown

SKEW: Final = timedelta(seconds=30)  # a step of TOTP (RFC 6238 §5.2); certificates allow minutes
LITTLE: Final = 1024**3  # bytes; SQLite, and some weeks of logs
TOO_LITTLE: Final = 100 * 1024**2  # bytes
# On these, locks and what was fsynced can't be relied on. Source: sqlite.org/howtocorrupt.html §2.1
NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "lustre", "gfs2", "ocfs2", "beegfs"}
)


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A data directory.

    Attributes:
        parent: the nearest folder above that exists; "" when the folder itself does.
        is_folder: what exists is one.
        owner: of the folder, or of `parent`; `me` is who asks.
        closed: the first folder that who asks has to write in and may not, of `parent`, the folder and
            those of roles in it; "": there is none.
        closed_by: its owner.
        refused: why a start would not use it, or a role's folder in it; "": it would.
        advice: what to do about that.
        note: what a start would warn of; "": nothing.
        free: bytes.
        filesystem: its type, as `ext4`; "": not known.
    """

    path: str
    parent: str = ""
    is_folder: bool = True
    owner: str
    me: str
    closed: str = ""
    closed_by: str = ""
    refused: str = ""
    advice: str = ""
    note: str = ""
    free: int
    filesystem: str = ""


def judge_clock(theirs: datetime | None, ours: datetime, whose: str) -> Row:
    """Compare the clock with another one.

    Args:
        theirs: when somebody else answered, to the second; None: nobody did.
        ours: in the middle between question and answer.
        whose: the clock that it is compared with.
    """
    if theirs is None:
        return unknown(
            "clock",
            f"{ours:%Y-%m-%dT%H:%M:%SZ}, and nothing to compare it with",
            "see that it is kept: timedatectl",
        )
    difference = ours - theirs
    seconds = abs(difference.total_seconds())
    if abs(difference) <= SKEW:
        return ok("clock", f"agrees with that of {whose}")
    return problem(
        "clock",
        f"{seconds:.0f} s {'ahead of' if difference > timedelta() else 'behind'} that of {whose}",
        "codes of authenticator apps and certificates fail so: sudo timedatectl set-ntp true",
    )


def judge_folder(folder: Folder) -> list[Row]:
    rows = [_of_place(folder)]
    if folder.filesystem in NETWORK:
        rows.append(
            problem(
                "data filesystem",
                f"{folder.filesystem}, over a network: a database there gets damaged",
                "name a folder on a disk of this machine: data_dir",
            )
        )
    free = f"{folder.free / 1024**3:.1f} GiB free"
    if folder.free < TOO_LITTLE:
        rows.append(problem("data space", free, "make room, or name another folder: data_dir"))
    elif folder.free < LITTLE:
        rows.append(unknown("data space", free, "logs grow: auth_service.audit bounds them"))
    else:
        rows.append(ok("data space", free))
    return rows


def _of_place(folder: Folder) -> Row:
    check = "data directory"
    if not folder.is_folder:
        return problem(
            check,
            f"{folder.parent or folder.path} is a file",
            "name a folder: data_dir in the file, or --data-dir",
        )
    if folder.parent:
        if not folder.closed:
            return ok(check, f"{folder.path} will be made")
        return problem(
            check,
            f"{folder.path} isn't there, or not to be seen, and {folder.me} may not make it in"
            f" {folder.parent}",
            f"sudo install -d -m 700 -o {folder.me} {folder.path}; a service's is made by its unit",
        )
    if folder.closed:
        return problem(check, *_of_closed(folder))
    if folder.refused:
        return problem(check, folder.refused, folder.advice)
    if folder.note:
        return unknown(check, folder.note)
    return ok(check, f"{folder.path}, of {folder.owner}")


def _of_closed(folder: Folder) -> tuple[str, str]:
    """Return what keeps us out of a folder, and what to do."""
    me, closed, its = folder.me, folder.closed, folder.closed_by
    if its == me:
        return (
            f"{closed} belongs to {me}, who may not write there all the same",
            f"chmod u+rwx {closed}; if its disk is mounted read-only, name another folder: data_dir",
        )
    found = f"{closed} belongs to {its}, and {me} may not write there"
    if folder.owner != its:  # somebody else, as root, ran tport there once
        return found, f"sudo chown -R {folder.owner} {closed}"
    return found, f"run this as {its}: sudo -u {its} tport …; or sudo chown -R {me} {folder.path}"
