"""The auth service: its parts put together, its clockwork kept going."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, NoReturn

import trio

from tport.engine.access.limits import AddressLimiter
from tport.engine.api.answers import Authorities
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.acme.account import AcmeAccounts
from tport.engine.auth.acme.acme import Acme
from tport.engine.auth.acme.holders import AcmeHolders
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.apps.catalogue import Catalogue
from tport.engine.auth.apps.icons import Icons
from tport.engine.auth.apps.probes import Probes
from tport.engine.auth.apps.shelf import Shelves
from tport.engine.auth.calls.calls import Calls
from tport.engine.auth.cluster import Audit, AuthSettings, Cluster, open_cluster
from tport.engine.auth.factors.attempts import Attempts
from tport.engine.auth.factors.devices import Devices
from tport.engine.auth.factors.proving import Proving
from tport.engine.auth.joining.approval import Approval
from tport.engine.auth.joining.join import Join
from tport.engine.auth.joining.tokens import Tokens
from tport.engine.auth.machines.certificates import Certificates
from tport.engine.auth.machines.health import Healths
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.machines.watch import Watches
from tport.engine.auth.people.account import Account
from tport.engine.auth.people.requests import Requests
from tport.engine.auth.people.users import Users
from tport.engine.auth.refusals import Refusals
from tport.engine.auth.resources.resources import Resources
from tport.engine.auth.rights.locks import Locks
from tport.engine.auth.rights.role_editing import RoleEditing
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.sessions.device_tokens import DeviceTokens
from tport.engine.auth.sessions.launch import Launcher
from tport.engine.auth.sessions.session_list import SessionList
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.sessions.set_back import SetBack
from tport.engine.auth.signin.failures import Failures
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.auth.signin.known import KnownBrowsers
from tport.engine.auth.signin.login import Login
from tport.engine.auth.signin.preference_editing import PreferenceEditing
from tport.engine.auth.signin.steps import Steps
from tport.engine.auth.sso.connectors import Connectors
from tport.engine.auth.sso.leaving import Departures
from tport.engine.auth.sso.people import Arrivals
from tport.engine.auth.sso.provider import HttpsTransport, Providers, Transport
from tport.engine.auth.sso.signing_in import SingleSignOn
from tport.engine.auth.sso.trying import Trying
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.defaults import LOGIN_BURST, LOGINS_PER_MINUTE
from tport.engine.errors import Unavailable
from tport.engine.pki.keys import KeyPair
from tport.engine.storage.backend import Backend
from tport.engine.types.identity import Identity, IdentityKind

logger = logging.getLogger(__name__)

TICK: Final = 1.0  # s between looks at who has fallen silent
BACKWARDS: Final = timedelta(
    minutes=5
)  # a clock set back further than this is told. Source: design


@asynccontextmanager
async def open_auth_service(
    *,
    backend: Backend,
    audit: Audit,
    clock: SteadyClock,
    settings: AuthSettings,
    transport: Transport | None = None,
    monotonic: Callable[[], float] = trio.current_time,
) -> AsyncIterator[AuthService]:
    """Open the cluster in `backend`, made at its first start, and keep it going.

    Args:
        clock: the one that `backend` was opened with.
        transport: what carries requests to identity providers; None: HTTPS.
        monotonic: returns s, by which proxies fall silent.

    Raises:
        ConfigError: the settings contradict what is stored, or each other.
        Unavailable: storage can't answer.
    """
    cluster = await open_cluster(settings, backend, audit, clock)
    service = AuthService(cluster, transport, monotonic)
    await service.set_back.begin()
    await service.locks.begin()
    await service.preference.tell_overruled()
    async with trio.open_nursery() as nursery:
        await nursery.start(service.watches.keep)
        nursery.start_soon(service.keep_time)
        try:
            yield service
        finally:
            nursery.cancel_scope.cancel()


class AuthService:
    """All of auth. Its parts know the nouns; `as_caller` says who may ask them what."""

    def __init__(
        self,
        cluster: Cluster,
        transport: Transport | None = None,
        monotonic: Callable[[], float] = trio.current_time,
    ) -> None:
        """See `open_auth_service`."""
        self.cluster = cluster
        self.refusals = Refusals(cluster)
        self.presence = Presence(monotonic, cluster.settings.proxy_addrs)
        self.healths = Healths(cluster.clock)
        self.roles = Roles(cluster)
        self.locks = Locks(cluster, self.presence)
        self.sessions = Sessions(cluster, self.roles, self.locks)
        self.failures = Failures(cluster)
        self.set_back = SetBack(cluster, self.locks, self.failures.locked_ahead)
        self.session_list = SessionList(cluster, self.sessions)
        hasher = self.hasher = Hasher()
        limiter = AddressLimiter(cluster.clock, per_minute=LOGINS_PER_MINUTE, burst=LOGIN_BURST)
        self.devices = Devices(cluster, self.presence)
        known = KnownBrowsers(cluster)
        attempts = Attempts(cluster)
        proving = Proving(cluster, self.devices, attempts)
        self.steps = Steps(
            cluster,
            hasher,
            self.sessions,
            self.devices,
            self.failures,
            known,
            attempts,
            proving,
            limiter,
        )
        self.account = Account(
            cluster, hasher, self.sessions, self.devices, self.failures, known, attempts, proving
        )
        self.users = Users(cluster, hasher, self.sessions, self.steps, self.devices, self.presence)
        self.login = Login(
            cluster, hasher, self.sessions, self.steps, self.failures, known, limiter
        )
        self.apps = Apps(cluster, self.presence)
        self.role_editing = RoleEditing(cluster, self.roles, self.presence)
        self.shelves = Shelves(cluster)
        self.device_tokens = DeviceTokens(cluster, self.roles, self.sessions, self.apps)
        self.launcher = Launcher(
            cluster, self.roles, self.sessions, self.apps, self.device_tokens, self.refusals
        )
        self.tokens = Tokens(cluster, self.presence, self.apps)
        self.joining = Join(cluster, self.tokens, self.locks)
        self.approval = Approval(cluster, self.joining)
        self.watches = Watches(cluster, self.presence, self.healths)
        self.icons = Icons(self.presence, self.watches)
        self.certificates = Certificates(self.presence)
        self.catalogue = Catalogue(
            cluster,
            self.presence,
            self.healths,
            self.apps,
            self.roles,
            self.shelves,
            self.icons,
            self.certificates,
        )
        self.probes = Probes(cluster, self.presence, self.watches)
        self.requests = Requests(cluster, self.roles, self.users, self.apps)
        self.preference = PreferenceEditing(cluster)
        connectors = Connectors(cluster, self.roles, self.presence)
        self.trying = Trying(cluster, connectors, self.roles, self.presence)
        self.sso = SingleSignOn(
            cluster,
            connectors=connectors,
            providers=Providers(cluster.clock, transport or HttpsTransport()),
            arrivals=Arrivals(cluster, self.roles, self.users, self.sessions),
            trying=self.trying,
            roles=self.roles,
            sessions=self.sessions,
            steps=self.steps,
            limiter=limiter,
        )
        self.departures = Departures(cluster, self.users, self.devices)
        self.resources = Resources(
            cluster,
            self.presence,
            connectors=connectors,
            preference=self.preference,
            roles=self.roles,
            users=self.users,
            tokens=self.tokens,
            locks=self.locks,
        )
        self.acme = Acme(cluster, self.presence, self.apps)
        self.acme_accounts = AcmeAccounts(cluster)
        self.acme_holders = AcmeHolders(cluster.stores, self.presence)

    def as_caller(self, identity: Identity | None, remote: str) -> AuthAPI:
        """Return AuthAPI as this caller may use it.

        Args:
            identity: what the caller's certificate says, verified; None: it showed none.
            remote: the caller's address, for limits and the audit log.
        """
        return Calls(self, identity, remote)

    @property
    def authorities(self) -> Authorities:
        return self.cluster.authorities

    @property
    def pin(self) -> str:
        """The pin that join tokens carry: SHA-256 hex of the host and web authorities."""
        return self.cluster.pin

    def issue_own_identity(self, kind: IdentityKind, host_id: str) -> KeyPair:
        """Make a host certificate and key for a service in this process (HOST_CERTIFICATE_TTL)."""
        return self.joining.host_identity(kind, host_id)

    def issue_admin_identity(self, name: str) -> str:
        """Return what admin.pem holds: a certificate, its key, the host authorities. A secret."""
        pair = self.joining.admin_identity(name)
        return "".join((pair.chain, pair.key, *self.authorities.host))

    def degraded(self) -> tuple[str, ...]:
        """Return what is wrong though auth answers, in words; what `/readyz` and status show."""
        problems = []
        back = self.cluster.clock.set_back
        if back > BACKWARDS:
            problems.append(f"the clock was set back by {back.total_seconds() / 60:.0f} minutes")
        if self.cluster.audit.lost:
            problems.append(f"{self.cluster.audit.lost} audit events were lost")
        return tuple(problems)

    async def keep_time(self) -> NoReturn:
        """Forget who has fallen silent, each second, until cancelled."""
        while True:
            await trio.sleep(TICK)
            self.presence.tick()
            self.healths.tick()
            try:
                await self.set_back.tick()
                await self.locks.tick()
                await self.apps.tick()
                await self.requests.tick()
                await self.device_tokens.tick()
                await self.departures.tick()
            except Unavailable as problem:
                logger.warning("storage can't be read for now: %s", problem)
