"""AuthAPI as one caller may use it: each call is looked up in `CALLERS` before anything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from msgspec.structs import replace

from tport import __version__
from tport.engine.api.protocol import (
    CALLERS,
    Authorities,
    Change,
    ClusterStatus,
    InviteInfo,
    Joined,
    LaunchCode,
    NewInvite,
    NewToken,
    OpenedApp,
    ProxyKeys,
    ProxyReport,
    SignedIn,
    SignedSession,
    UserInfo,
)
from tport.engine.auth.watch import Follower
from tport.engine.errors import AccessDenied, InvalidRequest, NotFound
from tport.engine.pki.authority import issue_web_certificate
from tport.engine.pki.keys import public_key_of_csr
from tport.engine.types.app import App, AppServer
from tport.engine.types.event import CODES, Event
from tport.engine.types.identity import Identity
from tport.engine.types.role import Role
from tport.engine.types.session import AppSession, WebSession
from tport.engine.types.token import JoinRole, JoinToken
from tport.engine.types.user import User

if TYPE_CHECKING:
    from tport.engine.auth.service import AuthService

P = ParamSpec("P")
T = TypeVar("T")

MAX_EVENTS: Final = 500  # of one `emit`
MAX_FOUND: Final = 10_000  # events of one search. Source: Teleport
# What an agent may say happened; anything else of it is no event of this machine's.
AGENT_EVENTS: Final = frozenset(
    {
        "app.access.denied",
        "app.dial.denied",
        "header.rewrite.skipped",
        "auth.failed",
        "audit.lost",
    }
)


def _call(
    method: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]]:
    """Make a call of AuthAPI of a method: nothing of it runs for who may not make it."""

    @wraps(method)
    async def checked(self: Calls, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self.check(method.__name__)
        return await method(self, *args, **kwargs)

    return checked


class Calls:
    """The body of AuthAPI in auth's process; `AuthService.as_caller` makes one per caller."""

    def __init__(self, service: AuthService, identity: Identity | None, remote: str) -> None:
        self._service = service
        self._identity = identity
        self._remote = remote

    async def check(self, call: str) -> None:
        """Raise AccessDenied, and write it down, unless this caller may make this call."""
        kind = "anyone" if self._identity is None else self._identity.kind
        if kind in CALLERS.get(call, frozenset()) and self._is_of_this_cluster:
            return
        reason = f"{kind} {self._name!r} may not call {call[:40]!r}"
        await self._service.cluster.emit(
            "auth.failed",
            call=call[:40],
            caller=kind,
            name=self._name,
            remote=self._remote,
            error=reason,
        )
        raise AccessDenied(f"this caller may not {call[:40]}", reason=reason)

    @property
    def _is_of_this_cluster(self) -> bool:
        return self._identity is None or self._identity.cluster == self._service.cluster.name

    @property
    def _name(self) -> str:
        return "" if self._identity is None else self._identity.name

    # What machines ask

    @_call
    async def join(self, *, token: str, csr: str, role: JoinRole, hostname: str) -> Joined:
        return await self._service.joining.join(token, csr, role, hostname, self._remote)

    @_call
    async def renew(self, *, certificate: str, csr: str, proof: str) -> Joined:
        return await self._service.joining.renew(certificate, csr, proof, self._remote)

    @_call
    async def authorities(self) -> Authorities:
        return self._service.cluster.authorities

    @_call
    async def ping(self) -> str:
        return self._service.cluster.name

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Change]]:
        await self.check("watch")
        assert self._identity is not None
        follower: Follower = "proxy" if self._identity.kind == "proxy" else "agent"
        async with self._service.watches.watch(follower) as changes:
            yield changes

    # What proxies report and need

    @_call
    async def report(self, *, report: ProxyReport) -> None:
        if report.proxy_id != self._name:
            raise AccessDenied("a proxy reports for itself only")
        self._service.presence.report(report)

    @_call
    async def offer(
        self,
        *,
        host_id: str,
        hostname: str,
        version: str,
        apps: tuple[App, ...],
        pinned: tuple[str, ...] | None,
    ) -> tuple[AppServer, ...]:
        return await self._service.apps.judge(host_id, hostname, version, apps, pinned)

    @_call
    async def proxy_keys(self) -> ProxyKeys:
        return self._service.cluster.proxy_keys

    @_call
    async def web_certificate(self, *, csr: str, host: str) -> str:
        if not await self._service.apps.is_ours(host):
            raise NotFound(f"{host[:253]!r} is neither a proxy's nor an application's host")
        cluster = self._service.cluster
        certificate = issue_web_certificate(
            cluster.keys["web"], public_key_of_csr(csr), host, now=cluster.clock()
        )
        await cluster.record("cert.create", cert_type="web", host=host, server_id=self._name)
        return certificate

    @_call
    async def emit(self, *, events: tuple[Event, ...]) -> None:
        if len(events) > MAX_EVENTS:
            raise InvalidRequest(f"{len(events)} events at once, at most {MAX_EVENTS}")
        assert self._identity is not None
        kind = self._identity.kind
        for one in events:
            is_theirs = kind == "proxy" or one.type in AGENT_EVENTS
            if not is_theirs or one.code not in _codes(one.type):
                raise AccessDenied(f"{kind}s write no event {one.type[:40]!r}")
        origin = {"server_id": self._name, "server_kind": kind}
        for one in events:
            await self._service.cluster.audit.emit(replace(one, fields={**one.fields, **origin}))

    # What proxies ask about people

    @_call
    async def sign_in(
        self, *, username: str, password: str, remote: str, user_agent: str
    ) -> SignedIn:
        return await self._service.login.sign_in(username, password, remote, user_agent)

    @_call
    async def web_session(self, *, id: str) -> WebSession:
        return await self._service.sessions.web(id)

    @_call
    async def sign_out(self, *, id: str) -> None:
        await self._service.sessions.sign_out(id)

    @_call
    async def invite(self, *, token: str) -> InviteInfo:
        return await self._service.users.invite(token)

    @_call
    async def accept_invite(
        self, *, token: str, password: str, remote: str, user_agent: str
    ) -> SignedIn:
        return await self._service.users.accept(token, password, remote, user_agent)

    @_call
    async def launch(self, *, web_session: str, host: str, state: str) -> LaunchCode:
        return await self._service.launcher.launch(web_session, host, state)

    @_call
    async def redeem(self, *, code: str, state: str, host: str, remote: str) -> OpenedApp:
        return await self._service.launcher.redeem(code, state, host, remote)

    @_call
    async def app_session(self, *, id: str) -> AppSession:
        return await self._service.sessions.app(id)

    @_call
    async def end_app_session(self, *, id: str) -> None:
        await self._service.sessions.end_app(id)

    @_call
    async def sign_session(self, *, id: str) -> SignedSession:
        return await self._service.launcher.sign_session(id)

    # What administrators do

    @_call
    async def create_token(
        self, *, roles: tuple[JoinRole, ...], ttl: float, app_name: str, app_uri: str, max_uses: int
    ) -> NewToken:
        return await self._service.tokens.create(
            roles, ttl, app_name=app_name, app_uri=app_uri, max_uses=max_uses, by=self._name
        )

    @_call
    async def list_tokens(self) -> tuple[JoinToken, ...]:
        return await self._service.tokens.all()

    @_call
    async def delete_token(self, *, token: str) -> JoinToken:
        return await self._service.tokens.delete(token, self._name)

    @_call
    async def create_user(
        self, *, name: str, roles: tuple[str, ...], traits: Mapping[str, tuple[str, ...]]
    ) -> NewInvite:
        return await self._service.users.create(name, roles, traits, self._name)

    @_call
    async def update_user(
        self,
        *,
        name: str,
        roles: tuple[str, ...] | None,
        traits: Mapping[str, tuple[str, ...]] | None,
    ) -> User:
        return await self._service.users.update(name, roles, traits, self._name)

    @_call
    async def reset_user(self, *, name: str) -> NewInvite:
        return await self._service.users.reset(name, self._name)

    @_call
    async def list_users(self) -> tuple[UserInfo, ...]:
        return await self._service.users.all()

    @_call
    async def delete_user(self, *, name: str) -> None:
        await self._service.users.delete(name, self._name)

    @_call
    async def list_roles(self) -> tuple[Role, ...]:
        return tuple((await self._service.roles.now()).values())

    @_call
    async def put_role(self, *, role: Role) -> None:
        await self._service.roles.put(role, self._name)

    @_call
    async def list_app_servers(self) -> tuple[AppServer, ...]:
        return self._service.presence.servers

    @_call
    async def search_events(
        self, *, since: datetime, until: datetime, types: tuple[str, ...], limit: int
    ) -> tuple[Mapping[str, object], ...]:
        if since.tzinfo is None or until.tzinfo is None:
            raise InvalidRequest("since and until need a time zone")
        if not 1 <= limit <= MAX_FOUND:
            raise InvalidRequest(f"limit is 1 to {MAX_FOUND}")
        return await self._service.search(since, until, types, limit)

    @_call
    async def status(self) -> ClusterStatus:
        presence = self._service.presence
        return ClusterStatus(
            cluster=self._service.cluster.name,
            version=__version__,
            proxy_addrs=presence.proxy_addrs,
            users=len(await self._service.cluster.stores.users.range()),
            agents=presence.agents,
            app_servers=presence.servers,
            degraded=self._service.degraded(),
        )


def _codes(type_: str) -> set[str | None]:
    """Return the codes that an event of this type may have: its own, and its failure's."""
    return {CODES.get(type_), CODES.get(f"{type_}.failed")}
