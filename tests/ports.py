"""Ports for servers that must be told one before they start, and that nobody takes meanwhile."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port of 127.0.0.1 that the system gives to nobody else for the next minute.

    One that was merely bound and let go may be handed to another test before the server binds it. So a
    connection to it is made and ended from its side: while that is in TIME_WAIT (60 s on Linux), the
    system chooses the port for no bind to 0 and no connection; a server that asks for it by number with
    SO_REUSEADDR, as servers do, has it, and whoever dials it before that is refused.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near:
            far, _ = listener.accept()
            far.close()  # first: whose side closes first keeps the port
            near.recv(1)
    return port
