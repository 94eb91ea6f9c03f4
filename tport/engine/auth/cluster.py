"""What every part of auth stands on: the cluster's name, settings, clock, storage, keys, audit."""

from __future__ import annotations

import logging
import os
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar, get_args

from msgspec.structs import replace

from tport.engine.api.answers import Authorities, ProxyKeys
from tport.engine.auth.preference import RECORD, InForce, in_force, set_in_file
from tport.engine.auth.seal import KEY_BYTES
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.auth.stores import ClusterRecord, Store, Stores
from tport.engine.defaults import UP_DOMAIN
from tport.engine.errors import AlreadyExists, ConfigError, InvalidRequest
from tport.engine.pki.authority import (
    Authority,
    AuthorityKind,
    SigningAlgorithm,
    bundle_pin,
    new_authority,
    permits,
)
from tport.engine.pki.jwt import jwks
from tport.engine.proto.host import normalise_host, split_host
from tport.engine.storage.backend import Backend
from tport.engine.types.chain import ChainReport, ChainState
from tport.engine.types.event import Event, event
from tport.engine.types.event_query import EventPage, EventQuery, LogName
from tport.engine.types.factor import ON, FactorPolicy
from tport.engine.types.request_record import RequestRecord
from tport.engine.types.role import PRESETS
from tport.engine.types.setting import Setting
from tport.engine.types.token import JoinRole

logger = logging.getLogger(__name__)

T = TypeVar("T")
Clock = Callable[[], datetime]

SECRET_BYTES: Final = 32  # of a cookie, a code, a link. Source: security.md AUTH-07


class Audit(Protocol):
    """What auth needs of the audit log; `audit.trail.Trail` is one, and says what each does."""

    @property
    def lost(self) -> int: ...

    async def emit(self, event: Event) -> None: ...
    async def record(self, event: Event) -> None: ...
    async def record_requests(self, records: Sequence[RequestRecord], origin: str) -> None: ...
    async def search(self, query: EventQuery, *, cursor: str, limit: int) -> EventPage: ...
    async def follow(self, query: EventQuery, *, cursor: str, limit: int) -> EventPage: ...
    async def check(self, log: LogName, state: ChainState) -> ChainReport: ...


@dataclass(frozen=True, kw_only=True)
class StaticToken:
    """A join token that stands in the configuration file and never expires."""

    secret: str
    roles: tuple[JoinRole, ...] = ("app",)

    def __repr__(self) -> str:
        return "StaticToken(…)"


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """What the operator decides.

    Attributes:
        cluster: its name; fixed at the first start.
        proxy_addrs: host:port of the proxies, the main one first; what live proxies report
            is added.
        jwt_algorithm: of the JWT key, when it is made.
        static_tokens: join tokens of the file.
        second_factor: what is demanded beside a password, unless that was changed since.
        local_auth: whether passwords sign in, likewise; else identity providers alone do.
        web_idle: who makes no request for so long is signed out, likewise; zero: never.
        shown: every setting of the process as text, with its origin: what the file sets stays.
        seal_key: KEY_BYTES that seal second factors in storage, from a file beside it. The
            default is forgotten with the process.
    """

    cluster: str
    proxy_addrs: tuple[str, ...] = ()
    jwt_algorithm: SigningAlgorithm = "ES256"
    static_tokens: tuple[StaticToken, ...] = ()
    second_factor: FactorPolicy = ON
    local_auth: bool = True
    web_idle: timedelta = timedelta(0)
    shown: tuple[Setting, ...] = ()
    seal_key: bytes = field(default_factory=lambda: os.urandom(KEY_BYTES), repr=False)

    @property
    def sign_in(self) -> InForce:
        return InForce(
            second_factor=self.second_factor, web_idle=self.web_idle, local_auth=self.local_auth
        )


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """See the module. Made by `open_cluster`; holds the private keys, so it has no repr of them."""

    name: str
    settings: AuthSettings
    clock: SteadyClock
    stores: Stores
    audit: Audit
    keys: Mapping[AuthorityKind, Authority]
    proxy_keys: ProxyKeys

    def __repr__(self) -> str:
        return f"Cluster({self.name})"

    @property
    def authorities(self) -> Authorities:
        return Authorities(
            cluster=self.name,
            host=self.keys["host"].trusted,
            web=self.keys["web"].trusted,
            user=self.keys["user"].trusted,
            jwks=jwks(self.keys["jwt"]),
        )

    @property
    def pin(self) -> str:
        return bundle_pin(self.keys["host"].trusted, self.keys["web"].trusted)

    async def sign_in(self) -> InForce:
        """Return how people sign in at this moment; read from storage at each question."""
        stored = await self.stores.preference.find(RECORD)
        return in_force(stored, self.settings.sign_in, set_in_file(self.settings.shown))

    async def emit(self, type_: str, **fields: object) -> None:
        """Hand an event to the audit log. For what was refused: it doesn't wait for the disk."""
        await self.audit.emit(event(type_, **fields))

    async def record(self, type_: str, **fields: object) -> None:
        """Write an event, and only then return: what can't be written down isn't done.

        Raises:
            Unavailable: the audit log can't be written.
        """
        await self.audit.record(event(type_, **fields))


