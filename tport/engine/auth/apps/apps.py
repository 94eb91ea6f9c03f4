"""Applications: which offers of agents count, and which application a host is.

An offer is a claim by a machine, and people send their secrets to whatever answers under the
name. So a name belongs to those who agree on its definition, and an address to one name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import trio
from msgspec.structs import replace

from tport.engine.access.cors import check_cors
from tport.engine.access.rbac import DENIED
from tport.engine.auth.apps.abandoned import ABANDONED, Abandoned, is_abandoned
from tport.engine.auth.cluster import Cluster, host_of
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.stores import SWAP_TRIES, Definition, Stored
from tport.engine.config.app_rules import depth_fault
from tport.engine.defaults import PRESENCE_TTL
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tport.engine.proto.host import is_address, normalise_host
from tport.engine.types.app import (
    App,
    AppServer,
    check_app_name,
    check_group,
    check_required_apps,
    is_label,
)

MAX_APPS: Final = 1000  # of one agent
# Names that one agent's applications have, or had within ABANDONED: each is written down, and read whenever
# an agent offers something.
MAX_NAMES: Final = 3 * MAX_APPS
MAX_LABELS: Final = 100  # of one application
MAX_HOSTS: Final = 64  # remembered of one application
MAX_REFUSALS: Final = 10_000  # remembered, so that each is told once
MAX_REMEMBERED: Final = 10_000  # applications; the one away for the longest is forgotten first
_TTL = timedelta(seconds=PRESENCE_TTL)


@dataclass(frozen=True, slots=True)
class Offered:
    """An application that people can open now, at this host.

    Attributes:
        away: not now: no agent offers it. `servers` is how it was offered last.
    """

    name: str
    host: str
    servers: tuple[AppServer, ...]
    away: bool = False


class Apps:
    def __init__(self, cluster: Cluster, presence: Presence) -> None:
        self._cluster = cluster
        self._store = cluster.stores.apps
        self._presence = presence
        self._offered: dict[str, dict[str, datetime]] = {}  # name → host id → when
        self._told: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._judging = trio.Lock()  # two agents never define one address at once
        self._were_live: set[str] = set()
        self._last: OrderedDict[str, tuple[AppServer, ...]] = OrderedDict()  # as offered last
        presence.on_change.append(self._remember_offers)
        self._swept = False
        self._abandoned = Abandoned(cluster)

    # --- What agents offer -----------------------------------------------------------------------

    async def judge(
        self,
        host_id: str,
        hostname: str,
        version: str,
        apps: tuple[App, ...],
        pinned: tuple[str, ...] | None,
        pinned_uri: str = "",
    ) -> tuple[AppServer, ...]:
        """Return one AppServer for each app, `refused` set where it doesn't count."""
        if len(apps) > MAX_APPS:
            raise InvalidRequest(f"{len(apps)} applications on one agent, at most {MAX_APPS}")
        servers: list[AppServer] = []
        seen: set[str] = set()
        async with self._judging:
            definitions = {each.app.name: each for each in await self._store.all()}
            names = sum(
                host_id in each.hosts and not self._is_abandoned(each)
                for each in definitions.values()
            )
            for app in apps:
                offer = app.as_offered(app.labels)  # one of 0.1 tells more than is to be kept
                refused = "the agent offers this name twice" if app.name in seen else ""
                refused = refused or _uri_fault(offer, pinned_uri)
                refused = refused or self._fault(offer, pinned, definitions)
                if not refused and app.name not in definitions:
                    names += 1
                    if names > MAX_NAMES:
                        refused = f"this agent has offered {MAX_NAMES} names within a day, which is all it may"
                refused = refused or await self._define(offer, host_id, pinned)
                seen.add(app.name)
                if refused and pinned_uri:
                    refused = f"{refused}; {_join_again(pinned_uri)}"
                if refused:
                    await self._tell_refusal(host_id, hostname, app.name, refused)
                else:
                    self._told.pop((host_id, app.name), None)
                    self._offered.setdefault(app.name, {})[host_id] = self._cluster.clock()
                    definitions[app.name] = Definition(app=offer, hosts=(host_id,))
                servers.append(
                    AppServer(
                        app=offer,
                        labels=offer.labels,
                        host_id=host_id,
                        hostname=hostname,
                        version=version,
                        refused=refused,
                    )
                )
        return tuple(servers)

    def _fault(
        self,
        app: App,
        pinned: tuple[str, ...] | None,
        definitions: Mapping[str, Definition],
    ) -> str:
        """Return why this offer can't count whoever else offers the name, "" when it can."""
        try:
            check_app_name(app.name)
        except InvalidRequest as problem:
            return str(problem)
        if pinned is not None and app.name not in pinned:
            return f"this agent's join token lets it offer only {', '.join(pinned) or 'nothing'}"
        if len(app.labels) > MAX_LABELS:
            return f"{len(app.labels)} labels, at most {MAX_LABELS}"
        for key, value in app.labels.items():
            if not is_label(key, value):
                return f"label {key[:80]!r}: the key or the value can't be a label"
        try:
            _check_settings(app)
        except InvalidRequest as problem:
            return str(problem)
        if app.public_addr and (fault := self._address_fault(app, pinned)):
            return fault
        proxies = self._proxy_hosts()  # read once: there may be a thousand definitions
        own = _hosts(app, proxies)
        for other in definitions.values():
            if other.app.name == app.name or self._is_abandoned(other):
                continue
            if taken := own & _hosts(other.app, proxies):
                return f"the address {min(taken)} belongs to application {other.app.name!r}"
        return ""

    def _address_fault(self, app: App, pinned: tuple[str, ...] | None) -> str:
        """Return why `public_addr` may not be an application's."""
        address = app.public_addr
        try:
            normal = normalise_host(address)
        except InvalidRequest:
            return f"public_addr {address[:80]!r} is no host name"
        if is_address(normal):
            return f"public_addr {address!r} is an IP address; applications need names"
        if "." not in normal:
            return f"public_addr {address!r} has no domain"
        proxies = self._proxy_hosts()
        for proxy in proxies:
            if normal == proxy:
                return f"public_addr {address!r} is the proxy's own"
            if proxy.endswith(f".{normal}"):
                return f"public_addr {address!r} is a parent of the proxy's {proxy}"
        label, _, parent = normal.partition(".")
        if parent in proxies:
            if pinned is not None and label != app.name:
                return f"public_addr {address!r} is another name's than the join token's"
        elif fault := depth_fault(normal, proxies):
            return f"public_addr {address!r} {fault}"
        if normal != address:
            return f"public_addr {address!r}: write {normal!r}"
        return ""

    async def _define(self, app: App, host_id: str, pinned: tuple[str, ...] | None) -> str:
        """Agree on the name's definition, or make it; return why not, "" when it holds."""
        wanted = replace(app, labels={}, description="")
        handed_out = await self._is_handed_out(wanted)
        made = Definition(app=wanted, hosts=(host_id,), handed_out=handed_out)
        for _ in range(SWAP_TRIES):
            try:
                read: Stored[Definition] = await self._store.read(app.name)
            except NotFound:
                try:
                    await self._store.create(app.name, made)
                except AlreadyExists:
                    continue
                return ""
            stored = read.value
            live = self._live_hosts(app.name)
            if self._agree(stored.app, wanted):
                if host_id in stored.hosts and stored.gone is None:
                    return ""
                hosts = tuple(sorted((set(stored.hosts) & live) | {host_id}))[:MAX_HOSTS]
                made = replace(made, hosts=hosts)
            elif not (handed_out and stored.handed_out):
                if live - {host_id}:
                    fields = self._differences(stored.app, wanted)
                    return (
                        "another agent offers this name with another definition"
                        f" ({', '.join(fields)} {'differ' if len(fields) > 1 else 'differs'})"
                    )
                if not self._may_replace(stored, app.name, host_id, pinned):
                    return (
                        "another agent defined this name differently and is away; it can be"
                        f" defined anew {ABANDONED.total_seconds() / 3600:.0f} hours after that"
                        " agent left, or by one whose join token names the application"
                    )
            # Else who still offers the one that was handed out before follows within seconds.
            try:
                await self._store.swap(app.name, read, made)
            except CompareFailed:
                continue
            return ""
        raise Unavailable(f"application {app.name!r} is being changed by many at once")

    async def _is_handed_out(self, wanted: App) -> bool:
        """Tell whether this is the definition that auth hands to agents now."""
        handed = await self._cluster.stores.app_resources.find(wanted.name)
        return handed is not None and self._agree(handed.as_offered({}), wanted)

    def _agree(self, one: App, other: App) -> bool:
        """Tell whether two definitions are one, however its address is written: it may be left out."""
        if self._same_hosts(one, other):
            other = replace(other, public_addr=one.public_addr)
        return one.same_definition(other)

    def _differences(self, one: App, other: App) -> list[str]:
        """Name the fields that differ; their values are not everybody's to know."""
        if self._same_hosts(one, other):
            other = replace(other, public_addr=one.public_addr)
        one, other = one.as_offered({}), other.as_offered({})  # what 0.1 stored has values
        fields = set(App.__struct_fields__) - {"description"}
        return sorted(f for f in fields if getattr(one, f) != getattr(other, f))

    def _may_replace(
        self, stored: Definition, name: str, host_id: str, pinned: tuple[str, ...] | None
    ) -> bool:
        is_pinned = pinned is not None and name in pinned
        return host_id in stored.hosts or is_pinned or self._is_abandoned(stored)

    def _is_abandoned(self, definition: Definition) -> bool:
        return is_abandoned(definition, self._cluster.clock())

    def _live_hosts(self, name: str) -> set[str]:
        """Return who offers the name now: reported by a proxy, or just judged and not yet reported."""
        now = self._cluster.clock()
        recent = {host for host, at in self._offered.get(name, {}).items() if now - at < _TTL}
        return self._presence.hosts_of(name) | recent

    async def _tell_refusal(self, host_id: str, hostname: str, name: str, reason: str) -> None:
        """Write a refusal down when it is new: agents repeat their offers."""
        if self._told.get((host_id, name)) == reason:
            return
        self._told[host_id, name] = reason
        if len(self._told) > MAX_REFUSALS:
            self._told.popitem(last=False)
        await self._cluster.emit(
            "app.refused", server_id=host_id, hostname=hostname, app_name=name[:63], error=reason
        )

    # --- What people open ------------------------------------------------------------------------

    async def at_host(self, host: str) -> Offered:
        """Return the application whose public host this is.

        Raises:
            AccessDenied: none; in the words for one that nobody may open.
            Unavailable: there was one, and auth has not heard of its agents since it began.
        """
        proxies = self._proxy_hosts()
        servers = [
            s for s in self._presence.servers if not s.refused and host in _hosts(s.app, proxies)
        ]
        if servers:
            name = servers[0].app.name
            return Offered(name, host, tuple(s for s in servers if s.app.name == name))
        for name, last in self._last.items():
            if host in _hosts(last[0].app, proxies):
                return Offered(name, host, last, away=True)
        for definition in await self._store.all():
            if host in _hosts(definition.app, proxies):
                self._check_complete(definition)
        raise AccessDenied(DENIED, reason=f"no application is at {host[:253]}")

    async def servers_of(self, name: str) -> tuple[AppServer, ...]:
        """Return the offers of this name that count now; when there are none, the last ones.

        Proxies may know of an agent before auth does, or still, as after a machine's sleep: who
        may open the application is not told otherwise meanwhile.

        Raises:
            Unavailable: as `at_host`.
        """
        servers = tuple(s for s in self._presence.servers if not s.refused and s.app.name == name)
        servers = servers or self._last.get(name, ())
        if not servers and (definition := await self._store.find(name)) is not None:
            self._check_complete(definition)
        return servers

    def last_offers(self, name: str) -> tuple[AppServer, ...]:
        """Return how an application was offered when an agent last did; (): not in this run."""
        return self._last.get(name, ())

    async def is_ours(self, host: str) -> bool:
        """Tell whether the proxies serve this host: their own, or an application's.

        `*.<proxy host>` is theirs too: behind it they say that there is no such application.
        """
        if self.is_own(host):
            return True
        return any(host in hosts for _, hosts in await self._defined())

    def is_own(self, host: str) -> bool:
        """Tell whether a host is a proxy's own, or `*.` and such a one."""
        return host.removeprefix("*.") in self._proxy_hosts()

    async def agents_at(self, host: str) -> frozenset[str]:
        """Return the ids of the agents that have an application there, or had lately; none: nobody has."""
        found = [each.hosts for each, hosts in await self._defined() if host in hosts]
        return frozenset(agent for agents in found for agent in agents)

    async def _defined(self) -> list[tuple[Definition, set[str]]]:
        """Return what is defined, each with its public hosts."""
        proxies = self._proxy_hosts()
        return [
            (each, _hosts(each.app, proxies))
            for each in await self._store.all()
            if not self._is_abandoned(each)
        ]

    async def main_host(self, name: str) -> str:
        """Return the public host of an application, offered now or not; "": nobody defined it."""
        definition = await self._store.find(name)
        if definition is None:
            return ""
        hosts = self._proxy_hosts()
        return definition.app.public_addr or (f"{name}.{hosts[0]}" if hosts else "")

    def default_host(self, name: str) -> str:
        """Return `<name>.<main proxy host>`, "" when no proxy is known."""
        addresses = self._presence.proxy_addrs
        if not addresses:
            return ""
        _, colon, port = addresses[0].rpartition(":")
        host = f"{name}.{host_of(addresses[0])}"
        return f"{host}:{port}" if colon and port.isdigit() else host

    def _check_complete(self, definition: Definition) -> None:
        if definition.gone is None and not self._presence.is_complete:
            raise Unavailable(
                "auth has just started and waits for word of the application's agents",
                hint="try again in a few seconds",
            )

    def _same_hosts(self, one: App, other: App) -> bool:
        proxies = self._proxy_hosts()
        return _hosts(one, proxies) == _hosts(other, proxies)

    def _proxy_hosts(self) -> list[str]:
        hosts = []
        for address in self._presence.proxy_addrs:
            try:
                hosts.append(host_of(address))
            except InvalidRequest:
                continue
        return hosts

    # --- Time ------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Note which applications lost their last agent, forget those of long ago; call it each second."""
        now = self._cluster.clock()
        were_live = self._were_live | set(self._offered)
        for name, hosts in list(self._offered.items()):
            self._offered[name] = {host: at for host, at in hosts.items() if now - at < _TTL}
            if not self._offered[name]:
                del self._offered[name]
        live = {s.app.name for s in self._presence.servers if not s.refused} | set(self._offered)
        left = were_live - live
        sweeps = not self._swept and self._presence.is_complete
        if sweeps:  # those of an earlier run that never came back to this one
            stored = await self._store.all()
            left |= {d.app.name for d in stored if d.gone is None} - live
            for definition in stored:
                if definition.app.as_offered({}) != definition.app:
                    await self._forget_values(definition.app.name)
        for name in left:
            await self._mark(name, now)
        # Taken for gone: auth was out of its proxies' reach, or it came back while the last tick marked others.
        for name in live - self._were_live:
            await self._mark(name, None)
        self._were_live = live
        self._swept = self._swept or sweeps
        if self._presence.is_complete:
            await self._abandoned.tick(live)

    def _remember_offers(self) -> None:
        """Keep how each application is offered, so that who may open it learns when it is away."""
        offers: dict[str, list[AppServer]] = {}
        for server in self._presence.servers:
            if not server.refused:
                offers.setdefault(server.app.name, []).append(server)
        for name, servers in offers.items():
            self._last.pop(name, None)
            self._last[name] = tuple(servers)
        while len(self._last) > MAX_REMEMBERED:
            self._last.popitem(last=False)

    async def _forget_values(self, name: str) -> None:
        """Store a definition that 0.1 stored with the values of its headers without them."""
        try:
            read = await self._store.read(name)
            app = read.value.app.as_offered({})
            await self._store.swap(name, read, replace(read.value, app=app))
        except (NotFound, CompareFailed):
            pass  # defined anew meanwhile, without them

    async def _mark(self, name: str, gone: datetime | None) -> None:
        try:
            read = await self._store.read(name)
            if (read.value.gone is None) != (gone is None):
                await self._store.swap(name, read, replace(read.value, gone=gone))
        except (NotFound, CompareFailed):
            pass  # offered again meanwhile


def _hosts(app: App, proxies: Sequence[str]) -> set[str]:
    """Return the public hosts of an application, behind proxies of these names."""
    return {app.public_addr} if app.public_addr else {f"{app.name}.{proxy}" for proxy in proxies}


def _check_settings(app: App) -> None:
    """Judge again what the agent's file was judged for: an agent is not believed.

    Raises:
        InvalidRequest: with the rule in words.
    """
    if app.cors is not None:
        check_cors(app.cors)
    if app.group:
        check_group(app.group)
    check_required_apps(app.required_apps, of=app.name)


def _uri_fault(app: App, pinned_uri: str) -> str:
    """Return why an agent that was let join for one address may not offer this, "" when it may."""
    if pinned_uri and app.uri != pinned_uri:
        return "its URI is another than it was let join for"
    return ""


def _join_again(pinned_uri: str) -> str:
    """Return what to do on a machine that was let join for one address: it has no file to correct."""
    return (
        f"this machine was let join for {pinned_uri} by `tport join`, and has no file: run that"
        " there again, with another --name, or with another URI and another --data-dir"
    )
