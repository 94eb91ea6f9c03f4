"""The unit with which systemd runs tport: no root, one capability, a file system that is read only. Pure.

Each directive of the sandbox is there because tport works with it; what of it the programs of an
operator need more of (an application's `commands`), a drop-in gives back: `systemctl edit tport`.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from posixpath import normpath
from typing import Final

import msgspec

from tport.engine.defaults import DRAIN
from tport.engine.errors import InvalidRequest

STATE: Final = PurePosixPath("/var/lib")  # what StateDirectory= is relative to
LAST_WORK: Final = 15  # s after the drain for the last audit events, and for SQLite
FD_LIMIT: Final = 65536  # a connection to an application takes two in the proxy
WATCHDOG: Final = 60  # s without a sign of life; the loop turns many times a second

_UNSAFE: Final = frozenset("\n\r\0")
_EMPTIED: Final = ("/tmp", "/var/tmp")  # noqa: S108 - compared; PrivateTmp= is about both
# file-system-hierarchy(7): where others write, or nobody has to
_SYSTEMS: Final = ("/", "/boot", "/dev", "/etc", "/home", "/opt", "/proc", "/root", "/run", "/srv")
_SYSTEMS_TOO: Final = ("/sys", "/usr", "/var", "/var/cache", "/var/lib", "/var/log")


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two machines. Paths are absolute.

    Attributes:
        program: of `tport` itself.
        config_file, data_dir: as `tport start` takes them.
        user: under whom it runs; a group of the same name is taken for granted.
        env_file: `NAME=value` lines, as for HTTPS_PROXY; need not exist.
        fd_limit: open files and connections.
    """

    program: str
    config_file: str
    data_dir: str
    user: str = "tport"
    env_file: str = "/etc/default/tport"
    fd_limit: int = FD_LIMIT


def unit_text(unit: Unit) -> str:
    """Return the unit file.

    Raises:
        InvalidRequest: a path that no line of a unit can hold, or a data directory that is none.
    """
    _check_data_dir(unit.data_dir)
    for path in (unit.program, unit.config_file, unit.data_dir, unit.env_file):
        if not _UNSAFE.isdisjoint(path):
            raise InvalidRequest("a path in a unit has no line break")
    return _TEXT.format(
        program=_word(unit.program, command=True),
        config=_word(f"--config={unit.config_file}", command=True),
        env_file=unit.env_file.replace("%", "%%"),
        data_dir=_word(f"TPORT_DATA_DIR={unit.data_dir}"),
        user=unit.user,
        state=_state(unit.data_dir),
        fd_limit=unit.fd_limit,
        stop=int(DRAIN) + LAST_WORK,
        watchdog=WATCHDOG,
    )


def _check_data_dir(data_dir: str) -> None:
    path = PurePosixPath(normpath(data_dir))
    if any(path.is_relative_to(folder) for folder in _EMPTIED):
        raise InvalidRequest(
            f"{data_dir} can't hold the data: the unit has a /tmp of its own, and a stop empties it",
            hint="name another folder: data_dir in the file, or --data-dir",
        )
    if str(path) in (*_SYSTEMS, *_SYSTEMS_TOO):
        raise InvalidRequest(
            f"{data_dir} belongs to the system, and the unit would let tport write all over it",
            hint="name a folder of its own, as /var/lib/tport: data_dir in the file, or --data-dir",
        )


def _state(data_dir: str) -> str:
    """Return the lines that make the data directory, or allow it, as the only place to write."""
    path = PurePosixPath(data_dir)
    if path != STATE and path.is_relative_to(STATE) and ".." not in path.parts:
        return f"StateDirectory={_word(str(path.relative_to(STATE)))}\nStateDirectoryMode=0700"
    return f"ReadWritePaths={_word(data_dir)}"


def _word(text: str, *, command: bool = False) -> str:
    """Return one word of a unit's line. Source: systemd.syntax(7), "Quoting"; systemd.unit(5)."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    return f'"{text}"' if any(character in text for character in " \t'\"\\;#") else text


_TEXT: Final = """\
# tport, run by systemd. Made by `tport install systemd`; changes of your own belong into
# a drop-in beside it: systemctl edit tport
[Unit]
Description=tport: a safe way to reach internal web applications
Wants=network-online.target
After=network-online.target

[Service]
# The program says itself when it serves, reads its files anew, and stops.
Type=notify
NotifyAccess=main
ExecStart={program} start {config}
ExecReload=/bin/kill -HUP $MAINPID
Environment={data_dir}
# Where it stood is in the log when the watchdog ends it.
Environment=PYTHONFAULTHANDLER=1
EnvironmentFile=-{env_file}
WatchdogSec={watchdog}
# A stop lets open requests end, for 30 seconds, and ends with 128 and the signal's number.
TimeoutStopSec={stop}
KillMode=mixed
SuccessExitStatus=130 143
Restart=on-failure
RestartSec=5
# 2: the configuration is at fault, and stays so until somebody has mended it.
RestartPreventExitStatus=2
# A worker of the proxy that runs out of memory is replaced; the others go on.
OOMPolicy=continue
LimitNOFILE={fd_limit}

# Who it is, and the one right that it has: to listen on ports below 1024.
User={user}
Group={user}
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
UMask=0077

# What it sees of the machine, and where it may write.
{state}
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes

# What it may ask of the kernel.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# Hashes of passwords give way to requests.
SystemCallFilter=setpriority
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
