"""The proxy put together from the configuration: in the main process, or in one of several workers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.config.model import Config
from tport.engine.defaults import STRANGER_GRACE
from tport.engine.metrics.board import Board
from tport.engine.net.asgi import App as AsgiApp
from tport.engine.net.descriptors import connections_within_descriptors
from tport.engine.net.fair_share import FairShare
from tport.engine.net.seats import Room
from tport.engine.net.streams import PrefixedStream
from tport.engine.pki.keys import KeyPair
from tport.engine.proxy.acme_settings import acme_settings
from tport.engine.proxy.clients import Clients
from tport.engine.proxy.service import run_proxy
from tport.engine.proxy.settings import ProxySettings, Surroundings, WebParts
from tport.engine.proxy.siblings import Alone, Siblings
from tport.engine.reload import ReloadedKeyPairs
from tport.engine.signals import Signals
from tport.engine.types.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How a proxy reaches auth, and who it is there.

    Attributes:
        own_pair, to_auth, board: as in Surroundings.
    """

    proxy_id: str
    auth: AuthAPI
    own_pair: Callable[[], KeyPair]
    to_auth: Callable[[PrefixedStream, str], Awaitable[None]]
    board: Board = field(default_factory=Board)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where connections come from.

    Attributes:
        public: the one public port.
        http: where CAs ask by HTTP; None: nowhere.
        share: what part of the public port's connections is this process's; None: all.
        siblings: the other processes that share it.
        tickets: as in ProxySettings.
    """

    public: trio.SocketListener
    http: trio.SocketListener | None = None
    share: FairShare | None = None
    siblings: Siblings = field(default_factory=Alone)
    tickets: bytes = field(default=b"", repr=False)


logger = logging.getLogger(__name__)


async def run_proxy_role(
    config: Config,
    reach: Reach,
    ports: Ports,
    *,
    shown: Sequence[Setting],
    stop: trio.Event,
    signals: Signals,
    clock: Callable[[], datetime],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `ports` until `stop`, drain, and return. Started: it serves.

    Args:
        shown: the settings, for the page that shows them.
        signals: tells when to read files anew.

    Raises:
        TportError: a file that the configuration names can't be used.
    """
    from tport.engine.web.app import web_app  # 0.2 s of imports that an agent doesn't need
    from tport.engine.web.errors import ErrorPages

    proxy = config.proxy_service
    cluster = config.auth_service.cluster_name
    public_addr = str(proxy.public_addrs[0])
    key_pairs = ReloadedKeyPairs(config, clock, signals)

    def make_web(parts: WebParts) -> AsgiApp:
        return web_app(
            auth=reach.auth,
            cluster=parts.cluster,
            cluster_id8=parts.cluster_id8,
            public_addr=public_addr,
            clock=clock,
            secret=parts.forms_key,
            open_launch=parts.open_launch,
            settings=shown,
        )

    await run_proxy(
        ProxySettings(
            proxy_id=reach.proxy_id,
            public_addrs=proxy.public_addrs,
            files=await key_pairs.first(),
            acme=await trio.to_thread.run_sync(acme_settings, proxy.acme),
            http_listener=ports.http,
            clients=Clients(proxy.trusted_proxies, proxy_protocol=proxy.proxy_protocol),
            request_log=config.auth_service.audit.request_log,
            include_query=config.auth_service.audit.include_query,
            share=ports.share,
            room=_room(config),
            idle=proxy.limits.idle_timeout,
            tickets=ports.tickets,
        ),
        Surroundings(
            auth=reach.auth,
            own_pair=reach.own_pair,
            to_auth=reach.to_auth,
            pages=ErrorPages(cluster=cluster, public_addr=public_addr),
            make_web=make_web,
            next_reload=signals.next_reload,
            next_files=key_pairs.next,
            siblings=ports.siblings,
            board=reach.board,
        ),
        [ports.public],
        clock,
        stop,
        task_status=task_status,
    )


def _room(config: Config) -> Room:
    """Return how many connections this process takes: as many as wanted, and as files allow."""
    limits = config.proxy_service.limits
    # A request to an agent of this very process takes a second one, to the application.
    has_agent = config.app_service.enabled and config.proxy_service.workers == 1
    most = connections_within_descriptors(limits.connections, each=2 if has_agent else 1)
    if most < limits.connections // 2:  # a few less than wanted are nobody's concern
        logger.warning(
            "at most %d connections at a time, not %d: this process may open too few files"
            " (LimitNOFILE of systemd, ulimit -n)",
            most,
            limits.connections,
        )
    return Room(
        connections=most,
        per_address=min(limits.connections_per_address, most),
        strangers=min(limits.strangers, most),
        strangers_per_address=min(limits.strangers_per_address, most),
        grace=STRANGER_GRACE,
        new_per_address=limits.new_per_address,
    )
