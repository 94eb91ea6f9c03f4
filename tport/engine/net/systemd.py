"""Tell systemd how the process is: ready, reading its files anew, stopping, alive.

Datagrams to the socket that $NOTIFY_SOCKET names, as sd_notify(3) has it; without one, nothing.
A message that can't be delivered is lost: nobody waits for systemd, and nothing fails by it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final, NoReturn

import trio

SEND_DEADLINE: Final = 2.0  # s; systemd reads at once, or is in trouble itself


class Supervisor:
    """Whoever started this process and wants to hear of it; or nobody.

    Attributes:
        watchdog: seconds without a sign of life after which we are taken for dead; None: never.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        """`address`: of a Unix datagram socket, `@` first if it is abstract; "": nobody."""
        # A NUL first makes an address of Linux's abstract namespace, unix(7).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog

    @classmethod
    def of_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Supervisor:
        """Return who the environment names, and take it out: no child is to speak for us."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(os.getpid()))
        if not address.startswith(("/", "@")):  # vsock: is for whole virtual machines
            return cls()
        watched = microseconds.isdecimal() and meant == str(os.getpid())
        return cls(address, int(microseconds) / 1e6 if watched else None)

    async def ready(self, status: str) -> None:
        """All serve; or all do again, after a reload. `status`: what `systemctl status` shows."""
        await self._tell("READY=1", f"STATUS={status}")

    async def reloading(self) -> None:
        """Files are being read anew; `ready` ends that."""
        await self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def stopping(self, status: str) -> None:
        await self._tell("STOPPING=1", f"STATUS={status}")

    async def keep_alive(self) -> None:
        """Give signs of life, two in each interval, as long as the loop turns."""
        if self.watchdog is not None:
            await self._ping_forever(self.watchdog / 2)

    async def _ping_forever(self, pause: float) -> NoReturn:
        while True:
            await self._tell("WATCHDOG=1")
            await trio.sleep(pause)

    async def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with trio.move_on_after(SEND_DEADLINE):
            try:
                with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                    # Connected, the socket is writable only when the other end has room.
                    await sock.connect(self._address)
                    await sock.send("\n".join(lines).encode())
            except OSError:
                pass
