"""What administrators ask, as `Calls` answers it."""

from __future__ import annotations

from collections.abc import Mapping

from tport import __version__
from tport.engine.api.answers import (
    ClusterStatus,
    NewInvite,
    NewToken,
    UserInfo,
)
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.app import AppServer
from tport.engine.types.probe import ProbeReport
from tport.engine.types.role import Role
from tport.engine.types.token import JoinRole, JoinToken
from tport.engine.types.user import User


class AdministrationCalls(Caller):
    @call
    async def create_token(
        self, *, roles: tuple[JoinRole, ...], ttl: float, app_name: str, app_uri: str, max_uses: int
    ) -> NewToken:
        return await self.service.tokens.create(
            roles, ttl, app_name=app_name, app_uri=app_uri, max_uses=max_uses, by=self.name
        )

    @call
    async def list_tokens(self) -> tuple[JoinToken, ...]:
        return await self.service.tokens.all()

    @call
    async def delete_token(self, *, token: str) -> JoinToken:
        return await self.service.tokens.delete(token, self.name)

    @call
    async def create_user(
        self, *, name: str, roles: tuple[str, ...], traits: Mapping[str, tuple[str, ...]]
    ) -> NewInvite:
        return await self.service.users.create(name, roles, traits, self.name)

    @call
    async def update_user(
        self,
        *,
        name: str,
        roles: tuple[str, ...] | None,
        traits: Mapping[str, tuple[str, ...]] | None,
        lent: tuple[str, ...] = (),
        revision: int = 0,
    ) -> User:
        return await self.service.users.update(
            name, roles, traits, self.name, lent=lent, revision=revision
        )

    @call
    async def reset_user(self, *, name: str) -> NewInvite:
        return await self.service.users.reset(name, self.name)

    @call
    async def unlock_user(self, *, name: str) -> None:
        user = await self.service.users.named(name)
        await self.service.cluster.record("user.unlocked", user=self.name, name=user.name)
        await self.service.failures.forget(user.name)

    @call
    async def list_users(self) -> tuple[UserInfo, ...]:
        return await self.service.users.all()

    @call
    async def delete_user(self, *, name: str) -> None:
        await self.service.users.delete(name, self.name)

    @call
    async def list_roles(self) -> tuple[Role, ...]:
        return tuple((await self.service.roles.now()).values())

    @call
    async def put_role(self, *, role: Role) -> None:
        await self.service.roles.put(role, self.name)

    @call
    async def list_app_servers(self) -> tuple[AppServer, ...]:
        return self.service.healths.joined(self.service.presence.servers)

    @call
    async def start_probe(self, *, app: str, agent: str) -> str:
        return await self.service.probes.start(app, agent, self.name)

    @call
    async def probe_result(self, *, id: str) -> ProbeReport | None:
        return await self.service.probes.result(id)

    @call
    async def status(self) -> ClusterStatus:
        presence = self.service.presence
        return ClusterStatus(
            cluster=self.service.cluster.name,
            version=__version__,
            proxy_addrs=presence.proxy_addrs,
            proxy_processes=len(presence.proxies),
            users=len(await self.service.cluster.stores.users.range()),
            agents=presence.agents,
            app_servers=self.service.healths.joined(presence.servers),
            degraded=self.service.degraded(),
            copied=tuple(lock for lock in await self.service.locks.all() if lock.is_on_copied),
        )
