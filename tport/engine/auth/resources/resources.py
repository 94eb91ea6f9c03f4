"""Resources as they are stored: read, written by revision, and deleted, whatever their kind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from tport.engine.access.rules import check_role
from tport.engine.auth.cluster import Cluster, host_of
from tport.engine.auth.joining.tokens import EXPIRED_KEPT, Tokens
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.people.users import Users
from tport.engine.auth.resources.carried import opened
from tport.engine.auth.rights.locks import Locks
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.seal import Seal
from tport.engine.auth.signin.preference_editing import PreferenceEditing
from tport.engine.auth.sso.connectors import Connectors
from tport.engine.auth.stores import Store, Stored
from tport.engine.config.dynamic_apps import check_dynamic_app
from tport.engine.defaults import LATEST
from tport.engine.errors import AlreadyExists, CompareFailed, InvalidRequest, NotFound
from tport.engine.types.app import App
from tport.engine.types.connector import (
    Connector,
    GithubConnector,
    OidcConnector,
    kind_of_connector,
    origin_of,
)
from tport.engine.types.lock import Lock
from tport.engine.types.resource import (
    AppResource,
    AppServerResource,
    AuthorityResource,
    GithubResource,
    Kind,
    LockResource,
    OidcResource,
    PreferenceOrigin,
    PreferenceResource,
    PutMode,
    Resource,
    RoleResource,
    TokenResource,
    UserResource,
    UserSecrets,
    name_of,
    shown_name,
)
from tport.engine.types.role import Role
from tport.engine.types.token import JoinToken, hashed_token
from tport.engine.types.user import User, canonical_user_name, check_traits, check_vouched

T = TypeVar("T", bound=msgspec.Struct)
Done = Literal["created", "updated"]

MAX_CONNECTORS: Final = 50
MAX_APPS: Final = 1000  # of all agents together; as many as one agent may offer
_HIDDEN: Final = ("key",)  # of an authority, unless secrets are asked for


class Resources:
    def __init__(
        self,
        cluster: Cluster,
        presence: Presence,
        *,
        roles: Roles,
        users: Users,
        tokens: Tokens,
        locks: Locks,
        connectors: Connectors,
        preference: PreferenceEditing,
    ) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._presence = presence
        self._roles = roles
        self._users = users
        self._tokens = tokens
        self._locks = locks
        self._connectors = connectors
        self._preference = preference
        self._seal = Seal(cluster.settings.seal_key)

    # --- Reading -----------------------------------------------------------------------------------

    async def get(self, kind: Kind, name: str, *, secrets: bool, by: str) -> tuple[Resource, ...]:
        """See `ResourceAPI.get_resources`."""
        if secrets:
            await self._cluster.record(
                "secrets.read", user=by, kind=kind, name=shown_name(kind, name)
            )
        found = [each for each in await self._all(kind, secrets=secrets) if _is_named(each, name)]
        if name and not found:
            raise NotFound(
                f"no {kind} is called {shown_name(kind, name)!r}",
                hint=f"list them with: tport get {kind}",
            )
        return tuple(sorted(found, key=name_of))

    async def _all(self, kind: Kind, *, secrets: bool) -> list[Resource]:
        stores, presence = self._stores, self._presence
        match kind:
            case "role":
                return [
                    RoleResource(role=r.value, revision=str(r.revision))
                    for r in await _read(stores.roles)
                ]
            case "user":
                return [
                    await self._user(read, secrets=secrets) for read in await _read(stores.users)
                ]
            case "token":
                now = self._cluster.clock()
                return [
                    TokenResource(token=r.value, revision=str(r.revision))
                    for r in await _read(stores.tokens)
                    if r.value.expires is None or now < r.value.expires
                ]
            case "app":
                return [
                    AppResource(app=r.value, revision=str(r.revision))
                    for r in await _read(stores.app_resources)
                ]
            case "lock":
                now = self._cluster.clock()
                return [
                    LockResource(lock=r.value, revision=str(r.revision))
                    for r in await _read(stores.locks)
                    if r.value.is_in_force(now)
                ]
            case "oidc" | "github":
                return await self._connectors.resources(kind, secrets=secrets)
            case "app_server":
                return [AppServerResource(server=server) for server in presence.servers]
            case "cluster_auth_preference":
                return [await self._preference_now()]
            case "cert_authority":
                return [
                    AuthorityResource(name=name, spec=_authority_spec(authority, secrets=secrets))
                    for name, authority in self._cluster.keys.items()
                ]

    async def _preference_now(self) -> PreferenceResource:
        info = await self._preference.info()
        policy = info.in_force.second_factor
        origin: PreferenceOrigin = "config-file" if info.in_file else "defaults"
        return PreferenceResource(
            preference=info.in_force,
            rp_id=self._rp_id if policy and "webauthn" in policy.kinds else "",
            origin="dynamic" if info.revision else origin,
            revision=str(info.revision),
        )

    @property
    def _rp_id(self) -> str:
        """The host that passkeys are for; "": no proxy has told its address."""
        return host_of(self._presence.proxy_addrs[0]) if self._presence.proxy_addrs else ""

    async def _user(self, read: Stored[User], *, secrets: bool) -> UserResource:
        user = read.value
        # Roles given for a time are no part of what somebody writes down, and another reads in.
        lent = {grant.role for grant in user.grants}
        shown = replace(
            user, roles=tuple(role for role in user.roles if role not in lent), grants=()
        )
        kept: UserSecrets | None = None
        if secrets:
            password = await self._stores.passwords.find(user.name)
            factors = await self._stores.factors.find(user.name)
            if factors is not None and factors.user_id != user.id:
                factors = None  # a namesake's who was deleted
            kept = UserSecrets(
                id=user.id,
                password_hash=password.phc if password is not None else "",
                password_changed=password.changed if password is not None else None,
                factors=None if factors is None else opened(factors, self._seal),
            )
        return UserResource(user=shown, secrets=kept, revision=str(read.revision))

    # --- Writing -----------------------------------------------------------------------------------

    async def put(self, resource: Resource, mode: PutMode, by: str) -> Done:
        """See `ResourceAPI.put_resource`."""
        match resource:
            case RoleResource(role=role):
                check_role(role)
                return await self._write(
                    self._stores.roles, role.name, resource, mode, by, _constant(role)
                )
            case UserResource():
                return await self._put_user(resource, mode, by)
            case TokenResource():
                return await self._put_token(resource, mode, by)
            case AppResource(app=app):
                check_dynamic_app(app)
                is_new = await self._stores.app_resources.find(app.name) is None
                if is_new and len(await self._stores.app_resources.range()) >= MAX_APPS:
                    raise InvalidRequest(f"there are {MAX_APPS} apps already; remove some first")
                return await self._write(
                    self._stores.app_resources, app.name, resource, mode, by, _constant(app)
                )
            case LockResource(lock=lock):
                ready = await self._locks.prepared(lock, by)
                return await self._write(
                    self._stores.locks, ready.name, resource, mode, by, _constant(ready)
                )
            case OidcResource(connector=connector) | GithubResource(connector=connector):
                return await self._put_connector(connector, resource, mode, by)
            case AppServerResource():
                raise InvalidRequest("an app_server is what an agent offers; nobody can make one")
            case PreferenceResource():
                return await self._put_preference(resource, mode, by)
            case AuthorityResource():
                told = "authorities are taken at a cluster's first start only"
                raise InvalidRequest(told, hint="tport start --bootstrap FILE")

    async def _put_user(self, resource: UserResource, mode: PutMode, by: str) -> Done:
        if resource.secrets is not None:
            raise InvalidRequest(
                "password hashes are taken at a cluster's first start only: leave local_auth out",
                hint="for a link to choose a password with: tport users reset NAME",
            )
        given = resource.user
        if given.name != canonical_user_name(given.name):
            raise InvalidRequest(
                f"user {given.name[:80]!r}: write {canonical_user_name(given.name)!r}"
            )
        check_traits(given.traits)
        known = await self._roles.now()
        for role in given.roles:
            if role not in known:
                raise NotFound(
                    f"user {given.name!r}: no role is called {role[:64]!r}",
                    hint=f"there are: {', '.join(sorted(known))}",
                )

        def made(before: User | None) -> User:
            check_vouched(given, before)
            if before is None:
                return replace(
                    given,
                    id=str(uuid.uuid4()),
                    created=self._cluster.clock(),
                    created_by=by,
                    epoch=1,
                    proofs=1,
                    grants=(),
                )
            lent = tuple(grant.role for grant in before.grants)
            return replace(
                before,
                roles=tuple(dict.fromkeys((*given.roles, *lent))),
                grants=tuple(g for g in before.grants if g.role not in given.roles),
                traits=given.traits,
                epoch=before.epoch + 1,
            )

        return await self._write(self._stores.users, given.name, resource, mode, by, made)

    async def _put_token(self, resource: TokenResource, mode: PutMode, by: str) -> Done:
        token = resource.token
        now = self._cluster.clock()
        if token.expires is not None and token.expires <= now:
            raise InvalidRequest("the token has expired already")
        if token.expires is not None and token.expires > LATEST - EXPIRED_KEPT:
            raise InvalidRequest("the end of the token is too far away")
        if any(token.id == each.id for each in await self._tokens.all() if each.static):
            raise InvalidRequest(
                "this join token stands in the configuration file; change it there"
            )

        def made(before: JoinToken | None) -> JoinToken:
            if before is None:
                return replace(token, created=now, created_by=by)
            kept = {"created": before.created, "created_by": before.created_by}
            return replace(token, uses=before.uses, hint=before.hint, **kept)

        expires = None if token.expires is None else token.expires + EXPIRED_KEPT
        return await self._write(
            self._stores.tokens, token.id, resource, mode, by, made, expires=expires
        )

    async def _put_connector(
        self, connector: Connector, resource: Resource, mode: PutMode, by: str
    ) -> Done:
        await self._connectors.check(connector)
        is_new = await self._stores.connectors.find(origin_of(connector)) is None
        if is_new and len(await self._stores.connectors.range()) >= MAX_CONNECTORS:
            raise InvalidRequest(f"there are {MAX_CONNECTORS} connectors already")
        return await self._write(
            self._stores.connectors,
            origin_of(connector),
            resource,
            mode,
            by,
            partial(self._connectors.sealed, connector),
        )

    async def _put_preference(self, resource: PreferenceResource, mode: PutMode, by: str) -> Done:
        if resource.rp_id not in ("", self._rp_id):
            raise InvalidRequest(
                f"webauthn.rp_id: passkeys are for the proxy's own host, {self._rp_id or 'unknown yet'}"
            )
        taken = await self._preference.taken(resource.preference)
        read = await self._preference.read()
        if read is not None and mode == "create":
            raise AlreadyExists(
                "cluster_auth_preference was made already", hint="to replace it: tport create -f"
            )
        # There is always one to be updated: nothing stored is revision 0.
        found = str(read.revision) if read is not None else "0"
        if resource.revision not in ("", found) and not (read is None and mode != "update"):
            raise CompareFailed(
                "cluster_auth_preference was changed meanwhile",
                hint="read it again, and make your change anew",
            )
        await self._preference.write(read, taken, by)
        return "created" if read is None else "updated"

    async def _write(
        self,
        store: Store[T],
        key: str,
        resource: Resource,
        mode: PutMode,
        by: str,
        make: Callable[[T | None], T],
        *,
        expires: datetime | None = None,
    ) -> Done:
        """Write a record by the rules of `mode` and the resource's revision."""
        what = f"{_KIND_WORDS[type(resource)]} {name_of(resource) or key!r}"
        read: Stored[T] | None
        try:
            read = await store.read(key)
        except NotFound:
            read = None
        changed = CompareFailed(
            f"{what} was changed meanwhile", hint="read it again, and make your change anew"
        )
        if read is None and mode == "update":
            raise NotFound(f"there is no {what} any more")
        if read is not None and mode == "create":
            raise AlreadyExists(f"{what} exists already", hint="to replace it: tport create -f")
        if read is not None and resource.revision not in ("", str(read.revision)):
            raise changed
        value = make(None if read is None else read.value)
        await self._record(value, is_new=read is None, by=by)
        try:
            if read is None:
                await store.create(key, value, expires=expires)
            else:
                await store.swap(key, read, value, expires=expires)
        except (AlreadyExists, CompareFailed, NotFound):
            raise changed from None
        return "created" if read is None else "updated"

    async def _record(self, value: object, *, is_new: bool, by: str) -> None:
        """Write down what is about to be written."""
        match value:
            case Role():
                await self._cluster.record("role.created", user=by, name=value.name)
            case User():
                event = "user.create" if is_new else "user.update"
                await self._cluster.record(event, user=by, name=value.name, roles=list(value.roles))
            case JoinToken():
                await self._cluster.record(
                    "join_token.create",
                    user=by,
                    name=value.fingerprint,
                    roles=list(value.roles),
                    app_name=value.app_name,
                    expires=value.expires or "",
                )
            case App():
                event = "app.create" if is_new else "app.update"
                await self._cluster.record(event, user=by, name=value.name, uri=value.uri)
            case Lock():
                await self._locks.record(value, by)
            case OidcConnector() | GithubConnector():
                event = f"{kind_of_connector(value)}.{'created' if is_new else 'updated'}"
                await self._cluster.record(event, user=by, name=value.name)

    # --- Deleting ----------------------------------------------------------------------------------

    async def delete(self, kind: Kind, name: str, by: str) -> None:
        """See `ResourceAPI.delete_resource`."""
        match kind:
            case "role":
                await self._roles.delete(name, by)
            case "user":
                await self._users.delete(name, by)
            case "token":
                found, *others = await self.get("token", name, secrets=False, by=by)
                assert isinstance(found, TokenResource)
                if others:
                    raise InvalidRequest(
                        f"{1 + len(others)} join tokens begin like that; give the whole"
                    )
                await self._cluster.record(
                    "join_token.delete", user=by, name=found.token.fingerprint
                )
                await self._stores.tokens.delete(found.token.id)
            case "app":
                await self._check_made_here(name, by)
                await self._cluster.record("app.delete", user=by, name=name)
                await self._stores.app_resources.delete(name)
            case "lock":
                await self._locks.delete(name, by)
            case "oidc" | "github":
                await self.get(kind, name, secrets=False, by=by)
                await self._connectors.check_not_last()
                await self._cluster.record(f"{kind}.deleted", user=by, name=name)
                await self._stores.connectors.delete(f"{kind}/{name}")
            case "app_server":
                raise InvalidRequest(
                    "an app_server is what an agent offers now",
                    hint="take it out of the agent's file, or remove the app it was made from:"
                    " tport rm app/NAME",
                )
            case "cluster_auth_preference":
                await self.get(kind, name, secrets=False, by=by)
                await self._preference.reset(by)
            case "cert_authority":
                raise InvalidRequest("an authority can't be deleted")

    async def _check_made_here(self, app: str, by: str) -> None:
        """Raise NotFound unless an application is a resource; one of an agent's file is told apart."""
        try:
            await self.get("app", app, secrets=False, by=by)
        except NotFound:
            offering = {
                s.hostname or s.host_id for s in self._presence.servers if s.app.name == app
            }
            if not offering:
                raise
            raise NotFound(
                f"{app!r} was not made by tport create: an agent offers it by itself, on"
                f" {', '.join(sorted(offering))}",
                hint="take it out of that agent's file, or stop the agent",
            ) from None


