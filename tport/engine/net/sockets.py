"""What only the socket under a stream can do: cut hard, look and act without waiting."""

from __future__ import annotations

import select
import socket
from struct import Struct
from typing import Final

import trio

from tport.engine.net.ready import HAS_EPOLL
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import Prompt, TcpStream
from tport.engine.net.tls_stream import TlsStream

_RESET_ON_CLOSE: Final = Struct("ii").pack(1, 0)  # SO_LINGER on, for 0 s


async def cut(stream: trio.abc.Stream) -> None:
    """Close so that the peer can't take what it got for the whole: no TLS goodbye, a TCP reset."""
    bottom = _socket_under(stream)
    if bottom is not None:
        try:
            bottom.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except (OSError, trio.ClosedResourceError):
            pass  # closed already
    await trio.aclose_forcefully(stream)


def prompt_of(stream: trio.abc.Stream) -> Prompt | None:
    """Return the stream as one that needs no task; None: it can't be used so."""
    if not HAS_EPOLL:
        return None
    if isinstance(stream, TlsStream):
        return stream.prompt
    return stream if isinstance(stream, TcpStream) else None


def is_readable(stream: trio.abc.Stream) -> bool:
    """Tell, without waiting, whether bytes or the end of the stream have arrived.

    Where no socket is under it there is nobody to ask, and the answer is no. What TLS has taken
    from the socket already, as a goodbye that came with the last data, counts.
    """
    if isinstance(stream, TlsStream) and stream.has_stirred:
        return True
    bottom = _socket_under(stream)
    if bottom is None:
        return False
    try:
        number = bottom.socket.fileno()
        if not hasattr(select, "poll"):  # Windows, where select takes any socket's number
            return bool(select.select([number], [], [], 0)[0])
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True  # closed already


def _socket_under(stream: trio.abc.Stream) -> TcpStream | trio.SocketStream | None:
    while isinstance(stream, TlsStream | PrefixedStream):
        stream = stream.transport
    return stream if isinstance(stream, TcpStream | trio.SocketStream) else None
