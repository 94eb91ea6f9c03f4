"""AuthAPI: every call that a proxy, an agent or a command may make of auth.

Two bodies keep this promise: `auth.server` in this process, and `api.remote` over mutual
TLS. The wire format follows from the signatures here (`api.wire`); who may make which call is
the table `CALLERS`, and a call without a row does not exist.

Every call may raise AccessDenied (the caller may not), Unavailable (storage), and, when remote,
ConnectionProblem; only what is particular is said below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol

import msgspec

from tport.engine.types.app import App, AppServer
from tport.engine.types.event import Event
from tport.engine.types.identity import IdentityKind
from tport.engine.types.role import Role
from tport.engine.types.session import AppSession, WebSession
from tport.engine.types.token import JoinRole, JoinToken
from tport.engine.types.user import User

# --- Answers ---------------------------------------------------------------------------------


class Authorities(msgspec.Struct, frozen=True, kw_only=True):
    """The public side of the authorities: PEM certificates, and the JWT keys as a JWKS."""

    cluster: str
    host: tuple[str, ...]
    web: tuple[str, ...]
    user: tuple[str, ...]
    jwks: Mapping[str, object]


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A host certificate (PEM) and the authorities by which its holder checks others."""

    certificate: str
    host_id: str
    authorities: Authorities
    renew_at: datetime
    expires: datetime


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A join token, shown this once: `token` is `<secret>.<pin>`."""

    token: str
    roles: tuple[JoinRole, ...]
    expires: datetime
    proxy_addr: str  # host:port that agents dial; "" when no proxy has been seen
    app_name: str = ""
    app_uri: str = ""
    public_addr: str = ""  # host:port the app will have; "" without app_name


class NewInvite(msgspec.Struct, frozen=True, kw_only=True):
    """An invite link, shown this once."""

    user: str
    url: str
    expires: datetime


class InviteInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the invite page may show."""

    user: str
    expires: datetime
    password_min: int  # characters


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A web session just made. `secret` is the cookie's value; it is nowhere else."""

    secret: str
    session: WebSession


class OpenedApp(msgspec.Struct, frozen=True, kw_only=True):
    """An app session just made. `secret` is the cookie's value."""

    secret: str
    session: AppSession


