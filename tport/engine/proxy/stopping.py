"""What browsers get when the proxy stops: an answer to what they asked, and where to go on."""

from __future__ import annotations

from typing import Final

import trio

from tport.engine.net.http1 import Drain
from tport.engine.proxy.doorstep import Doorstep
from tport.engine.proxy.forward import Forwarder

GOODBYE: Final = 2.0  # s for WebSockets to be closed, and what else still runs
# s in which who had been let in when we were told to stop may ask something: browsers repeat no
# request that is refused on a connection just made.
FIRST_REQUEST: Final = 1.0
LOOK: Final = 0.2  # s between looks at what still runs


async def let_finish(
    drain: Drain, doorstep: Doorstep, forwarder: Forwarder, seconds: float
) -> None:
    """Let what runs end, for so many seconds. When WebSockets alone are left, or it is time, close those.

    Nothing is accepted any more. What still runs afterwards is the caller's to cancel.
    """
    drain.begin(patiently=True)
    with trio.move_on_after(max(seconds - GOODBYE, 0)):
        with trio.move_on_after(FIRST_REQUEST):
            await _until_only_websockets(doorstep, forwarder, arriving=True)
        drain.lose_patience()
        await _until_only_websockets(doorstep, forwarder, arriving=False)
    forwarder.close_websockets()
    with trio.move_on_after(min(seconds, GOODBYE)):
        await doorstep.until_quiet()


async def _until_only_websockets(
    doorstep: Doorstep, forwarder: Forwarder, *, arriving: bool
) -> None:
    """Wait until all that browsers still have open are WebSockets: those end when told to.

    Args:
        arriving: and nobody shakes hands.
    """
    while doorstep.browsers > forwarder.websockets or (arriving and doorstep.arriving):
        with trio.move_on_after(LOOK):  # what becomes a WebSocket now tells nobody
            await doorstep.until_one_left()
