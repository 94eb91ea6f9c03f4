"""What the proxy is given to work with, and what it gives to its own pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.config.address import Address
from tport.engine.defaults import (
    CONNECTIONS,
    CONNECTIONS_PER_ADDRESS,
    IDLE_TIMEOUT,
    NEW_PER_ADDRESS,
    STRANGER_GRACE,
    STRANGERS,
    STRANGERS_PER_ADDRESS,
)
from tport.engine.metrics.board import Board
from tport.engine.net.asgi import App as AsgiApp
from tport.engine.net.fair_share import FairShare
from tport.engine.net.seats import Room
from tport.engine.net.streams import PrefixedStream
from tport.engine.pki.keys import KeyPair
from tport.engine.proxy.acme_settings import AcmeSettings
from tport.engine.proxy.clients import Clients
from tport.engine.proxy.key_pairs import FilePair
from tport.engine.proxy.pages import Pages
from tport.engine.proxy.siblings import Alone, Siblings
from tport.engine.types.launch import LaunchRequest

ROOM: Final = Room(
    connections=CONNECTIONS,
    per_address=CONNECTIONS_PER_ADDRESS,
    strangers=STRANGERS,
    strangers_per_address=STRANGERS_PER_ADDRESS,
    grace=STRANGER_GRACE,
    new_per_address=NEW_PER_ADDRESS,
)


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """What the operator decides.

    Attributes:
        proxy_id: this process's, made anew at each start.
        public_addrs: at which people and agents reach it; the first is the main one.
        files: certificates; where there is none for a name, the own web CA makes one.
        acme: how certificates come from a CA; None: they don't.
        http_listener: where CAs ask by HTTP; None: nowhere.
        clients: tells who a client is.
        request_log: whether auth is told of each request.
        include_query: with what stands behind its `?`.
        share: what part of the public port's connections is this process's; None: all.
        room: how many connections there may be, whosesoever.
        idle: seconds that one is kept for its next request.
        tickets: seals TLS tickets, alike in all processes that share the port; "": there are none.
    """

    proxy_id: str
    public_addrs: Sequence[Address]
    files: Sequence[FilePair] = ()
    acme: AcmeSettings | None = None
    http_listener: trio.SocketListener | None = None
    clients: Clients = field(default_factory=Clients)
    request_log: bool = True
    include_query: bool = False
    share: FairShare | None = None
    room: Room = ROOM
    idle: float = IDLE_TIMEOUT
    tickets: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the composition root hands in: everything that is another service's.

    Attributes:
        own_pair: makes this proxy's host certificate, good for HOST_CERTIFICATE_TTL.
        to_auth: carries an agent's connection to auth, from its ClientHello on.
        pages: what people are told.
        make_web: makes our own pages.
        next_reload: waits until the operator asks for a reload.
        next_files: waits until the operator's certificates have changed, and returns them all;
            raises ConfigError when one can't be used.
        siblings: the processes that share the port.
        board: where the proxy says what it counts.
    """

    auth: AuthAPI
    own_pair: Callable[[], KeyPair]
    to_auth: Callable[[PrefixedStream, str], Awaitable[None]]
    pages: Pages
    make_web: Callable[[WebParts], AsgiApp]
    next_reload: Callable[[], Awaitable[object]] = trio.sleep_forever
    next_files: Callable[[], Awaitable[Sequence[FilePair]]] = trio.sleep_forever
    siblings: Siblings = field(default_factory=Alone)
    board: Board = field(default_factory=Board)


@dataclass(frozen=True, kw_only=True)
class WebParts:
    """What our own pages need of the proxy."""

    open_launch: Callable[[str], LaunchRequest | None]
    forms_key: bytes
    cluster: str
    cluster_id8: str
