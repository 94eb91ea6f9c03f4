"""The pages of signed-in people over a real auth service in memory: what they do, is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.engine.auth.world import CLUSTER, World, open_world
from tests.engine.web.browser import WEB_COOKIE, Visitor
from tport.engine.auth.cluster import AuthSettings
from tport.engine.types.setting import Setting
from tport.engine.web.app import web_app


class Office:
    def __init__(
        self, world: World, stack: AsyncExitStack, settings: Sequence[Setting] = ()
    ) -> None:
        self.world = world
        self._stack = stack
        self.app = web_app(
            auth=world.proxy,
            cluster=CLUSTER,
            cluster_id8="0011aabb",
            public_addr="proxy.test:3080",
            clock=world.clock,
            secret=b"x" * 32,
            open_launch=lambda _: None,
            settings=settings,
        )

    async def person(self, name: str, *roles: str) -> Visitor:
        """Make a user and return their browser, signed in. No role: it is taken away again.

        No password is chosen: hashing would take most of these tests' time.
        """
        await self.world.admin.create_user(name=name, roles=roles or ("access",), traits={})
        if not roles:
            await self.world.admin.update_user(name=name, roles=(), traits=None)
        service = self.world.service
        user = await service.cluster.stores.users.get(name)
        signed = await service.sessions.make(user, "192.0.2.1", "UA", method="invite")
        return await self._browser({WEB_COOKIE: signed.secret})

    async def anybody(self) -> Visitor:
        return await self._browser({})

    async def _browser(self, cookies: dict[str, str]) -> Visitor:
        visitor = Visitor(self.app, cookies)
        await self._stack.enter_async_context(visitor.http)
        return visitor


@asynccontextmanager
async def open_office(settings: AuthSettings | None = None) -> AsyncIterator[Office]:
    async with open_world(settings=settings) as world, AsyncExitStack() as stack:
        yield Office(world, stack)
