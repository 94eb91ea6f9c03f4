"""Which application is at a host, as it is defined now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tport.engine.api.cache import AuthCache
from tport.engine.types.app import App, AppServer, public_host


class Offers:
    """Looks up definitions by public host; made anew when auth tells of a change."""

    def __init__(self, cache: AuthCache, proxy_host: str) -> None:
        """`proxy_host`: under which applications without an address of their own are."""
        self._cache = cache
        self._proxy_host = proxy_host
        self._known: Sequence[AppServer] = ()
        self._by_host: Mapping[str, App] = {}

    def at(self, host: str) -> App | None:
        """Return the application at `host` (normal); None: nobody offers one there."""
        servers = self._cache.servers
        if servers is not self._known:  # a changed list is another list
            self._known = servers
            self._by_host = {
                public_host(server.app, self._proxy_host): server.app
                for server in servers
                if not server.refused
            }
        return self._by_host.get(host)
