"""An auth service over memory, with a clock and an audit log that tests hold in their hands."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import START, WallClock
from tests.hashes import hashes_remembered
from tport.engine.api.answers import OpenedApp, ProxyReport, SignedIn, TunnelReport
from tport.engine.api.factors import NextStep
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.service import AuthService, open_auth_service
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.auth.sso.provider import Transport
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.errors import Unavailable
from tport.engine.storage.memory import MemoryBackend, open_memory_backend
from tport.engine.types.app import App, AppServer
from tport.engine.types.chain import ChainReport, ChainState
from tport.engine.types.event import Event
from tport.engine.types.event_query import EventPage, EventQuery, LogName
from tport.engine.types.factor import OFF
from tport.engine.types.identity import Identity, IdentityKind
from tport.engine.types.request_record import RequestRecord

T = TypeVar("T")

CLUSTER = "example"
PROXY = "tport.example.com"
PASSWORD = "seven unrelated words stand here"
STATE = hashlib.sha256(b"the state cookie's value").hexdigest()


@dataclass
class MemoryAudit:
    """Keeps events. `broken`: nothing can be recorded. `is_disk`: others go on while one is."""

    events: list[Event] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)
    broken: bool = False
    is_disk: bool = False
    lost: int = 0

    async def emit(self, event: Event) -> None:
        if not self.broken:
            self.events.append(event)

    async def record(self, event: Event) -> None:
        if self.broken:
            raise Unavailable("the audit log can't be written")
        if self.is_disk:
            await wait_all_tasks_blocked()
        self.events.append(event)

    async def record_requests(self, records: Sequence[RequestRecord], origin: str) -> None:
        if self.broken:
            raise Unavailable("the log of requests can't be written")
        self.requests += records

    async def search(self, query: EventQuery, *, cursor: str, limit: int) -> EventPage:
        kept = [one for one in reversed(self.events) if not query.types or one.type in query.types]
        return EventPage(
            events=tuple({"event": one.type, **one.fields} for one in kept)[:limit], cursor=""
        )

    async def follow(self, query: EventQuery, *, cursor: str, limit: int) -> EventPage:
        return await self.search(query, cursor=cursor, limit=limit)

    async def check(self, log: LogName, state: ChainState) -> ChainReport:
        return ChainReport(findings=(), state=state, is_done=True)

    def codes(self) -> list[str]:
        return [event.code for event in self.events]


def signed_in(answer: SignedIn | NextStep) -> SignedIn:
    """Return the session of a sign-in that needed no second step."""
    assert isinstance(answer, SignedIn), answer
    return answer


class StandingTime:
    """Holds a clock that jumps (MockClock) for as long as a password is hashed.

    It sees nothing of threads: auth's ticks of each second would go on for minutes meanwhile, and take a core for it.
    """

    def __init__(self, hasher: Hasher) -> None:
        self._run = hasher.run
        self._chosen = hasher.chosen
        self._running = 0
        self._threshold = 0.0

    async def run(self, hash_: Callable[[], object]) -> object:
        return await self._held(lambda: self._run(hash_))

    async def chosen(self, password: str, **of: Any) -> str:
        return await self._held(lambda: self._chosen(password, **of))

    async def _held(self, work: Callable[[], Awaitable[T]]) -> T:
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, MockClock):
            return await work()
        if self._running == 0:
            self._threshold = clock.autojump_threshold
        self._running += 1
        clock.autojump_threshold = inf
        try:
            return await work()
        finally:
            self._running -= 1
            if self._running == 0:
                clock.autojump_threshold = self._threshold


@dataclass
class World:
    service: AuthService
    clock: WallClock
    audit: MemoryAudit
    backend: MemoryBackend

    def caller(
        self, kind: IdentityKind | None, *, name: str = "", remote: str = "192.0.2.7"
    ) -> AuthAPI:
        if kind is None:
            return self.service.as_caller(None, remote)
        identity = Identity(kind=kind, name=name or f"{kind}-1", cluster=CLUSTER)
        return self.service.as_caller(identity, remote)

    @property
    def proxy(self) -> AuthAPI:
        return self.caller("proxy")

    @property
    def admin(self) -> AuthAPI:
        return self.caller("admin")

    @property
    def agent(self) -> AuthAPI:
        return self.caller("agent")

    @property
    def anyone(self) -> AuthAPI:
        return self.caller(None)

    def pass_time(self, **how: float) -> None:
        self.clock.now += timedelta(**how)

    async def alice(self, name: str = "alice", *, roles: tuple[str, ...] = ("access",)) -> SignedIn:
        """Make a user who has accepted the invite, and return that first session."""
        invite = await self.admin.create_user(name=name, roles=roles, traits={"team": ("dev",)})
        return await self.accept(invite.url)

    async def accept(self, url: str, password: str = PASSWORD) -> SignedIn:
        return signed_in(
            await self.proxy.accept_invite(
                token=url.rpartition("/")[2], password=password, remote="192.0.2.1", user_agent="UA"
            )
        )

    async def sign_in(self, name: str = "alice", password: str = PASSWORD) -> SignedIn:
        return signed_in(
            await self.proxy.sign_in(
                username=name, password=password, remote="192.0.2.1", user_agent="UA"
            )
        )

    async def offer(
        self,
        *apps: App,
        host: str = "agent-1",
        pinned: tuple[str, ...] | None = None,
    ) -> tuple[AppServer, ...]:
        return await self.proxy.offer(
            host_id=host, hostname=host, version="1", apps=apps, pinned=pinned, pinned_uri=""
        )

    async def tunnel(self, *servers: AppServer, proxy: str = "proxy-1") -> None:
        """Report what agents offer through one proxy; what isn't named is gone."""
        tunnels = tuple(
            TunnelReport(
                host_id=host,
                hostname=host,
                version="1",
                remote="192.0.2.9",
                since=START,
                servers=tuple(s for s in servers if s.host_id == host),
            )
            for host in sorted({s.host_id for s in servers})
        )
        report = ProxyReport(proxy_id=proxy, public_addrs=(f"{PROXY}:3080",), tunnels=tunnels)
        await self.caller("proxy", name=proxy).report(report=report)

    async def serve(self, *apps: App, host: str = "agent-1") -> tuple[AppServer, ...]:
        servers = await self.offer(*apps, host=host)
        await self.tunnel(*servers)
        return servers

    async def open(self, signed_in: SignedIn, host: str = f"grafana.{PROXY}") -> OpenedApp:
        """Launch an app and redeem the code, as a proxy does for a browser."""
        code = await self.proxy.launch(
            web_session=signed_in.session.id, host=host, state=STATE, age=0
        )
        return await self.proxy.redeem(code=code.code, state=STATE, host=host, remote="192.0.2.1")


GRAFANA = App(name="grafana", uri="http://localhost:3000", labels={"env": "dev"})
JENKINS = App(name="jenkins", uri="http://localhost:8080", labels={"env": "prod"})


@asynccontextmanager
async def open_world(
    *,
    settings: AuthSettings | None = None,
    clock: WallClock | None = None,
    transport: Transport | None = None,
    monotonic: Callable[[], float] | None = None,
) -> AsyncIterator[World]:
    """`monotonic`: None: it goes on, and back, as `clock` does."""
    clock = clock or WallClock()
    steady = SteadyClock(clock)
    audit = MemoryAudit()
    given = settings or AuthSettings(
        cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",), second_factor=OFF
    )
    async with (
        open_memory_backend(steady) as backend,
        open_auth_service(
            backend=backend,
            audit=audit,
            clock=steady,
            settings=given,
            transport=transport,
            monotonic=monotonic or (lambda: clock().timestamp()),
        ) as service,
    ):
        with pytest.MonkeyPatch.context() as patch, hashes_remembered():
            standing = StandingTime(service.hasher)
            patch.setattr(service.hasher, "run", standing.run)
            patch.setattr(service.hasher, "chosen", standing.chosen)
            yield World(service, clock, audit, backend)
