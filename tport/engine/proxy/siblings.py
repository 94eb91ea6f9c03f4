"""Further processes of the same proxy, that share its port.

A request only uses tunnels of the process that took it, so agents hold one to each. A tunnel's
ClientHello says which process it is for; whoever took it hands it over, and a process that has
just begun takes no browsers before the agents have found it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn, Protocol

import trio

from tport.engine.net.fair_share import FairShare
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.proxy.tunnels import Tunnels
from tport.engine.types.app import AppServer

logger = logging.getLogger(__name__)

# s for agents to open tunnels to a process that has just begun: they are told at once, wait up to
# 1 s so as not to come all together, and dial.
FOUND: Final = 10.0


class Arrival(NamedTuple):
    """A connection that another process took: who the client is, and what came of it already."""

    stream: TcpStream
    remote: str
    received: bytes


class Siblings(Protocol):
    async def hand_over(self, proxy_id: str, stream: PrefixedStream, remote: str) -> bool:
        """Have the process with this id serve a connection; False: there is no such other one.

        Handed over, `stream` is still the caller's to close: that ends its own copy alone.
        """
        ...

    async def next(self) -> Arrival:
        """Wait for a connection that was handed over to this process."""
        ...


class Alone:
    """No others."""

    async def hand_over(self, proxy_id: str, stream: PrefixedStream, remote: str) -> bool:
        return False

    async def next(self) -> NoReturn:
        await trio.sleep_forever()
        raise AssertionError("unreachable")


def elsewhere(
    share: FairShare | None, offered: Callable[[], Sequence[AppServer]]
) -> Callable[[str], bool]:
    """Return what tells whether an application is offered to some process of this port."""

    def is_offered(app: str) -> bool:
        return share is not None and any(
            server.app.name == app and not server.refused for server in offered()
        )

    return is_offered


async def take_over(
    siblings: Siblings, welcome: Callable[[TcpStream, str, bytes], None]
) -> NoReturn:
    """Welcome each connection that is handed over, until cancelled."""
    while True:
        arrival = await siblings.next()
        welcome(arrival.stream, arrival.remote, arrival.received)


async def wait_for_tunnels(tunnels: Tunnels, offered: Callable[[], Sequence[AppServer]]) -> None:
    """Wait, FOUND s at most, until each agent that offers something in the cluster has a tunnel here."""
    with trio.move_on_after(FOUND) as waiting:
        while missing := _missing(tunnels, offered()):
            await tunnels.changed.wait()
    if waiting.cancelled_caught:
        logger.warning("serving without a tunnel of %d agents yet", len(missing))


def _missing(tunnels: Tunnels, offered: Sequence[AppServer]) -> set[str]:
    offering = {server.host_id for server in offered if not server.refused}
    return offering - {tunnel.agent_id for tunnel in tunnels.newest()}
