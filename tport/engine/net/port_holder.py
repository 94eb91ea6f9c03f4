"""Who listens on a port of this machine, as far as /proc tells: proc(5), /proc/net/tcp. Linux alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_LISTEN: Final = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")


def port_holder(port: int, proc: Path = PROC) -> str:
    """Return `nginx, process 812`; "" when nobody listens, or it can't be seen. Blocks for ms."""
    inodes = set(_listening(port, proc))
    if not inodes:
        return ""
    for folder in proc.glob("[0-9]*"):
        if not inodes.isdisjoint(_sockets_of(folder)):
            try:
                name = folder.joinpath("comm").read_text("utf-8", "replace").strip()
            except OSError:  # it has just ended
                continue
            shown = "".join(c if c.isprintable() else "?" for c in name)
            return f"{shown}, process {folder.name}"
    return ""


def _listening(port: int, proc: Path) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port, whatever the address."""
    for table in ("tcp", "tcp6"):
        try:
            lines = proc.joinpath("net", table).read_text("ascii").splitlines()[1:]
        except OSError:  # no /proc, or no IPv6
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(f":{port:04X}"):
                yield fields[9]


def _sockets_of(folder: Path) -> Iterator[str]:
    try:
        for link in folder.joinpath("fd").iterdir():
            if (found := _SOCKET.fullmatch(str(link.readlink()))) is not None:
                yield found[1]
    except OSError:  # another user's, or it has just ended
        return
