"""What auth answers, and what proxies report to it: values on the wire, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tport.engine.types.app import AppServer
from tport.engine.types.lock import Lock
from tport.engine.types.session import AppSession, WebSession
from tport.engine.types.token import JoinRole
from tport.engine.types.user import User


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


class SignedIn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A web session just made. `secret` is the cookie's value; it is nowhere else.

    Attributes:
        known: the value of the cookie that says this browser has signed the person in.
        recovery_codes: made with the first device, to be shown this once.
    """

    secret: str
    session: WebSession
    known: str = ""
    recovery_codes: tuple[str, ...] = ()


class OpenedApp(msgspec.Struct, frozen=True, kw_only=True):
    """An app session just made. `secret` is the cookie's value."""

    secret: str
    session: AppSession


class LaunchCode(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time code for one state, app and web session; good for 60 s.

    Attributes:
        rounds: how often, within 20 s, this web session came for one: each but the first after the
            way of an earlier one had come to its end. Tabs opened side by side are one round.
        opened: sessions that the rounds before came to.
        now: auth's clock.
    """

    code: str
    host: str
    rounds: int
    opened: int
    now: datetime


class SignedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A JWS for agents (`pki.jwt`): who the session is, with the app's JWT inside."""

    credential: str
    renew_at: datetime
    expires: datetime


class UserInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A user as lists show it.

    Attributes:
        revision: what `update_user` takes, to change exactly this.
        locked_until: too many wrong passwords; browsers that they know still may try.
        lock: the name of a lock that keeps them out; "": none does.
        administers: they may change people (`access.administrators`).
    """

    user: User
    has_password: bool
    revision: int = 0
    invited_until: datetime | None = None
    locked_until: datetime | None = None
    lock: str = ""
    administers: bool = False


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
    copied: tuple[Lock, ...] = ()  # on agents that two machines have been
    proxy_processes: int = 1  # alive now


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
