"""What this agent offers now: made ready from its configuration, and changed while requests run."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final

import trio

from tport.engine.access.labels import check_dynamic_label, merge_labels
from tport.engine.agent import debug_app
from tport.engine.agent.labels import keep_labels
from tport.engine.agent.passage import Offered
from tport.engine.agent.rewrite import Rewriter, Sessions
from tport.engine.agent.upstream import Upstream
from tport.engine.defaults import MAX_OFFERS
from tport.engine.errors import ConfigError, InvalidRequest
from tport.engine.net.asgi import run_asgi
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.proto.tunnel import MAX_REASON, Offers
from tport.engine.types.app import App

logger = logging.getLogger(__name__)

MAX_NAME: Final = 63  # characters of a faulty one's name, which can be anything
COMMANDS: Final = 4  # dynamic labels' commands that run at a time

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class AppSet:
    """What the operator wants offered.

    Attributes:
        apps: each name once.
        faulty: name as written → why it can't be offered; people are told of it.
        debug_app: offer the application that shows requests, too.
        matchers: labels of the applications to pick up from auth.
    """

    apps: Sequence[App]
    faulty: Mapping[str, str] = field(default_factory=dict)
    debug_app: bool = False
    matchers: Sequence[Mapping[str, tuple[str, ...]]] = ()

    def definitions(self) -> Mapping[str, App]:
        """Return every application by its name; the one that is built in first: it is asked for by itself."""
        built_in = {debug_app.DEFINITION.name: debug_app.DEFINITION} if self.debug_app else {}
        return built_in | {app.name: app for app in self.apps} | built_in


class AgentOffers:
    """Keeps `offered` what the last `take` asked for, with labels as they are now."""

    def __init__(
        self, offered: dict[str, Offered], nursery: trio.Nursery, *, hostname: str, clock: Clock
    ) -> None:
        """
        Args:
            offered: changed in place; its readers see what is offered at that moment.
            nursery: in which labels are kept, and the debug app runs.
        """
        self._offered = offered
        self._faulty: dict[str, str] = {}
        self._surplus: Set[str] = frozenset()
        self._sessions = Sessions()
        self._nursery = nursery
        self._hostname = hostname
        self._clock = clock
        self._limiter = trio.CapacityLimiter(COMMANDS)
        self._labels: dict[Offered, trio.CancelScope] = {}  # of those that have dynamic ones
        self._serving = False  # the first set was taken: from now on changes are news
        self.on_change: Callable[[], None] = lambda: None  # called whenever `message()` is another

    def message(self) -> Offers:
        """Return what to tell proxies: without what never leaves the agent."""
        faulty = list(self._faulty.items())[:MAX_OFFERS]
        return Offers(
            apps=tuple(offer.app.as_offered(offer.labels) for offer in self._offered.values()),
            faulty=tuple((name[:MAX_NAME], why[:MAX_REASON]) for name, why in faulty),
        )

    async def take(self, wanted: AppSet) -> None:
        """Offer this from now on.

        What is defined as before goes on untouched. A changed application is offered as it was
        until the new one is ready, and requests that run end with the old one; one that isn't
        wanted any more is withdrawn first. A bad definition costs itself alone; of more than
        MAX_OFFERS the first are offered.
        """
        every = wanted.definitions()
        definitions = dict(islice(every.items(), MAX_OFFERS))
        self._faulty = dict(wanted.faulty)
        gone = [name for name in self._offered if name not in definitions]
        for name in gone:
            await self._drop(self._offered.pop(name))
            logger.info("application %s is no longer offered", name)
        if gone:
            self.on_change()
        before = dict(self._offered)
        made: dict[str, Offered] = {}
        async with trio.open_nursery() as making:  # at once: labels' commands take seconds
            for app in definitions.values():
                known = before.get(app.name)
                if known is not None and known.app == app:
                    made[app.name] = known
                else:
                    making.start_soon(self._make, app, made)
        self._offered.clear()
        self._offered.update({name: made[name] for name in definitions if name in made})
        self._refuse(every.keys() - definitions.keys())
        self.on_change()
        for name, old in before.items():
            if made.get(name) is not old:
                await self._drop(old)
        if self._serving:
            for name in made.keys() - before.keys():
                logger.info("application %s is offered from now on", name)
            for name in made.keys() & before.keys():
                if made[name] is not before[name]:
                    logger.info("application %s is offered as it is defined now", name)
        self._serving = True

    def _refuse(self, surplus: Set[str]) -> None:
        """Say of applications that are too many why they aren't offered: proxies would refuse all together."""
        why = f"an agent offers at most {MAX_OFFERS}; let another agent offer the rest"
        if surplus and surplus != self._surplus:
            logger.error("%s more defined than can be offered: %s", len(surplus), why)
        self._surplus = surplus
        self._faulty.update(dict.fromkeys(sorted(surplus), why))

    async def _make(self, app: App, made: dict[str, Offered]) -> None:
        """Make one application ready, its labels measured; or say why it can't be."""
        try:
            rewriter = Rewriter(app, hostname=self._hostname, sessions=self._sessions)
            for command in app.commands:
                check_dynamic_label(command)
            if app is debug_app.DEFINITION:
                dial = partial(_dial_debug_app, self._nursery)
                upstream = Upstream(app, self._clock, dial=dial)
            else:
                upstream = await trio.to_thread.run_sync(Upstream, app, self._clock)
        except (InvalidRequest, ConfigError) as bad:
            logger.error("application %s is not offered: %s", app.name, bad)  # noqa: TRY400 - no bug
            self._faulty[app.name] = str(bad)
            return
        if app.insecure_skip_verify:
            logger.warning("application %s: its certificate is not verified", app.name)
        if app.allow_metadata:
            logger.warning("application %s: it may be where clouds keep credentials", app.name)
        offer = Offered(app, upstream, rewriter)
        if app.commands:
            await self._nursery.start(self._keep_labels, offer)
        made[app.name] = offer

    async def _keep_labels(self, offer: Offered, *, task_status: trio.TaskStatus[None]) -> None:
        def publish(labels: Mapping[str, str]) -> None:
            offer.labels = dict(merge_labels(offer.app.labels, labels))
            if self._offered.get(offer.app.name) is offer:
                self.on_change()

        with trio.CancelScope() as scope:
            self._labels[offer] = scope
            await keep_labels(
                offer.app.commands, publish, limiter=self._limiter, task_status=task_status
            )

    async def _drop(self, offer: Offered) -> None:
        """Let go of one that is offered no longer; its requests may still run."""
        if offer in self._labels:
            self._labels.pop(offer).cancel()
        await offer.upstream.retire()


@asynccontextmanager
async def closing_offers() -> AsyncIterator[dict[str, Offered]]:
    """Hold the offers, and close their kept connections in the end."""
    offered: dict[str, Offered] = {}
    try:
        yield offered
    finally:
        with trio.CancelScope(shield=True):  # each close is immediate
            for offer in offered.values():
                await offer.upstream.retire()


async def _dial_debug_app(nursery: trio.Nursery) -> trio.abc.Stream:
    """Connect to the debug app, which runs right here, over a pair of sockets."""
    ours, its = (trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair())
    nursery.start_soon(_serve_debug_app, its)
    return ours


async def _serve_debug_app(stream: trio.SocketStream) -> None:
    async def answer(exchange: Exchange) -> None:
        await run_asgi(debug_app.debug_app, exchange, scheme="http")

    await serve_http1(stream, answer)
