"""Connectors that are tried: somebody signs in, and sees what they would be; nothing is changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from tport.engine.access.rbac import is_app_allowed
from tport.engine.api.sso import TestInfo
from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.sso.connectors import Connectors
from tport.engine.auth.sso.people import Arrival
from tport.engine.auth.stores import Stored
from tport.engine.defaults import UP_DOMAIN, WEB_PORT
from tport.engine.errors import AccessDenied, CompareFailed, NotFound
from tport.engine.types.connector import Connector, origin_of
from tport.engine.types.session import session_id
from tport.engine.types.sso import SsoTest

TEST_TTL: Final = timedelta(minutes=10)
_DONE: Final = "this test of a connector was done already"


class Trying:
    def __init__(
        self, cluster: Cluster, connectors: Connectors, roles: Roles, presence: Presence
    ) -> None:
        self._cluster = cluster
        self._store = cluster.stores.sso_tests
        self._connectors = connectors
        self._roles = roles
        self._presence = presence

    async def begin(self, connector: Connector, by: str) -> str:
        """Keep a connector for a test; return the address to open, which ends with its secret.

        Raises:
            InvalidRequest: it can't be meant.
            NotFound: a role of it isn't there.
        """
        await self._connectors.check(connector)
        before = None
        if not connector.client_secret:  # what is stored under this name has one, perhaps
            before = await self._cluster.stores.connectors.find(origin_of(connector))
        sealed = self._connectors.sealed(connector, before)
        expires = self._cluster.clock() + TEST_TTL
        test = SsoTest(connector=msgspec.json.encode(sealed), by=by, expires=expires)
        secret = new_secret()
        await self._cluster.record("sso.test", user=by, name=origin_of(connector))
        await self._store.create(session_id(secret), test, expires=expires)
        addresses = self._presence.proxy_addrs
        address = addresses[0] if addresses else f"{UP_DOMAIN}:{WEB_PORT}"
        return f"https://{address.removesuffix(':443')}/web/sso/test/{secret}"

    async def connector(self, secret: str) -> Connector:
        """Return the connector of a test, its secret opened.

        Raises:
            NotFound: there is no such test, it is over, or somebody has done it.
        """
        test = (await self._undone(secret)).value
        return self._connectors.opened(msgspec.json.decode(test.connector, type=Connector))

    async def info(self, secret: str) -> TestInfo:
        test = (await self._read(secret)).value
        return TestInfo(**{name: getattr(test, name) for name in TestInfo.__struct_fields__})

    async def done(self, secret: str, who: Arrival) -> None:
        """Keep what came of a sign-in."""
        roles = await self._roles.now()
        apps = {
            server.app.name
            for server in self._presence.servers
            if is_app_allowed(roles, who.roles, who.traits, server.labels)
        }
        await self._change(
            secret,
            problem=who.problem,
            hint=who.hint,
            user=who.name,
            claims=who.traits,
            left_out=who.left_out,
            roles=who.roles,
            missing=who.missing,
            apps=tuple(sorted(apps)),
            mappings=who.unmet,
        )

    async def failed(self, secret: str, why: Exception) -> None:
        """Keep why there was no sign-in; who tests a connector is told the whole of it."""
        reason = why.reason if isinstance(why, AccessDenied) else str(why)
        await self._change(secret, problem=reason, hint=getattr(why, "hint", ""))

    async def _change(self, secret: str, **fields: object) -> None:
        read = await self._undone(secret)
        try:
            done = replace(read.value, is_done=True, **fields)
            await self._store.swap(session_id(secret), read, done, expires=read.value.expires)
        except CompareFailed:
            raise NotFound(_DONE) from None

    async def _undone(self, secret: str) -> Stored[SsoTest]:
        """Return a test that nobody has done: the first result is the one that is read."""
        read = await self._read(secret)
        if read.value.is_done:
            raise NotFound(_DONE, hint="for another: tport sso test FILE")
        return read

    async def _read(self, secret: str) -> Stored[SsoTest]:
        try:
            read = await self._store.read(session_id(secret))
        except NotFound:
            read = None
        if read is None or self._cluster.clock() >= read.value.expires:
            raise NotFound("there is no such test of a connector, or it is over")
        return read
