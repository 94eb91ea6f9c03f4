"""The agent, put together: who it is, what it offers, its tunnels, and its end."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

import trio
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from tport.engine.agent import debug_app
from tport.engine.agent.apps import AgentApps
from tport.engine.agent.dynamic import with_dynamic
from tport.engine.agent.health_watch import HealthWatch
from tport.engine.agent.icons import Icons
from tport.engine.agent.join import auth_dial, join_cluster, renew_identity
from tport.engine.agent.measured import Measured
from tport.engine.agent.offers import AgentOffers, AppSet, closing_offers
from tport.engine.agent.passage import Offered
from tport.engine.agent.prober import Prober
from tport.engine.agent.state import AgentState, load_state, save_state
from tport.engine.agent.tunnel import Dialled, TunnelKeeper
from tport.engine.api.cache import AuthCache
from tport.engine.api.changes import AppDefined, AppUndefined, Change, IconAsked, ProbeAsked
from tport.engine.api.events import EventQueue
from tport.engine.api.remote import open_remote_auth
from tport.engine.config.address import Address, parse_dial_address
from tport.engine.defaults import ALPN_TUNNEL, DRAIN, WEB_PORT
from tport.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionProblem,
    LimitExceeded,
    Locked,
    OutOfTime,
    RemoteProtocolError,
    Unavailable,
)
from tport.engine.metrics.board import Board
from tport.engine.net.dial import dial_through_proxy
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import tunnel_client_context
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import load_certificate, make_key
from tport.engine.proto.tunnel import Verdicts
from tport.engine.types.app import App
from tport.engine.types.identity import IdentityKind

logger = logging.getLogger(__name__)

TICK: Final = 5.0  # s between looks at the clock: for expiry, renewal, idle connections
_PROXY: Final[tuple[IdentityKind, ...]] = ("proxy",)
_AGENT: Final[tuple[IdentityKind, ...]] = ("agent",)
LAST_EVENTS: Final = 2.0  # s for the last audit events to reach auth when we stop
_PASSING: Final = (ConnectionProblem, Unavailable, LimitExceeded, RemoteProtocolError)
RENEWAL_RETRY: Final = 30.0  # s between two tries to renew at most; the first come sooner

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """What the operator decides.

    Attributes:
        folder: where the agent's state is kept; exists, and is this agent's alone.
        proxy: None: where it joined.
        token: reads the join token when one is needed; None: there is none.
        pins: of the cluster's authorities, 64 hex digits each.
        faulty: applications that can't be offered, and why; people are told of them.
        matchers: labels of the applications to pick up from auth.
        may_be_idle: with only faulty ones, go on: it is other services' process too.
        next_apps: waits for, and returns, the applications when they are to change; None: never.
        board: where the agent says what it counts.
    """

    folder: Path
    proxy: Address | None
    hostname: str
    apps: Sequence[App]
    debug_app: bool
    token: Callable[[], Awaitable[str]] | None
    pins: Sequence[str] = ()
    insecure: bool = False
    faulty: Mapping[str, str] = field(default_factory=dict)
    matchers: Sequence[Mapping[str, tuple[str, ...]]] = ()
    may_be_idle: bool = False
    next_apps: Callable[[], Awaitable[AppSet]] | None = None
    board: Board = field(default_factory=Board)

    def app_set(self) -> AppSet:
        return AppSet(
            apps=self.apps,
            faulty=self.faulty,
            debug_app=self.debug_app,
            matchers=self.matchers,
        )


async def run_agent(
    settings: AgentSettings,
    clock: Clock,
    stop: trio.Event,
    *,
    drain: float = DRAIN,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the applications until `stop`, drain, and return. Started: the first tunnel is up.

    Raises:
        ConfigError: nothing to offer, no proxy to dial, or no token to join with.
        AccessDenied: the cluster refuses this agent.
    """
    is_idle = settings.matchers or (settings.may_be_idle and settings.faulty)
    if not settings.apps and not settings.debug_app and not is_idle:
        raise _nothing_to_offer()  # before a use of the token is spent
    state = await trio.to_thread.run_sync(load_state, settings.folder)
    proxy = settings.proxy or (parse_dial_address(state.proxy, WEB_PORT) if state else None)
    if proxy is None:
        raise ConfigError(
            "the agent knows no proxy to dial",
            hint=_whole_line(settings, "HOST:PORT")
            + "\nor: proxy_server in the file, or $TPORT_PROXY",
        )
    agent = _Agent(settings, proxy, clock)
    agent.state = await agent.enter(state)
    await agent.run(stop, drain, task_status)


