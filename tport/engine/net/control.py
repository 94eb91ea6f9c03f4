"""Reading control messages from a tunnel's first stream; both ends do it alike."""

from __future__ import annotations

import trio

from tport.engine.defaults import READ_SIZE
from tport.engine.proto.tunnel import Control, Inbox, control_decoder


async def next_control(stream: trio.abc.ReceiveStream, inbox: Inbox) -> Control | None:
    """Return the next message; None: the peer has ended the stream.

    Raises:
        RemoteProtocolError: what came is no control message.
        trio.BrokenResourceError: the tunnel was lost.
    """
    while (message := inbox.take(control_decoder)) is None:
        data = await stream.receive_some(READ_SIZE)
        if not data:
            return None
        inbox.feed(data)
    return message
