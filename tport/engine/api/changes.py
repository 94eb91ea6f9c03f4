"""What auth tells its followers: one struct for each kind of change."""

from __future__ import annotations

import msgspec

from tport.engine.api.answers import Authorities
from tport.engine.types.acme import AcmeState
from tport.engine.types.app import App, AppServer
from tport.engine.types.lock import Lock
from tport.engine.types.role import Role
from tport.engine.types.user import User


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
    """For agents: grants to this user made before `epoch` are void.

    `epoch` -1: all are; the user was deleted, or is locked.
    """

    user_key: str
    epoch: int


class SessionEnded(msgspec.Struct, frozen=True, kw_only=True, tag="session-ended"):
    """A web or app session, or a device token, is over before its time."""

    id: str


class LockChanged(msgspec.Struct, frozen=True, kw_only=True, tag="lock"):
    """For proxies: a lock, new or changed. For agents: on roles only, without who said what."""

    lock: Lock


class LockDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="lock-deleted"):
    name: str


class AppDefined(msgspec.Struct, frozen=True, kw_only=True, tag="app"):
    """For agents: an application that they may pick up, new or changed."""

    app: App


class AppUndefined(msgspec.Struct, frozen=True, kw_only=True, tag="app-deleted"):
    name: str


class AppServersChanged(msgspec.Struct, frozen=True, kw_only=True, tag="app-servers"):
    """For proxies: everything offered in the cluster now."""

    servers: tuple[AppServer, ...]


class AppsDown(msgspec.Struct, frozen=True, kw_only=True, tag="apps-down"):
    """For proxies: every application that doesn't answer an agent, with that agent's id. A hint."""

    down: tuple[tuple[str, str], ...]


class AuthoritiesChanged(msgspec.Struct, frozen=True, kw_only=True, tag="authorities"):
    authorities: Authorities


class ProxiesChanged(msgspec.Struct, frozen=True, kw_only=True, tag="proxies"):
    """The ids of the proxy processes alive now."""

    proxy_ids: tuple[str, ...]


class AcmeChanged(msgspec.Struct, frozen=True, kw_only=True, tag="acme"):
    """For proxies: how a certificate by ACME stands, and what the CA is to be shown for it."""

    state: AcmeState


class ProbeAsked(msgspec.Struct, frozen=True, kw_only=True, tag="probe"):
    """For one agent: try this application of yours, and tell by `probed`."""

    id: str
    app: str


class IconAsked(msgspec.Struct, frozen=True, kw_only=True, tag="icon"):
    """For one agent: fetch the icon of this application of yours, and tell by `tell_icon`."""

    app: str


class Current(msgspec.Struct, frozen=True, kw_only=True, tag="current"):
    """All that changed until now has been sent. Comes after the first batch, then each second."""


Change = (
    RoleChanged
    | RoleDeleted
    | UserChanged
    | UserDeleted
    | EpochChanged
    | SessionEnded
    | LockChanged
    | LockDeleted
    | AppDefined
    | AppUndefined
    | AppServersChanged
    | AppsDown
    | AuthoritiesChanged
    | ProxiesChanged
    | AcmeChanged
    | ProbeAsked
    | IconAsked
    | Current
)
