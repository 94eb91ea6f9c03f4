"""Where the bench knocks."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Final

PATIENCE: Final = 10.0  # s for one read or write


class Failed(Exception):
    """A stack did not do the work: it has no figure, rather than a wrong one."""


@dataclass(frozen=True)
class Door:
    """A host at a port of this machine, and what its visitors send to be let through.

    Attributes:
        headers: header lines.
    """

    host: str
    port: int
    headers: tuple[str, ...] = ()
    scheme: str = "https"

    def url(self, path: str = "/page") -> str:
        return f"{self.scheme}://{self.host}:{self.port}{path}"

    @property
    def cookie(self) -> str:
        """The value of Cookie; "" if there is none."""
        found = (line.partition(": ")[2] for line in self.headers if line.startswith("Cookie: "))
        return next(found, "")

    def connect(self) -> socket.socket:
        """Return a connection, with TLS where it is HTTPS; who answers isn't asked for a proof."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.scheme == "http":
            return sock
        return _CONTEXT.wrap_socket(sock, server_hostname=self.host)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


_CONTEXT: Final = _context()
