"""The tunnels this proxy holds, and which of them a request goes through."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from typing import Final, NoReturn

import trio

import tport
from tport.engine.api.answers import TunnelReport
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import READY_SESSIONS
from tport.engine.errors import (
    ConnectionProblem,
    Locked,
    RemoteProtocolError,
    TportError,
    Unavailable,
    leaves,
)
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.memory import keep_latest
from tport.engine.proto.receive_window import WindowBudget
from tport.engine.proto.tunnel import (
    MAX_REASON,
    SPOKEN,
    AgentHello,
    Control,
    Inbox,
    Offers,
    Proxies,
    ProxyHello,
    Spoken,
    Verdicts,
    agreed,
    nothing_agreed,
    pack,
)
from tport.engine.proxy.offer_pauses import OfferPauses, rest_after
from tport.engine.types.app import App, AppServer
from tport.engine.types.identity import Identity

logger = logging.getLogger(__name__)

HELLO_DEADLINE: Final = 10.0  # s for an agent to answer; it has nothing to compute
OFFERS_RETRY: Final = 5.0  # s between two tries to have changed offers judged
# s for an agent to have a tunnel here, too. It waits up to 1 s before it dials after it has heard of
# this process, up to 3 s more if that dial met another, and its hello has to be judged. Nobody waits
# so long for an application that is nowhere: auth has heard by then that the other tunnel is gone.
ON_THE_WAY: Final = 10.0
LOOK: Final = 0.2  # s between looks at whether it is worth waiting
REMEMBERED_APPS: Final = 1000  # that no tunnel offers any more; of older ones the time is lost

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
        self.up = False  # the hello went well: it may serve, and its end is an event
        self.refusal = ""  # why its agent may be here no longer
        self._refused = trio.Event()
        self._told: OrderedDict[str, str] = OrderedDict()

    @property
    def agent_id(self) -> str:
        return self.identity.name

    def has_credential(self, session: str, credential: str) -> bool:
        """Tell whether the agent was sent this credential on this tunnel."""
        return self._told.get(session) == credential

    def told(self, session: str, credential: str) -> None:
        keep_latest(self._told, session, credential, READY_SESSIONS)  # others are sent once more

    def refuse(self, why: str) -> None:
        """End the tunnel: its agent may be here no longer."""
        self.refusal = why
        self._refused.set()

    async def wait_refused(self) -> None:
        await self._refused.wait()

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

    def __init__(
        self,
        clock: Clock,
        down: Callable[[], Collection[tuple[str, str]]] = frozenset,
        elsewhere: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """
        Args:
            down: what doesn't answer its agent now: the application's name, the agent's id.
            elsewhere: whether another process of this port has a tunnel that offers an application.
        """
        self._clock = clock
        self._down = down
        self._elsewhere = elsewhere
        self._left: dict[str, datetime] = {}  # by application: when its last tunnel went
        self._tunnels: list[Tunnel] = []
        self._offering: dict[str, list[Tunnel]] = {}  # by application, of each agent the newest
        self.changed = trio.Event()

    def __len__(self) -> int:
        return len(self._tunnels)

    @property
    def streams(self) -> int:
        """How many are open in all of them."""
        return sum(tunnel.mux.streams for tunnel in self._tunnels)

    def add(self, tunnel: Tunnel) -> None:
        self._tunnels.append(tunnel)
        self.touch()

    def remove(self, tunnel: Tunnel) -> None:
        if tunnel in self._tunnels:
            self._tunnels.remove(tunnel)
            self.touch()

    def touch(self) -> None:
        """To be called when what a tunnel offers has changed."""
        before, self._offering = self._offering, {}
        for tunnel in self.newest():
            for app in tunnel.servers:
                self._offering.setdefault(app, []).append(tunnel)
        for app in before.keys() - self._offering.keys():
            self._left[app] = self._clock()
        for app in self._left.keys() & self._offering.keys():
            del self._left[app]
        while len(self._left) > REMEMBERED_APPS:
            del self._left[next(iter(self._left))]
        self.changed.set()
        self.changed = trio.Event()

    def newest(self) -> Iterable[Tunnel]:
        """The newest tunnel of each agent: an older one only ends what it has begun."""
        return {tunnel.agent_id: tunnel for tunnel in self._tunnels}.values()

    def candidates(self, app: str, session: str) -> list[Tunnel]:
        """The tunnels whose agents offer `app`, the one to try first in front.

        The order is a session's own and stays as agents come and go (rendezvous hashing): its
        requests meet the same agent, and another one only when that fails. Agents that say that
        the application doesn't answer them come last: theirs is a hint, and may be out of date.
        """
        offering = self._offering.get(app, ())
        if len(offering) < 2:
            return list(offering)
        down = self._down()

        def rank(tunnel: Tunnel) -> tuple[bool, bytes]:
            return (app, tunnel.agent_id) in down, _weight(session, tunnel.agent_id)

        return sorted(offering, key=rank)

    async def wait_for_offer(self, app: str) -> None:
        """Wait, ON_THE_WAY s at most, while only another process has a tunnel that offers `app`.

        Its agent is about to open one here, too, or has just been told of the application.
        """
        with trio.move_on_after(ON_THE_WAY):
            while app not in self._offering and self._elsewhere(app):
                with trio.move_on_after(LOOK):  # it may have gone there as well
                    await self.changed.wait()

    def left_at(self, app: str) -> datetime | None:
        """Return since when no tunnel offers `app`; None: one does, or none did while we run."""
        return self._left.get(app)

    def reports(self) -> tuple[TunnelReport, ...]:
        return tuple(tunnel.report() for tunnel in self.newest())


def _weight(session: str, agent: str) -> bytes:
    return hashlib.blake2b(f"{session}\0{agent}".encode(), digest_size=8).digest()


async def _as_long_as(mux: Mux, talk: Callable[[], Awaitable[None]]) -> None:
    """Run a part of the conversation; where it breaks with the tunnel, `mux.run` tells why."""
    try:
        await talk()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
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
        check_host: Callable[[str], None],
        clock: Clock,
    ) -> None:
        """
        Args:
            public_address: host[:port] at which people reach an application.
            live_proxies: ids of the proxies alive now.
            check_host: raises Locked when an agent, by its id, may have no tunnel now.
        """
        self._auth = auth
        self._events = events
        self._tunnels = tunnels
        self._proxy_id = proxy_id
        self._cluster = cluster
        self._public_address = public_address
        self._live_proxies = live_proxies
        self._check_host = check_host
        self._budget = WindowBudget()  # of all tunnels together
        self._clock = clock
        # Those that still say hello, too; and when their agents' certificates end.
        self._open: dict[Tunnel, datetime] = {}
        self._pauses = OfferPauses()
        self._proxies_moved = trio.Event()

    def judge(self) -> None:
        """End the tunnels of agents that may have none now, or whose certificate has expired.

        To be called when locks have changed, and each few seconds for the clock's sake: an agent that
        renews has replaced its tunnel half the certificate's life before.
        """
        now = self._clock()
        for tunnel, not_after in self._open.items():
            try:
                self._check_host(tunnel.agent_id)
            except Locked:
                tunnel.refuse("the agent is locked")
            else:
                if now >= not_after:
                    tunnel.refuse("the agent's certificate has expired")

    def proxies_changed(self) -> None:
        """Tell the agents at once; to be called when the proxies alive may be others."""
        self._proxies_moved.set()
        self._proxies_moved = trio.Event()

    async def serve(
        self, transport: trio.abc.Stream, identity: Identity, *, remote: str, not_after: datetime
    ) -> None:
        """Serve one tunnel until it ends; `transport` is closed on every way out.

        Args:
            identity: of the agent, from its verified certificate.
            not_after: the certificate's end, at which `judge` ends the tunnel too (TLS-09).

        Raises:
            Locked: the agent is; a lock that comes later ends the tunnel.
        """
        self._check_host(identity.name)
        mux = Mux(transport, client=True, peer_may_open=False, budget=self._budget)
        tunnel = Tunnel(mux, identity, remote=remote, since=self._clock())
        reason = ""
        self._open[tunnel] = not_after
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_as_long_as, mux, partial(self._converse, tunnel))
                nursery.start_soon(self._until_refused, tunnel)
                await mux.run()
                nursery.cancel_scope.cancel()
        except* RemoteProtocolError as errors:
            reason = str(next(leaves(errors)))
            self._emit("tunnel.protocol_error", tunnel, error=reason)
        except* TportError as errors:
            reason = reason or str(next(leaves(errors)))
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = reason or "connection lost"
        finally:
            del self._open[tunnel]
            self._tunnels.remove(tunnel)
        what = "ended" if tunnel.up else "not opened"
        reason = reason or "closed by the agent"
        logger.info("tunnel of %s %s: %s", tunnel.hostname or tunnel.agent_id, what, reason)
        if tunnel.up:
            self._emit("tunnel.down", tunnel, reason=reason)

    def _emit(self, what: str, tunnel: Tunnel, **fields: object) -> None:
        self._events.put(
            what,
            host_id=tunnel.agent_id,  # `server_id` is who wrote the event: this proxy
            hostname=tunnel.hostname,
            **{"addr.remote": tunnel.remote},
            **fields,
        )

    async def _until_refused(self, tunnel: Tunnel) -> NoReturn:
        await tunnel.wait_refused()
        raise ConnectionProblem(tunnel.refusal)

    async def _converse(self, tunnel: Tunnel) -> None:
        """Run the control stream: our hello, the agent's, then its offers and our news."""
        control = _ControlStream(tunnel.mux.open_stream())
        told = self._live_proxies()
        with trio.move_on_after(HELLO_DEADLINE) as waiting:
            await control.say(
                ProxyHello(
                    protocol=SPOKEN.lowest,
                    highest=SPOKEN.highest,
                    version=tport.__version__,
                    proxy_id=self._proxy_id,
                    cluster=self._cluster,
                    proxies=told,
                )
            )
            await self._greet(tunnel, await control.next(), control)
        if waiting.cancelled_caught:
            raise ConnectionProblem(f"the agent did not say hello within {HELLO_DEADLINE:.0f} s")
        tunnel.up = True
        self._tunnels.add(tunnel)
        logger.info(
            "tunnel of %s (%s) is up: %s",
            tunnel.hostname or tunnel.agent_id,
            tunnel.remote,
            ", ".join(tunnel.servers) or "no application",
        )
        self._emit("tunnel.up", tunnel, apps=sorted(tunnel.servers))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_proxies, control, told)
            await self._hear_offers(tunnel, control)
            nursery.cancel_scope.cancel()
        self._tunnels.remove(tunnel)  # replaced, or the agent stops: streams in flight go on
        await control.end()

    async def _hear_offers(self, tunnel: Tunnel, control: _ControlStream) -> None:
        """Have each change of the offers judged, until the agent ends the control stream.

        While auth can't be asked, what it accepted before goes on being served.
        """
        unjudged: Offers | None = None
        retry = -math.inf  # trio's time
        while True:
            not_before = max(retry, self._pauses.until(tunnel.agent_id))
            with trio.move_on_at(math.inf if unjudged is None else not_before) as waiting:
                message = await control.next()
                if message is None:
                    return
                if not isinstance(message, Offers):
                    raise RemoteProtocolError("the agent sent what only a proxy says")
                unjudged = message
                waiting.deadline = not_before
                await trio.sleep(rest_after(message))
            assert unjudged is not None  # the wait for the first has no end
            # Meanwhile another tunnel of the agent may have been the next.
            if trio.current_time() < max(retry, self._pauses.until(tunnel.agent_id)):
                continue
            try:
                await self._judge(tunnel, control, unjudged)
                unjudged = None
            except (ConnectionProblem, Unavailable) as problem:
                name = tunnel.hostname or tunnel.agent_id
                logger.warning("what %s offers can't be judged yet: %s", name, problem)
                retry = trio.current_time() + OFFERS_RETRY

    async def _greet(self, tunnel: Tunnel, hello: Control | None, control: _ControlStream) -> None:
        if not isinstance(hello, AgentHello):
            raise RemoteProtocolError("the agent's first message is no hello")
        if agreed(SPOKEN, theirs := Spoken(hello.protocol, hello.protocol)) is None:
            raise RemoteProtocolError(
                nothing_agreed(
                    SPOKEN,
                    theirs,
                    us=f"this proxy (tport {tport.__version__})",
                    them=f"the agent (tport {_plain(hello.version, 64)})",
                )
            )
        if hello.agent_id != tunnel.agent_id:
            raise RemoteProtocolError("the agent calls itself otherwise than its certificate does")
        tunnel.version = _plain(hello.version, 64)
        tunnel.hostname = _plain(hello.hostname, 255) or tunnel.hostname
        await self._pauses.wait(tunnel.agent_id)
        await self._judge(tunnel, control, hello)

    async def _judge(
        self, tunnel: Tunnel, control: _ControlStream, message: AgentHello | Offers
    ) -> None:
        """Have auth judge the offers; only those it accepts count, and the agent is told."""
        self._pauses.begin(tunnel.agent_id)  # before it is asked: its other tunnels run meanwhile
        try:
            verdicts = await self._auth.offer(
                host_id=tunnel.agent_id,
                hostname=tunnel.hostname,
                version=tunnel.version,
                apps=message.apps,
                pinned=tunnel.identity.apps,
                pinned_uri=tunnel.identity.uri,
            )
        finally:
            self._pauses.begin(tunnel.agent_id)
        tunnel.servers = {server.app.name: server for server in verdicts if not server.refused}
        tunnel.refused = (
            *(server for server in verdicts if server.refused),
            *(_faulty(tunnel, name, why) for name, why in message.faulty),
        )
        self._tunnels.touch()  # before anybody else runs: to say it may take as long as the agent likes
        await control.say(
            Verdicts(
                refused={server.app.name: server.refused for server in verdicts if server.refused},
                hosts={
                    name: self._public_address(server.app)
                    for name, server in tunnel.servers.items()
                },
            )
        )

    async def _tell_proxies(self, control: _ControlStream, told: tuple[str, ...]) -> None:
        """Keep the agent up to date on which proxies live, so that it dials each."""
        while True:
            moved = self._proxies_moved  # before the look: what moves after it is not missed
            if (live := self._live_proxies()) != told:
                await control.say(Proxies(proxies=live))
                told = live
            await moved.wait()


class _ControlStream:
    """A tunnel's first stream. Any number of tasks may speak, one listens."""

    def __init__(self, stream: MuxStream) -> None:
        self._stream = stream
        self._inbox = Inbox()
        self._speaking = trio.Lock()

    async def say(self, message: Control) -> None:
        async with self._speaking:
            await self._stream.send_all(pack(message))

    async def next(self) -> Control | None:
        """Return the next message; see `next_control`. Cancelled, it has lost nothing."""
        return await next_control(self._stream, self._inbox)

    async def end(self) -> None:
        """Say that this was all, and listen no more."""
        await self._stream.aclose()


def _faulty(tunnel: Tunnel, name: str, why: str) -> AppServer:
    """Return what shows people an application that its own agent can't offer."""
    return AppServer(
        app=App(name=_plain(name, 63), uri=""),
        labels={},
        host_id=tunnel.agent_id,
        hostname=tunnel.hostname,
        version=tunnel.version,
        refused=_plain(why, MAX_REASON) or "faulty",
    )


def _plain(text: str, limit: int) -> str:
    """Return an agent's word for something, fit for a log line and a page."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])