class LaunchCode(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time code for one state, app and web session; good for 60 s.

    `rounds`: how many were made for this web session and app within 20 s, this one included.
    """

    code: str
    host: str
    rounds: int


class SignedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A JWS for agents (`pki.jwt`): who the session is, with the app's JWT inside."""

    credential: str
    renew_at: datetime
    expires: datetime


class UserInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A user as lists show it."""

    user: User
    has_password: bool
    invited_until: datetime | None = None
    locked_until: datetime | None = None


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as proxies report it."""

    host_id: str
    hostname: str
    version: str
    remote: str
    since: datetime
    proxies: tuple[str, ...]


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    cluster: str
    version: str
    proxy_addrs: tuple[str, ...]  # host:port, the first is the main one
    users: int
    agents: tuple[AgentInfo, ...]
    app_servers: tuple[AppServer, ...]
    degraded: tuple[str, ...] = ()


class ProxyKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Secrets that all proxies of a cluster share, so that any of them reads what another made.

    Attributes:
        seal: 32 bytes, base64; seals the state that travels through the launcher.
        forms: 32 bytes, base64; signs form tokens.
    """

    seal: str
    forms: str


# --- Reports -----------------------------------------------------------------------------------


class TunnelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One live tunnel as its proxy sees it: the agent and the offers that count."""

    host_id: str
    hostname: str
    version: str
    remote: str
    since: datetime
    servers: tuple[AppServer, ...]


class ProxyReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that one proxy holds; sent each PRESENCE_INTERVAL and when it changes."""

    proxy_id: str
    public_addrs: tuple[str, ...]  # host:port
    tunnels: tuple[TunnelReport, ...]


# --- Watching ------------------------------------------------------------------------------------


class RoleChanged(msgspec.Struct, frozen=True, kw_only=True, tag="role"):
    role: Role


class RoleDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="role-deleted"):
    name: str


class UserChanged(msgspec.Struct, frozen=True, kw_only=True, tag="user"):
    """For proxies: names, roles and traits as they are now."""

    user: User


class UserDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="user-deleted"):
    name: str


class EpochChanged(msgspec.Struct, frozen=True, kw_only=True, tag="epoch"):
    """For agents: grants to this user made before `epoch` are void. `epoch` -1: deleted."""

    user_key: str
    epoch: int


class SessionEnded(msgspec.Struct, frozen=True, kw_only=True, tag="session-ended"):
    """A web or app session is over before its time."""

    id: str


class AppServersChanged(msgspec.Struct, frozen=True, kw_only=True, tag="app-servers"):
    """For proxies: everything offered in the cluster now."""

    servers: tuple[AppServer, ...]


class AuthoritiesChanged(msgspec.Struct, frozen=True, kw_only=True, tag="authorities"):
    authorities: Authorities


class ProxiesChanged(msgspec.Struct, frozen=True, kw_only=True, tag="proxies"):
    """The ids of the proxy processes alive now."""

    proxy_ids: tuple[str, ...]


class Current(msgspec.Struct, frozen=True, kw_only=True, tag="current"):
    """All that changed until now has been sent. Comes after the first batch, then each second."""


Change = (
    RoleChanged
    | RoleDeleted
    | UserChanged
    | UserDeleted
    | EpochChanged
    | SessionEnded
    | AppServersChanged
    | AuthoritiesChanged
    | ProxiesChanged
    | Current
)


# --- Calls -----------------------------------------------------------------------------------------


class AuthAPI(Protocol):
    # What machines ask

    async def join(self, *, token: str, csr: str, role: JoinRole, hostname: str) -> Joined:
        """Enter the cluster with a token's secret (no pin) and a CSR (PEM).

        Asking again with the same token and key, within the token's life, gives the same host.

        Raises:
            AccessDenied: unknown, expired, used up or for another role: each with its own words.
            LimitExceeded: too many failures from this address.
        """
        ...

    async def renew(self, *, certificate: str, csr: str, proof: str) -> Joined:
        """Renew a host certificate; idempotent by the CSR's key.

        Needs no connection identity, since an agent that was off for days has an expired
        certificate: up to HOST_RENEWAL_GRACE after its end it still may, by its key.

        Args:
            certificate: the one that ends, PEM.
            csr: for the next key, PEM.
            proof: base64 of a signature by the key in `certificate` over the CSR
                (`pki.renewal.prove_renewal`).

        Raises:
            AccessDenied: not ours, too old, a wrong proof.
        """
        ...

    async def authorities(self) -> Authorities: ...

    async def ping(self) -> str:
        """Return the cluster's name."""
        ...

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Follow what the caller's kind needs: first all there is, then `Current`, then changes.

        Ends with ConnectionProblem or Unavailable when the watcher is too slow or auth goes
        away: read again from the start.
        """
        ...

    # What proxies report and need

    async def report(self, *, report: ProxyReport) -> None: ...

    async def offer(
        self,
        *,
        host_id: str,
        hostname: str,
        version: str,
        apps: tuple[App, ...],
        pinned: tuple[str, ...] | None,
    ) -> tuple[AppServer, ...]:
        """Judge what an agent offers: one AppServer each, `refused` set where it does not count.

        `pinned` are the names that the agent's certificate allows; None: any. Labels of the
        apps are the current ones.
        """
        ...

    async def proxy_keys(self) -> ProxyKeys: ...

    async def web_certificate(self, *, csr: str, host: str) -> str:
        """Issue a leaf of the web CA for one host that the proxy serves: PEM, leaf first.

        Raises:
            NotFound: neither a proxy's nor an application's host.
        """
        ...

    async def emit(self, *, events: tuple[Event, ...]) -> None:
        """Write audit events; the caller's identity is added to each."""
        ...

    # What proxies ask about people

    async def sign_in(
        self, *, username: str, password: str, remote: str, user_agent: str
    ) -> SignedIn:
        """Check a password and make a web session.

        Raises:
            AccessDenied: one message for every cause.
            LimitExceeded: this address tries too often, or hashing is overloaded.
        """
        ...

    async def web_session(self, *, id: str) -> WebSession:
        """Return a live web session.

        Raises:
            NotSignedIn: none, or over.
        """
        ...

    async def sign_out(self, *, id: str) -> None:
        """End a web session and the app sessions that came from it; gone already is fine."""
        ...

    async def invite(self, *, token: str) -> InviteInfo:
        """Raises NotFound: unknown, used or expired."""
        ...

    async def accept_invite(
        self, *, token: str, password: str, remote: str, user_agent: str
    ) -> SignedIn:
        """Set the password, spend the invite, sign in.

        Raises:
            InvalidRequest: the password is too weak, in words for its chooser.
            NotFound: unknown, used or expired.
        """
        ...

    async def launch(self, *, web_session: str, host: str, state: str) -> LaunchCode:
        """Make the code with which the browser opens the app at `host`.

        `state` is the SHA-256 hex of the state cookie's value.

        Raises:
            AccessDenied: no such app, or no role allows it: one message for both.
            NotFound: it may be opened, and no agent offers it now.
        """
        ...

    async def redeem(self, *, code: str, state: str, host: str, remote: str) -> OpenedApp:
        """Spend a launch code; it is spent whatever comes out.

        Raises:
            AccessDenied: wrong, spent, expired, or for another state or host.
        """
        ...

    async def app_session(self, *, id: str) -> AppSession:
        """Return a live app session. Raises NotSignedIn: none, or over."""
        ...

    async def end_app_session(self, *, id: str) -> None: ...

    async def sign_session(self, *, id: str) -> SignedSession:
        """Sign a live app session for agents.

        Raises:
            NotSignedIn: it is over.
            AccessDenied: no role allows the app now.
        """
        ...

    # What administrators do

    async def create_token(
        self, *, roles: tuple[JoinRole, ...], ttl: float, app_name: str, app_uri: str, max_uses: int
    ) -> NewToken:
        """Make a join token. `ttl` in seconds."""
        ...

    async def list_tokens(self) -> tuple[JoinToken, ...]: ...

    async def delete_token(self, *, token: str) -> JoinToken:
        """Delete by the whole token, its secret, or the hint that lists show (unique prefix)."""
        ...

    async def create_user(
        self, *, name: str, roles: tuple[str, ...], traits: Mapping[str, tuple[str, ...]]
    ) -> NewInvite:
        """Make a user and the invite link.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: a role does not exist.
        """
        ...

    async def update_user(
        self,
        *,
        name: str,
        roles: tuple[str, ...] | None,
        traits: Mapping[str, tuple[str, ...]] | None,
    ) -> User:
        """Replace roles or traits (None: leave); what was granted before counts no more."""
        ...

    async def reset_user(self, *, name: str) -> NewInvite:
        """Make a new invite link for a user; the old password and all sessions end now."""
        ...

    async def list_users(self) -> tuple[UserInfo, ...]: ...

    async def delete_user(self, *, name: str) -> None: ...

    async def list_roles(self) -> tuple[Role, ...]: ...

    async def put_role(self, *, role: Role) -> None: ...

    async def list_app_servers(self) -> tuple[AppServer, ...]: ...

    async def search_events(
        self, *, since: datetime, until: datetime, types: tuple[str, ...], limit: int
    ) -> tuple[Mapping[str, object], ...]: ...

    async def status(self) -> ClusterStatus: ...


# Who may make which call. "anyone" needs no certificate.
Caller = IdentityKind | str
_MACHINES = frozenset({"agent", "proxy", "admin"})
_PROXY = frozenset({"proxy"})
_ADMIN = frozenset({"admin"})

CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "join": frozenset({"anyone"}),
    "ping": frozenset({"anyone"}) | _MACHINES,
    "renew": frozenset({"anyone", "agent", "proxy"}),
    "authorities": frozenset({"anyone"}) | _MACHINES,
    "watch": frozenset({"agent", "proxy"}),
    "report": _PROXY,
    "offer": _PROXY,
    "proxy_keys": _PROXY,
    "web_certificate": _PROXY,
    "emit": frozenset({"agent", "proxy"}),
    "sign_in": _PROXY,
    "web_session": _PROXY,
    "sign_out": _PROXY,
    "invite": _PROXY,
    "accept_invite": _PROXY,
    "launch": _PROXY,
    "redeem": _PROXY,
    "app_session": _PROXY,
    "end_app_session": _PROXY,
    "sign_session": _PROXY,
    "create_token": _ADMIN,
    "list_tokens": _ADMIN,
    "delete_token": _ADMIN,
    "create_user": _ADMIN,
    "update_user": _ADMIN,
    "reset_user": _ADMIN,
    "list_users": _ADMIN,
    "delete_user": _ADMIN,
    "list_roles": _ADMIN | _PROXY,
    "put_role": _ADMIN,
    "list_app_servers": _ADMIN | _PROXY,
    "search_events": _ADMIN,
    "status": _ADMIN | _PROXY,
}
