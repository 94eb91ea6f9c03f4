"""Resources: what `tport get`, `create`, `edit` and `rm` work on, each with its revision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from tport.engine.types.app import App, AppServer
from tport.engine.types.connector import GithubConnector, OidcConnector
from tport.engine.types.factor import Factors
from tport.engine.types.lock import Lock
from tport.engine.types.preference import Preference
from tport.engine.types.role import Role
from tport.engine.types.token import HINT, JoinToken
from tport.engine.types.user import User

Kind = Literal[
    "role",
    "user",
    "token",
    "app",
    "lock",
    "oidc",
    "github",
    "app_server",
    "cluster_auth_preference",
    "cert_authority",
]
PREFERENCE: Final = "cluster-auth-preference"  # the one name of its kind; Teleport's
PreferenceOrigin = Literal["defaults", "config-file", "dynamic"]
PutMode = Literal["create", "upsert", "update"]
# create: the name must be free; update: it must be there; upsert: either. With a revision it must
# be that one, where there is something.


class _Resource(msgspec.Struct, frozen=True, kw_only=True):
    """`revision` is of the write that made it, exact; "": not said, or it isn't stored."""

    revision: str = ""


class RoleResource(_Resource, frozen=True, kw_only=True, tag="role"):
    role: Role


class UserSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """With which a user signs in at another cluster as here.

    Attributes:
        id: the user's.
        password_hash: an Argon2id hash as a PHC string; "": they have no password.
        factors: with authenticator apps' secrets as base64, not sealed; None: they have none.
    """

    id: str
    password_hash: str = ""
    password_changed: datetime | None = None
    factors: Factors | None = None


class UserResource(_Resource, frozen=True, kw_only=True, tag="user"):
    """A user; `secrets` only where they were asked for."""

    user: User
    secrets: UserSecrets | None = None


class TokenResource(_Resource, frozen=True, kw_only=True, tag="token"):
    """A join token; the secret itself is nowhere, its hash is the `id`."""

    token: JoinToken


class AppResource(_Resource, frozen=True, kw_only=True, tag="app"):
    """An application that agents pick up by its labels."""

    app: App


class LockResource(_Resource, frozen=True, kw_only=True, tag="lock"):
    lock: Lock


class OidcResource(_Resource, frozen=True, kw_only=True, tag="oidc"):
    """An identity provider; its client_secret only where secrets were asked for.

    Put with none, it keeps the one it had.
    """

    connector: OidcConnector


class GithubResource(_Resource, frozen=True, kw_only=True, tag="github"):
    """As OidcResource."""

    connector: GithubConnector


class AppServerResource(_Resource, frozen=True, kw_only=True, tag="app_server"):
    """An application as one agent offers it now; nobody makes one."""

    server: AppServer


class PreferenceResource(_Resource, frozen=True, kw_only=True, tag="cluster_auth_preference"):
    """How people sign in. There is always one: revision "0" while nobody has made it.

    Attributes:
        preference: read: as it is in force; to be stored: what is wanted.
        rp_id: the host that passkeys are for; "": none are, or no proxy's address is known.
        origin: where it comes from, in Teleport's words; what is stored has all of it "dynamic".
    """

    preference: Preference
    rp_id: str = ""
    origin: PreferenceOrigin = "dynamic"


class AuthorityResource(_Resource, frozen=True, kw_only=True, tag="cert_authority"):
    """An authority with its private key: `spec` as auth stores it. Only for another first start."""

    name: str
    spec: Mapping[str, Any]


Resource = (
    RoleResource
    | UserResource
    | TokenResource
    | AppResource
    | LockResource
    | OidcResource
    | GithubResource
    | AppServerResource
    | PreferenceResource
    | AuthorityResource
)


def kind_of(resource: Resource) -> Kind:
    tag = type(resource).__struct_config__.tag
    assert isinstance(tag, str)
    return tag  # type: ignore[return-value]  # the tags above are the kinds


def shown_name(kind: Kind, name: str) -> str:
    """Return a name as it may be printed and logged: a token's may be its secret."""
    if kind == "token" and len(name) > HINT:
        return f"{name[:HINT]}…"
    return name[:128]


def name_of(resource: Resource) -> str:
    """Return what `kind/name` names it by."""
    match resource:
        case RoleResource(role=role):
            return role.name
        case UserResource(user=user):
            return user.name
        case TokenResource(token=token):
            return f"{token.hint}…"
        case AppResource(app=app):
            return app.name
        case LockResource(lock=lock):
            return lock.name
        case OidcResource(connector=connector) | GithubResource(connector=connector):
            return connector.name
        case AppServerResource(server=server):
            return f"{server.app.name}@{server.host_id}"
        case PreferenceResource():
            return PREFERENCE
        case AuthorityResource(name=name):
            return name