_KIND_WORDS: Final[dict[type[Any], str]] = {
    RoleResource: "role",
    UserResource: "user",
    TokenResource: "token",
    AppResource: "app",
    LockResource: "lock",
    OidcResource: "oidc",
    GithubResource: "github",
}


def _constant(value: T) -> Callable[[T | None], T]:
    return lambda _: value


async def _read(store: Store[T]) -> list[Stored[T]]:
    return [Stored(store.decode(item), item.revision, item.expires) for item in await store.range()]


def _authority_spec(authority: msgspec.Struct, *, secrets: bool) -> dict[str, Any]:
    spec: dict[str, Any] = msgspec.to_builtins(authority)
    return spec if secrets else {k: v for k, v in spec.items() if k not in _HIDDEN}


def _is_named(resource: Resource, name: str) -> bool:
    """Tell whether `name` means this resource; "" means all."""
    if not name:
        return True
    match resource:
        case UserResource(user=user):
            try:
                return user.name == canonical_user_name(name)
            except InvalidRequest:
                return False
        case TokenResource(token=token):
            try:
                return hashed_token(name)[0] == token.id
            except InvalidRequest:
                return token.hint == name.removesuffix("…")
        case AppServerResource(server=server):
            return name in (server.app.name, name_of(resource))
        case _:
            return name_of(resource) == name