class _Agent:
    def __init__(self, settings: AgentSettings, proxy: Address, clock: Clock) -> None:
        self._settings = settings
        self._proxy = proxy
        self._clock = clock
        self.state: AgentState
        self._told = Verdicts(refused={}, hosts={})
        self._own = settings.app_set()  # what the file wants offered, as it is now
        self._news = trio.Event()  # what is to be offered may be another

    # --- Who it is -------------------------------------------------------------------------------

    async def enter(self, state: AgentState | None) -> AgentState:
        """Return an identity that is good now: the kept one, renewed if need be, or a new one."""
        if state is not None:
            try:
                if state.is_due(self._clock()):
                    state = await self._renewed(state)
                self._check_may_offer(state)
            except AccessDenied as denied:
                if self._settings.token is None:
                    if isinstance(denied, OutOfTime):
                        denied.hint = _whose_time(self._settings.folder)
                    raise
                logger.warning("this agent's identity does not do (%s); it joins anew", denied)
            else:
                return state
        return await self._joined()

    def _check_may_offer(self, state: AgentState) -> None:
        """Raise AccessDenied when the identity lets this agent offer none of its applications.

        When it lets it offer some, the cluster refuses the others one by one.
        """
        certificate = load_certificate(state.certificate).public_bytes(Encoding.DER)
        allowed = identity_of(
            certificate,
            authorities=state.authorities,
            expected_kinds=_AGENT,
            now=self._clock(),
        ).apps
        wanted = [app.name for app in self._settings.apps]
        if self._settings.debug_app:
            wanted.append(debug_app.DEFINITION.name)
        if allowed is None or not wanted or not set(wanted).isdisjoint(allowed):
            return
        raise AccessDenied(
            f"this agent's join token lets it offer only {', '.join(allowed)};"
            f" it was told to offer {', '.join(wanted)}",
            hint=f"make a token for it: tport tokens add --type=app --app-name={wanted[0]};"
            " and start the agent again with that one",
        )

    async def _joined(self) -> AgentState:
        if self._settings.token is None:
            raise ConfigError(
                "this agent has not joined a cluster, and has no token to join with",
                hint="make one on the auth service: tport tokens add --type=app --format=text\n"
                + _whole_line(self._settings, str(self._proxy))
                + "\nor: auth_token in the file, or $TPORT_TOKEN_FILE",
            )
        token = await self._settings.token()
        state = await join_cluster(
            self._proxy,
            token,
            hostname=self._settings.hostname,
            pins=self._settings.pins,
            insecure=self._settings.insecure,
            clock=self._clock,
        )
        self._check_may_offer(state)
        await trio.to_thread.run_sync(save_state, self._settings.folder, state)
        logger.info("joined cluster %s as %s", state.authorities.cluster, state.host_id)
        return state

    async def _renewed(self, state: AgentState) -> AgentState:
        """Renew; when that can't be now, go on with what is there while it is good."""
        while True:
            state = await self._with_next_key(state)
            try:
                fresh = await renew_identity(state, self._proxy, self._clock)
            except (*_PASSING, Locked) as problem:
                if state.is_valid(self._clock()):
                    return state
                logger.warning("can't renew yet the certificate that doesn't count: %s", problem)
                await trio.sleep(TICK)
            else:
                await self._keep(fresh)
                return fresh

    async def _with_next_key(self, state: AgentState) -> AgentState:
        """Return the state with the key to renew for, written down before anybody hears of it.

        On a full disk that is the key we have: whatever comes then, what is there can renew.
        """
        if state.next_key not in ("", state.key):
            return state
        following = replace(state, next_key=make_key())
        try:
            await trio.to_thread.run_sync(save_state, self._settings.folder, following)
        except ConfigError as problem:
            logger.error("the next key is not kept, so the last one stays: %s", problem)  # noqa: TRY400 - no bug
            return replace(state, next_key=state.key)
        return following

    async def _keep(self, renewed: AgentState) -> None:
        """Write the renewed certificate down; a full disk costs a restart its renewal, no more."""
        try:
            await trio.to_thread.run_sync(save_state, self._settings.folder, renewed)
        except ConfigError as problem:
            logger.error("the renewed certificate is not kept: %s", problem)  # noqa: TRY400 - no bug

    async def _keep_identity(self, keeper: TunnelKeeper) -> NoReturn:
        """Renew the certificate at half its life, and have the tunnels replaced."""
        wait = TICK
        while True:
            if not self.state.is_due(self._clock()):
                wait = TICK
                await trio.sleep(TICK)
                continue
            self.state = await self._with_next_key(self.state)
            try:
                self.state = await renew_identity(self.state, self._proxy, self._clock)
            except OutOfTime as problem:  # no end: one of the clocks is wrong, and may be put right
                hint = _whose_time(self._settings.folder)
                logger.warning("certificate not renewed yet, auth says: %s; %s", problem, hint)
            except (*_PASSING, Locked) as problem:
                logger.warning("certificate not renewed yet: %s", problem)
            else:
                logger.info("certificate renewed until %s", self.state.expires.isoformat())
                keeper.renewed()
                await self._keep(self.state)
            await trio.sleep(wait)  # after a success too: by a clock far off it is due again
            wait = min(2 * wait, RENEWAL_RETRY)

    # --- Running ---------------------------------------------------------------------------------

    async def run(self, stop: trio.Event, drain: float, task_status: trio.TaskStatus[None]) -> None:
        authorities = self.state.authorities
        async with (
            open_remote_auth(self._dial_auth) as auth,
            closing_offers() as offered,
            trio.open_nursery() as nursery,
        ):
            events = EventQueue(auth)
            offers = AgentOffers(
                offered, nursery, hostname=self._settings.hostname, clock=self._clock
            )
            # Each dynamic label has its first value before anything is offered.
            await offers.take(self._own)
            if not offered and not self._settings.may_be_idle and not self._own.matchers:
                raise _nothing_to_offer()
            cache = AuthCache(auth, self._clock, stops=stop.is_set)
            apps = AgentApps(
                offered=offered,
                cache=cache,
                events=events,
                cluster=authorities.cluster,
                clock=self._clock,
            )
            prober = Prober(
                offered,
                auth,
                public_address=self._public_address,
                hostname=self._settings.hostname,
                clock=self._clock,
            )
            health = HealthWatch(offered, auth)
            icons = Icons(
                offered,
                auth,
                public_address=self._public_address,
                hostname=self._settings.hostname,
            )

            def told(change: Change | None) -> None:
                if isinstance(change, ProbeAsked):
                    prober.ask(change)
                elif isinstance(change, IconAsked):
                    icons.ask(change)
                else:
                    if isinstance(change, AppDefined | AppUndefined | None):
                        self._news.set()
                    apps.changed(change)
                    if change is None:
                        health.tell_again()

            cache.on_change = told
            keeper = TunnelKeeper(
                agent_id=self.state.host_id,
                hostname=self._settings.hostname,
                cluster=authorities.cluster,
                dial=self._dial_tunnel,
                take=apps.take,
                offers=offers.message,
                on_verdicts=self._tell_verdicts,
            )
            measured = Measured(
                keeper=keeper,
                apps=apps,
                offered=offered,
                cache=cache,
                events=events,
                expires=lambda: self.state.expires,
                clock=self._clock,
            )
            self._settings.board.add("agent", measured.figures, measured.troubles)
            nursery.start_soon(events.keep)
            nursery.start_soon(prober.keep)
            nursery.start_soon(icons.keep)
            nursery.start_soon(apps.keep)
            nursery.start_soon(self._keep_identity, keeper)
            nursery.start_soon(self._tick, apps, offered)
            await nursery.start(cache.keep)
            await offers.take(with_dynamic(self._own, cache.apps))

            def changed() -> None:
                keeper.offer_again()
                apps.judge_again()

            offers.on_change = changed
            await nursery.start(keeper.keep)
            nursery.start_soon(self._keep_offers, offers, cache)
            nursery.start_soon(health.keep)
            if self._settings.next_apps is not None:
                nursery.start_soon(self._keep_own, self._settings.next_apps)
            task_status.started()
            await stop.wait()
            with trio.move_on_after(drain):
                await keeper.retire()
                await apps.wait_idle()
            with trio.move_on_after(LAST_EVENTS):
                await events.wait_sent()
            nursery.cancel_scope.cancel()

    async def _keep_own(self, next_apps: Callable[[], Awaitable[AppSet]]) -> NoReturn:
        """Follow the file."""
        while True:
            self._own = await next_apps()
            self._news.set()

    async def _keep_offers(self, offers: AgentOffers, cache: AuthCache) -> NoReturn:
        """Offer what the file and auth want, each time that either has changed."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await offers.take(with_dynamic(self._own, cache.apps))

    async def _dial_auth(self) -> trio.abc.Stream:
        # The certificate of now, not the one at the start: it is renewed while we run.
        authorities = self.state.authorities
        try:
            return await auth_dial(self._proxy, self.state.pair, authorities.host, self._clock)()
        except ConnectionProblem as problem:
            if not isinstance(problem.__cause__, ssl.SSLCertVerificationError):
                raise
            raise ConnectionProblem(
                f"what answers at {self._proxy} is not of cluster {authorities.cluster!r}, which"
                " this agent joined; to join another, give it a --data-dir and a token of its own"
            ) from problem

    async def _dial_tunnel(self, proxy_id: str) -> Dialled:
        state = self.state
        context = tunnel_client_context(state.pair, state.authorities.host, proxy_id=proxy_id)
        stream = await dial_through_proxy(self._proxy.host, self._proxy.port)
        tls = await connect_tls(stream, context, server_name=self._proxy.host, alpn=ALPN_TUNNEL)
        certificate = tls.peer_certificate
        if certificate is None:
            await trio.aclose_forcefully(tls)
            raise ConnectionProblem("the proxy showed no certificate")
        try:
            proxy = identity_of(
                certificate,
                authorities=state.authorities,
                expected_kinds=_PROXY,
                now=self._clock(),
            )
        except AccessDenied as denied:
            await trio.aclose_forcefully(tls)
            raise ConnectionProblem(
                f"what answers at {self._proxy} is not the cluster's proxy: {denied.reason}"
            ) from None
        return Dialled(tls, proxy.name)

    def _public_address(self, name: str) -> str:
        """Return host[:port] of an application: what a proxy told, else what it would tell."""
        return self._told.hosts.get(name) or f"{name}.{self._proxy.host}:{self._proxy.port}"

    def _tell_verdicts(self, verdicts: Verdicts) -> None:
        """Say what is news: every proxy tells all of it whenever any of it changes."""
        for name, address in verdicts.hosts.items():
            if self._told.hosts.get(name) != address:
                logger.info("application %s is at https://%s", name, address)
        for name, reason in verdicts.refused.items():
            if self._told.refused.get(name) != reason:
                logger.error("application %s was refused by the cluster: %s", name, reason)
        self._told = verdicts

    async def _tick(self, apps: AgentApps, offered: dict[str, Offered]) -> NoReturn:
        while True:
            await trio.sleep(TICK)
            apps.judge_again()
            for offer in list(offered.values()):  # which may change while one is closed
                await offer.upstream.close_idle()


def _whose_time(folder: Path) -> str:
    """Return what to do about a certificate whose time is not now, by auth's clock."""
    return (
        "put right whichever clock is wrong; if none is, this agent was off for too long, and joins"
        f" anew by a new token: delete {folder}"
    )


def _nothing_to_offer() -> ConfigError:
    return ConfigError(
        "the agent has no application to offer",
        hint="name one: --app-name=NAME --app-uri=URI, or app_service.apps in the file",
    )


def _whole_line(settings: AgentSettings, proxy: str) -> str:
    """Return the command that starts this agent, with what it was told and places for the rest."""
    name, uri = "NAME", "http://localhost:PORT"
    if settings.apps:
        name, uri = settings.apps[0].name, settings.apps[0].uri
    return (
        f"tport start --roles=app --token=FILE --auth-server={proxy}"
        f" --app-name={name} --app-uri={uri}"
    )


def hostname_of(nodename: str) -> str:
    """Return what this machine calls itself, fit for a header."""
    name = nodename or socket.gethostname()
    return name if name.isascii() and name.isprintable() else "agent"
