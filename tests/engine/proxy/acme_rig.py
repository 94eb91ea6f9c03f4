"""Proxies that want certificates, over auth in memory and a CA in memory; time is the test's."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from tests.acme_ca import DIRECTORY, FakeCa
from tests.engine.auth.world import GRAFANA, PROXY, World, open_world
from tests.fakes import START, WallClock
from tport.engine.api.answers import ProxyReport
from tport.engine.api.cache import AuthCache
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import PRESENCE_INTERVAL
from tport.engine.errors import ConnectionProblem
from tport.engine.proto.acme import Request
from tport.engine.proto.acme_answers import Response
from tport.engine.proxy.acme_part import AcmePart
from tport.engine.proxy.acme_settings import AcmeSettings
from tport.engine.types.acme import AcmeState
from tport.engine.types.certificate import CertState

GRAFANA_HOST = f"grafana.{PROXY}"


class RunningClock(WallClock):
    """Moves with trio's time, which jumps in tests; `ahead` moves it alone, for days and months."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return START + self.ahead + timedelta(seconds=trio.current_time())


class Line:
    """The way to the CA. `down`: nothing gets there; `hold`: answers wait until it is set."""

    def __init__(self, ca: FakeCa) -> None:
        self.ca = ca
        self.down = False
        self.hold: trio.Event | None = None
        self.tried = 0

    async def __call__(self, request: Request) -> Response:
        self.tried += 1
        await trio.sleep(0.1)
        if self.down:
            raise ConnectionProblem("the CA can't be reached")
        if self.hold is not None:
            await self.hold.wait()
        return self.ca.answer(request)


class OneProxy:
    """What of a proxy has to do with certificates by ACME."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.name = name
        self.auth: AuthAPI = rig.world.caller("proxy", name=name)
        self.cache = AuthCache(self.auth, rig.clock)
        self._scope = trio.CancelScope()
        self.reload = trio.Event()  # set: the operator asks for one
        self.part = AcmePart(
            rig.settings,
            auth=self.auth,
            cache=self.cache,
            clock=rig.clock,
            own_hosts={PROXY},
            is_known=lambda host: host in rig.hosts,
            has_file=lambda host: host in rig.with_file,
            port_suffix="",
            asked=self._asked,
            transport=rig.line,
        )
        self.cache.on_change = lambda change: self.part.changed(anew=change is None)

    async def _asked(self) -> None:
        await self.reload.wait()
        self.reload = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            nursery.start_soon(self._keep_presence)
            await nursery.start(self.cache.keep)
            nursery.start_soon(self.part.keep)
            task_status.started()

    @property
    def is_running(self) -> bool:
        return not self._scope.cancel_called

    def end(self) -> None:
        """End it as a power cut does."""
        self._scope.cancel()

    async def _keep_presence(self) -> None:
        while True:
            report = ProxyReport(proxy_id=self.name, public_addrs=(f"{PROXY}:443",), tunnels=())
            await self.auth.report(report=report)
            await trio.sleep(PRESENCE_INTERVAL)

    async def context(self, host: str) -> ssl.SSLContext | None:
        [source] = self.part.sources
        return await source.context_for(host)

    def state(self, host: str) -> CertState:
        [source] = self.part.sources
        [state] = source.states(host)
        return state

    def shows(self, kind: str, name: str, token: str) -> bool:
        """Tell whether a CA that comes here is shown what it asks for."""
        proofs = self.part._proofs
        assert proofs is not None
        return proofs._challenge(kind, name, token) is not None


class Rig:
    def __init__(
        self, world: World, clock: RunningClock, nursery: trio.Nursery, settings: AcmeSettings
    ) -> None:
        self.world = world
        self.clock = clock
        self.settings = settings
        self.ca = FakeCa(clock)
        self.line = Line(self.ca)
        self.hosts = {PROXY, GRAFANA_HOST}
        self.with_file: set[str] = set()
        self.proxies: list[OneProxy] = []
        self._nursery = nursery
        self.ca.judge = self._look

    def _look(self, kind: str, name: str, token: str) -> dict[str, Any] | None:
        """Be the CA: come to every proxy, since it may come to any."""
        if kind == "dns-01" or all(
            p.shows(kind, name, token) for p in self.proxies if p.is_running
        ):
            return None
        return {"type": "urn:ietf:params:acme:error:unauthorized", "detail": "not shown"}

    async def proxy(self, name: str = "proxy-1") -> OneProxy:
        proxy = OneProxy(self, name)
        self.proxies.append(proxy)
        await self._nursery.start(proxy.run)
        return proxy

    async def states(self) -> dict[str, AcmeState]:
        return {state.name: state for state in await self.world.service.cluster.stores.acme.all()}

    def orders(self, name: str) -> int:
        return sum(names[0] == name for names in self.ca.orders_made)


@asynccontextmanager
async def open_rig(
    *, dns_hook: Path | None = None, by_http: bool = False, apps: Sequence[str] = ()
) -> AsyncIterator[Rig]:
    clock = RunningClock()
    settings = AcmeSettings(directory=DIRECTORY, dns_hook=dns_hook, by_http=by_http)
    async with open_world(clock=clock) as world, trio.open_nursery() as nursery:
        await world.serve(GRAFANA)
        rig = Rig(world, clock, nursery, settings)
        yield rig
        nursery.cancel_scope.cancel()
