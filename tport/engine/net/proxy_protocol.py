"""Receive the PROXY header that a load balancer puts before a connection."""

from __future__ import annotations

import trio

from tport.engine.defaults import CLIENT_HELLO_DEADLINE
from tport.engine.errors import ConnectionProblem
from tport.engine.proto.proxy_protocol import MAX_V2, ProxyHeader, parse_proxy_header


async def receive_proxy_header(
    stream: trio.abc.ReceiveStream, *, deadline: float = CLIENT_HELLO_DEADLINE
) -> tuple[str, bytes]:
    """Return the client's address ("": not said), and what came behind the header.

    Raises:
        RemoteProtocolError: there is none, or it is broken or too long.
        ConnectionProblem: the peer left or stopped before it was whole.
    """
    data = b""
    header: ProxyHeader | None = None
    with trio.move_on_after(deadline):
        while (header := parse_proxy_header(data)) is None:
            try:
                more = await stream.receive_some(MAX_V2)  # what follows is others' to read
            except trio.BrokenResourceError:
                more = b""
            if not more:
                raise ConnectionProblem("a load balancer left before its PROXY header was whole")
            data += more
    if header is None:
        raise ConnectionProblem(f"no whole PROXY header within {deadline:.0f} s")
    return header.source, data[header.length :]
