"""The tunnels this proxy holds, and which of them a request goes through."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Final

import trio

import tport
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI, TunnelReport
from tport.engine.defaults import PRESENCE_INTERVAL
from tport.engine.errors import AccessDenied, ConnectionProblem, RemoteProtocolError
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.receive_window import WindowBudget
from tport.engine.proto.tunnel import (
    PROTOCOL,
    AgentHello,
    Control,
    Inbox,
    Offers,
    Proxies,
    ProxyHello,
    Verdicts,
    pack,
)
from tport.engine.types.app import App, AppServer
from tport.engine.types.identity import Identity

logger = logging.getLogger(__name__)

HELLO_DEADLINE: Final = 10.0  # s for an agent to answer; it has nothing to compute
MAX_OFFERS: Final = 1000  # applications of one agent
REMEMBERED_SESSIONS: Final = 10_000  # whose credential we know an agent to hold, per tunnel

Clock = Callable[[], datetime]


class Tunnel:
    """One live tunnel: the agent at its far end and what it may offer."""

    def __init__(self, mux: Mux, identity: Identity, *, remote: str, since: datetime) -> None:
        self.mux = mux
        self.identity = identity
        self.remote = remote
        self.since = since
        self.hostname = identity.hostname
        self.version = ""
        self.servers: dict[str, AppServer] = {}  # the offers that count, by application
        self.refused: tuple[AppServer, ...] = ()
        self._told: dict[str, str] = {}

    @property
    def agent_id(self) -> str:
        return self.identity.name

    def has_credential(self, session: str, credential: str) -> bool:
        """Tell whether the agent was sent this credential on this tunnel."""
        return self._told.get(session) == credential

    def told(self, session: str, credential: str) -> None:
        if len(self._told) >= REMEMBERED_SESSIONS:
            del self._told[next(iter(self._told))]  # at worst it is sent once more
        self._told[session] = credential

    def report(self) -> TunnelReport:
        return TunnelReport(
            host_id=self.agent_id,
            hostname=self.hostname,
            version=self.version,
            remote=self.remote,
            since=self.since,
            servers=(*self.servers.values(), *self.refused),
        )


class Tunnels:
    """All tunnels of this proxy, newest last; `changed` is set when there is news to report."""

    def __init__(self) -> None:
        self._tunnels: list[Tunnel] = []
        self.changed = trio.Event()

    def __len__(self) -> int:
        return len(self._tunnels)

    def add(self, tunnel: Tunnel) -> None:
        self._tunnels.append(tunnel)
        self.touch()

    def remove(self, tunnel: Tunnel) -> None:
        if tunnel in self._tunnels:
            self._tunnels.remove(tunnel)
            self.touch()

    def touch(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def newest(self) -> Iterable[Tunnel]:
        """The newest tunnel of each agent: an older one only ends what it has begun."""
        return {tunnel.agent_id: tunnel for tunnel in self._tunnels}.values()

    def candidates(self, app: str, session: str) -> list[Tunnel]:
        """The tunnels whose agents offer `app`, the one to try first in front.

        The order is a session's own and stays as agents come and go (rendezvous hashing): its
        requests meet the same agent, and another one only when that fails.
        """
        offering = [tunnel for tunnel in self.newest() if app in tunnel.servers]
        if len(offering) > 1:
            offering.sort(key=lambda tunnel: _weight(session, tunnel.agent_id))
        return offering

    def reports(self) -> tuple[TunnelReport, ...]:
        return tuple(tunnel.report() for tunnel in self.newest())

    def go_away(self) -> None:
        """Tell every agent that this proxy opens no more streams; those in flight go on."""
        for tunnel in self._tunnels:
            tunnel.mux.go_away()


def _weight(session: str, agent: str) -> bytes:
    return hashlib.blake2b(f"{session}\0{agent}".encode(), digest_size=8).digest()


async def _as_long_as(mux: Mux, talk: Callable[[], Awaitable[None]]) -> None:
    """Run a part of the conversation; where it breaks with the tunnel, `mux.run` tells why."""
    try:
        await talk()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        if not mux.closed:
            raise
        await mux.wait_closed()


class TunnelService:
    """Serves the proxy's end of each tunnel: hello, offers, verdicts, and its end."""

    def __init__(
        self,
        *,
        auth: AuthAPI,
        events: EventQueue,
        tunnels: Tunnels,
        proxy_id: str,
        cluster: str,
        public_address: Callable[[App], str],
        live_proxies: Callable[[], tuple[str, ...]],
        clock: Clock,
    ) -> None:
        """
        Args:
            public_address: host[:port] at which people reach an application.
            live_proxies: ids of the proxies alive now.
        """
        self._auth = auth
        self._events = events
        self._tunnels = tunnels
        self._proxy_id = proxy_id
        self._cluster = cluster
        self._public_address = public_address
        self._live_proxies = live_proxies
        self._budget = WindowBudget()  # of all tunnels together
        self._clock = clock

    async def serve(
        self, transport: trio.abc.Stream, identity: Identity, *, remote: str, not_after: datetime
    ) -> None:
        """Serve one tunnel until it ends; `transport` is closed on every way out.

        Args:
            identity: of the agent, from its verified certificate.
            not_after: the certificate's end, at which the tunnel ends too (TLS-09).
        """
        mux = Mux(transport, client=True, peer_may_open=False, budget=self._budget)
        tunnel = Tunnel(mux, identity, remote=remote, since=self._clock())
        reason = "closed by the agent"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_as_long_as, mux, partial(self._converse, tunnel, nursery))
                nursery.start_soon(self._until, not_after, mux)
                await mux.run()
                nursery.cancel_scope.cancel()
        except* RemoteProtocolError as errors:
            reason = str(errors.exceptions[0])
            self._emit("tunnel.protocol_error", tunnel, error=reason)
        except* (ConnectionProblem, AccessDenied) as errors:
            reason = str(errors.exceptions[0])
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = "connection lost"
        finally:
            known = tunnel.servers != {}
            self._tunnels.remove(tunnel)
        if known:
            logger.info("tunnel of %s ended: %s", tunnel.hostname or tunnel.agent_id, reason)
            self._emit("tunnel.down", tunnel, reason=reason)

    def _emit(self, what: str, tunnel: Tunnel, **fields: object) -> None:
        self._events.put(
            what,
            host_id=tunnel.agent_id,  # `server_id` is who wrote the event: this proxy
            hostname=tunnel.hostname,
            **{"addr.remote": tunnel.remote},
            **fields,
        )

    async def _until(self, not_after: datetime, mux: Mux) -> None:
        """End the tunnel with its certificate, by the wall clock, first gently and then not."""
        while (left := (not_after - self._clock()).total_seconds()) > 0:  # noqa: ASYNC110 - a clock
            await trio.sleep(min(left, 5.0))
        mux.go_away()
        raise ConnectionProblem("the agent's certificate has expired")

    async def _converse(self, tunnel: Tunnel, nursery: trio.Nursery) -> None:
        """Run the control stream: our hello, the agent's, then its offers and our news."""
        control = tunnel.mux.open_stream()
        inbox = Inbox()
        told = self._live_proxies()
        with trio.move_on_after(HELLO_DEADLINE) as waiting:
            await control.send_all(
                pack(
                    ProxyHello(
                        protocol=PROTOCOL,
                        version=tport.__version__,
                        proxy_id=self._proxy_id,
                        cluster=self._cluster,
                        proxies=told,
                    )
                )
            )
            await self._greet(tunnel, await next_control(control, inbox), control)
        if waiting.cancelled_caught:
            raise ConnectionProblem(f"the agent did not say hello within {HELLO_DEADLINE:.0f} s")
        self._tunnels.add(tunnel)
        logger.info(
            "tunnel of %s (%s) is up: %s",
            tunnel.hostname or tunnel.agent_id,
            tunnel.remote,
            ", ".join(tunnel.servers) or "no application",
        )
        self._emit("tunnel.up", tunnel, apps=sorted(tunnel.servers))
        tell = partial(self._tell_proxies, control, told)
        nursery.start_soon(_as_long_as, tunnel.mux, tell)
        while (message := await next_control(control, inbox)) is not None:
            if not isinstance(message, Offers):
                raise RemoteProtocolError("the agent sent what only a proxy says")
            await self._judge(tunnel, control, message.apps)
            self._tunnels.touch()
        self._tunnels.remove(tunnel)  # replaced, or the agent stops: streams in flight go on
        await control.send_eof()

    async def _greet(self, tunnel: Tunnel, hello: Control | None, control: MuxStream) -> None:
        if not isinstance(hello, AgentHello):
            raise RemoteProtocolError("the agent's first message is no hello")
        if hello.protocol != PROTOCOL:
            raise RemoteProtocolError(
                f"the agent speaks tunnel protocol {hello.protocol}, this proxy {PROTOCOL}"
            )
        if hello.agent_id != tunnel.agent_id:
            raise RemoteProtocolError("the agent calls itself otherwise than its certificate does")
        tunnel.version = hello.version[:64]
        tunnel.hostname = hello.hostname[:255] or tunnel.hostname
        await self._judge(tunnel, control, hello.apps)

    async def _judge(self, tunnel: Tunnel, control: MuxStream, apps: tuple[App, ...]) -> None:
        """Have auth judge the offers; only those it accepts count, and the agent is told."""
        if len(apps) > MAX_OFFERS:
            raise RemoteProtocolError(f"{len(apps)} applications offered, at most {MAX_OFFERS}")
        verdicts = await self._auth.offer(
            host_id=tunnel.agent_id,
            hostname=tunnel.hostname,
            version=tunnel.version,
            apps=apps,
            pinned=tunnel.identity.apps,
        )
        tunnel.servers = {server.app.name: server for server in verdicts if not server.refused}
        tunnel.refused = tuple(server for server in verdicts if server.refused)
        await control.send_all(
            pack(
                Verdicts(
                    refused={
                        server.app.name: server.refused for server in verdicts if server.refused
                    },
                    hosts={
                        name: self._public_address(server.app)
                        for name, server in tunnel.servers.items()
                    },
                )
            )
        )

    async def _tell_proxies(self, control: MuxStream, told: tuple[str, ...]) -> None:
        """Keep the agent up to date on which proxies live, so that it dials each."""
        while True:
            await trio.sleep(PRESENCE_INTERVAL)
            if (live := self._live_proxies()) != told:
                await control.send_all(pack(Proxies(proxies=live)))
                told = live
