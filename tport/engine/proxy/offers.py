"""Which application is at a host, as it is defined now; and who its neighbours in a group are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tport.engine.api.cache import AuthCache
from tport.engine.types.app import App, AppServer, public_host


class Offers:
    """Looks up definitions by public host; made anew when auth tells of a change."""

    def __init__(self, cache: AuthCache, proxy_host: str, port_suffix: str) -> None:
        """
        Args:
            proxy_host: under which applications without an address of their own are.
            port_suffix: what follows an application's host in its address: ":3080", or "".
        """
        self._cache = cache
        self.proxy_host = proxy_host
        self._port_suffix = port_suffix
        self._known: Sequence[AppServer] = ()
        self._by_host: Mapping[str, App] = {}
        self._peers: Mapping[str, frozenset[bytes]] = {}
        self._heeding: Collection[str] = ()

    def at(self, host: str) -> App | None:
        """Return the application at `host` (normal); None: nobody offers one there."""
        self._look()
        return self._by_host.get(host)

    def peers(self, host: str) -> frozenset[bytes]:
        """Return the origins that the application at `host` trusts for being of its group.

        Only those that one agent offers beside it. A group is a name that any agent may claim;
        an agent that offers both reads the traffic of both anyway, and wins nothing by it.
        """
        self._look()
        return self._peers.get(host, frozenset())

    def is_plain(self, host: str) -> bool:
        """Tell whether no other origin is anything to what is at `host`: no `cors`, no neighbours."""
        self._look()
        return host not in self._heeding

    def _look(self) -> None:
        servers = self._cache.servers
        if servers is self._known:  # a changed list is another list
            return
        self._known = servers
        by_host: dict[str, App] = {}
        groups: dict[tuple[str, str], set[str]] = {}
        for server in servers:
            if server.refused:
                continue
            host = public_host(server.app, self.proxy_host)
            by_host[host] = server.app
            if server.app.group:
                groups.setdefault((server.host_id, server.app.group), set()).add(host)
        peers: dict[str, frozenset[bytes]] = {}
        for hosts in groups.values():
            origins = {host: f"https://{host}{self._port_suffix}".encode() for host in hosts}
            for host in hosts:
                others = frozenset(origins[other] for other in hosts if other != host)
                peers[host] = peers.get(host, frozenset()) | others
        self._by_host, self._peers = by_host, peers
        self._heeding = {host for host, app in by_host.items() if app.cors or peers.get(host)}