def new_secret() -> str:
    """Return what its holder shows and storage never keeps: 256 bits, base64url."""
    return secrets.token_urlsafe(SECRET_BYTES)


async def open_cluster(
    settings: AuthSettings, backend: Backend, audit: Audit, clock: SteadyClock
) -> Cluster:
    """Load the cluster; at its first start make it.

    Whatever is missing is created, and whoever creates first wins: two auth services that start
    at once agree.

    Raises:
        ConfigError: storage holds another cluster.
    """
    stores = Stores(backend)
    now = clock()
    record = await _agree(
        stores.cluster, "cluster", lambda: ClusterRecord(name=settings.cluster, created=now)
    )
    if record.name != settings.cluster:
        raise ConfigError(
            f"this data directory holds cluster {record.name!r}, the configuration says "
            f"{settings.cluster!r}; a cluster's name can't change, every certificate says it",
            hint=f"set cluster_name: {record.name}, or give another data_dir",
        )
    keys: dict[AuthorityKind, Authority] = {}
    for kind in get_args(AuthorityKind):
        keys[kind] = await _agree(
            stores.authorities, kind, partial(_make_authority, kind, settings, now)
        )
    keys["web"] = await _widen_web(stores, keys["web"], settings, now)
    proxy_keys = await _agree(stores.proxy_keys, "proxy_keys", _make_proxy_keys)
    for role in PRESETS.values():
        await _agree(stores.roles, role.name, partial(copy, role))
    return Cluster(
        name=record.name,
        settings=settings,
        clock=clock,
        stores=stores,
        audit=audit,
        keys=keys,
        proxy_keys=proxy_keys,
    )


async def _agree(store: Store[T], name: str, make: Callable[[], T]) -> T:
    """Return the record; when there is none, what is made here or by who is quicker."""
    if (found := await store.find(name)) is not None:
        return found
    try:
        await store.create(name, make())
    except AlreadyExists:
        pass
    return await store.get(name)


def _make_authority(kind: AuthorityKind, settings: AuthSettings, now: datetime) -> Authority:
    if kind == "web":
        return new_authority(kind, settings.cluster, now=now, names=_web_names(settings))
    return new_authority(kind, settings.cluster, now=now, algorithm=settings.jwt_algorithm)


async def _widen_web(
    stores: Stores, web: Authority, settings: AuthSettings, now: datetime
) -> Authority:
    """Make the next web authority when the proxy got an address that this one may not sign for."""
    names = _web_names(settings)
    if all(permits(web.trusted[0], name) for name in names):
        return web
    logger.warning(
        "the proxy has a new address (%s): a new web CA is made, which browsers must be told to "
        "trust; join tokens made before carry the old pin",
        ", ".join(name for name in names if not permits(web.trusted[0], name)),
    )
    made = new_authority("web", web.cluster, now=now, names=names, generation=web.generation + 1)
    made = replace(made, trusted=(*made.trusted, *web.trusted))
    read = await stores.authorities.read("web")
    if read.value.generation != web.generation:
        return read.value
    await stores.authorities.swap("web", read, made)
    return made


def _web_names(settings: AuthSettings) -> list[str]:
    """Return what the web authority may sign for: the proxies' hosts, else the cluster's name."""
    hosts = [host_of(address).strip("[]") for address in settings.proxy_addrs]
    try:
        return list(dict.fromkeys(hosts)) or [normalise_host(settings.cluster)]
    except InvalidRequest:  # a cluster may have any name
        return [UP_DOMAIN]


def host_of(address: str) -> str:
    """Return the normal host of `host:port` or of a bare host."""
    return split_host(address.encode())[0]


def _make_proxy_keys() -> ProxyKeys:
    seal, forms = (b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    return ProxyKeys(seal=seal, forms=forms)
