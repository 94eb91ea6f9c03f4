"""Connectors as they are stored: their secrets sealed, their roles known."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec.structs import replace

from tport.engine.access.claims import check_mappings
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.seal import Seal
from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.connector import (
    Connector,
    GithubConnector,
    OidcConnector,
    callback_path,
    callback_paths,
    check_connector,
    issuer_of,
    origin_of,
)
from tport.engine.types.resource import GithubResource, Kind, OidcResource, Resource


class Connectors:
    def __init__(self, cluster: Cluster, roles: Roles, presence: Presence) -> None:
        self._cluster = cluster
        self._presence = presence
        self._stores = cluster.stores
        self._roles = roles
        self._seal = Seal(cluster.settings.seal_key)

    async def all(self) -> list[Connector]:
        """Return all, by name; their secrets are sealed."""
        return sorted(
            await self._stores.connectors.all(), key=lambda each: (each.name, origin_of(each))
        )

    async def named(self, origin: str) -> Connector:
        """Return one, its secret opened. `origin`: "oidc/google".

        Raises:
            NotFound: there is none.
        """
        found = await self._stores.connectors.find(origin) if origin.count("/") == 1 else None
        if found is None:
            raise NotFound(
                f"no connector is called {origin[:80]!r}",
                hint="list them with: tport get connectors",
            )
        return self.opened(found)

    async def at(self, path: str) -> Connector | None:
        """Return the connector whose provider sends browsers back to this path, its secret sealed; else None."""
        return next((each for each in await self.all() if path in callback_paths(each)), None)

    async def check_not_last(self) -> None:
        """Raise InvalidRequest when without one more connector nobody could sign in."""
        is_only = len(await self._stores.connectors.range()) == 1
        if is_only and not (await self._cluster.sign_in()).local_auth:
            raise InvalidRequest(
                "it is the last way to sign in: passwords don't count here",
                hint="first let them: tport edit cap, allow_local_auth: true",
            )

    async def resources(self, kind: Kind, *, secrets: bool) -> list[Resource]:
        """Return those of a kind as resources; with their secrets opened, or without any."""
        found: list[Resource] = []
        store = self._stores.connectors
        for item in await store.range(f"{kind}/"):
            stored = store.decode(item)
            shown = self.opened(stored) if secrets else replace(stored, client_secret="")
            revision = str(item.revision)
            if isinstance(shown, OidcConnector):
                found.append(OidcResource(connector=shown, revision=revision))
            else:
                found.append(GithubResource(connector=shown, revision=revision))
        return found

    def opened(self, connector: Connector) -> Connector:
        """Return a stored connector with its secret as the provider knows it."""
        if not connector.client_secret:
            return connector
        secret = self._seal.open(connector.client_secret, _context(connector)).decode()
        return replace(connector, client_secret=secret)

    def sealed(self, connector: Connector, before: Connector | None = None) -> Connector:
        """Return a connector as it is stored; without a secret of its own it keeps that of `before`."""
        if connector.client_secret:
            return sealed_connector(connector, self._seal)
        if before is not None and before.client_secret and _asks_same(before, connector):
            return replace(connector, client_secret=before.client_secret)
        check_has_secret(connector)
        return connector

    async def check(self, connector: Connector) -> None:
        """Return when a connector can be meant, and every role that a mapping names is there.

        Raises:
            InvalidRequest: it can't be meant, or leads browsers elsewhere, or where another's come back to.
            NotFound: a role isn't there, and isn't made of a value.
        """
        check_by_itself(connector)
        self._check_hosts(connector)
        check_not_shared(connector, await self.all())
        known = await self._roles.now()
        mappings = (
            connector.claims_to_roles
            if isinstance(connector, OidcConnector)
            else connector.teams_to_roles
        )
        for role in dict.fromkeys(role for mapping in mappings for role in mapping.roles):
            if role not in known and "$" not in role:
                raise NotFound(
                    f"{origin_of(connector)}: no role is called {role[:64]!r}",
                    hint=f"there are: {', '.join(sorted(known))}",
                )

    def _check_hosts(self, connector: Connector) -> None:
        """Browsers come back to a proxy of this cluster, by an address that it is known to have."""
        known = [address.removesuffix(":443") for address in self._presence.proxy_addrs]
        for url in connector.redirect_urls:
            if known and urlsplit(url).netloc.lower().removesuffix(":443") not in known:
                raise InvalidRequest(
                    f"spec.redirect_url: {url[:200]!r} is no address of this cluster;"
                    f" its proxies are at {', '.join(known)}",
                    hint="public_addr in a proxy's configuration says where it is",
                )


def check_by_itself(connector: Connector) -> None:
    """Raise InvalidRequest when a connector can't be meant, wherever it is."""
    check_connector(connector)
    check_secret(connector)
    if isinstance(connector, OidcConnector):
        check_mappings(connector.claims_to_roles)


def check_not_shared(connector: Connector, others: Iterable[Connector]) -> None:
    """Raise InvalidRequest when browsers come back to where another's do: its answer tells by that whose it is."""
    own = callback_paths(connector)
    for other in others:
        if origin_of(other) != origin_of(connector) and own & callback_paths(other):
            raise InvalidRequest(
                f"spec.redirect_url: {origin_of(other)} has the same, and an answer of one provider"
                f" could be taken for the other's",
                hint=f"leave it out, or end it with {callback_path(connector)}",
            )


def _asks_same(one: Connector, other: Connector) -> bool:
    """Tell whether both send their secret to the same place: it goes nowhere else."""
    return (one.client_id, issuer_of(one)) == (other.client_id, issuer_of(other))


def check_secret(connector: Connector) -> None:
    """Raise InvalidRequest for the address of a file: only `tport create` reads those, where it runs."""
    if connector.client_secret.startswith("file://"):
        raise InvalidRequest("spec.client_secret: a file is read by tport create alone")


def check_has_secret(connector: Connector) -> None:
    """Raise InvalidRequest for a connector to GitHub without one: it trades no code, so nobody signs in."""
    if isinstance(connector, GithubConnector) and not connector.client_secret:
        raise InvalidRequest(
            "spec.client_secret: is missing, and GitHub signs nobody in without it",
            hint="it is among the OAuth app's settings, at GitHub; file:///path reads it from a file",
        )


def sealed_connector(connector: Connector, seal: Seal) -> Connector:
    """Return a connector as it is stored.

    Raises:
        InvalidRequest: it needs a secret and has none.
    """
    check_has_secret(connector)
    if not connector.client_secret:
        return connector
    secret = seal.close(connector.client_secret.encode(), _context(connector))
    return replace(connector, client_secret=secret)


def _context(connector: Connector) -> str:
    return f"connector/{origin_of(connector)}"
