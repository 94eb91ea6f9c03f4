"""A cluster made of what another one was dumped to: `tport start --bootstrap`, at a first start."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, get_args

import msgspec
import trio
from msgspec.structs import replace

from tport.engine.access.rules import check_role
from tport.engine.auth.factors.devices import credential_key
from tport.engine.auth.preference import RECORD
from tport.engine.auth.resources.carried import sealed
from tport.engine.auth.seal import KEY_BYTES, Seal
from tport.engine.auth.sso.connectors import (
    check_by_itself,
    check_has_secret,
    check_not_shared,
    sealed_connector,
)
from tport.engine.auth.stores import CredentialOf, Stores, SubjectOf
from tport.engine.config.dynamic_apps import check_dynamic_app
from tport.engine.config.load import read_text
from tport.engine.config.resources import Read, read_resources
from tport.engine.errors import ConfigError, InvalidRequest, TportError
from tport.engine.pki.authority import Authority, AuthorityKind
from tport.engine.pki.keys import load_certificate, load_private_key
from tport.engine.storage.backend import Backend
from tport.engine.types.connector import Connector, origin_of
from tport.engine.types.factor import Factors, WebauthnDevice
from tport.engine.types.lock import check_target
from tport.engine.types.preference import check_preference
from tport.engine.types.resource import (
    AppResource,
    AuthorityResource,
    GithubResource,
    LockResource,
    OidcResource,
    PreferenceResource,
    Resource,
    RoleResource,
    TokenResource,
    UserResource,
    kind_of,
    name_of,
)
from tport.engine.types.user import PasswordRecord, subject_key

logger = logging.getLogger(__name__)

_HASH: Final = "$argon2id$"  # what a password's hash begins with here


async def bootstrap(
    file: Path, *, cluster: str, backend: Backend, seal: Seal, now: datetime
) -> None:
    """Fill a backend that holds no cluster yet; one that does stays as it is, and that is logged.

    Everything is judged before anything is written. What is cut short in the middle is done again
    by the next start: the cluster is there only once it was opened.

    Raises:
        ConfigError: the file can't be read, something in it can't be taken, or it is another
            cluster's.
    """
    stores = Stores(backend)
    if await stores.cluster.find("cluster") is not None:
        logger.warning("--bootstrap is not looked at: this data directory holds a cluster already")
        return
    text = await trio.to_thread.run_sync(read_text, file, str(file))
    found, _ = read_resources(text, name=str(file))
    ready = [_checked(each, cluster, now) for each in found]
    _check_callbacks(found)
    kinds = {each.name for each in ready if isinstance(each, AuthorityResource)}
    missing = [kind for kind in get_args(AuthorityKind) if kind not in kinds]
    if kinds and missing:
        raise ConfigError(
            f"the file has authorities, but not {', '.join(missing)}",
            hint="write it with: tport get all --with-secrets",
        )
    for resource in ready:
        await _store(stores, resource, seal, now)
    logger.info("the cluster is made of %d resources of a file", len(ready))


def _checked(read: Read, cluster: str, now: datetime) -> Resource:
    """Return a resource as it is to be stored.

    Raises:
        ConfigError: it can't be; with its place.
    """
    try:
        return _judged(read.resource, cluster, now)
    except (InvalidRequest, msgspec.ValidationError, ConfigError, ValueError) as problem:
        raise _at(read, problem) from None


def _check_callbacks(found: Sequence[Read]) -> None:
    """Raise ConfigError for the first connector whose callback one before it has."""
    before: list[Connector] = []
    for read in found:
        if isinstance(read.resource, OidcResource | GithubResource):
            try:
                check_not_shared(read.resource.connector, before)
            except InvalidRequest as problem:
                raise _at(read, problem) from None
            before.append(read.resource.connector)


def _at(read: Read, problem: Exception) -> ConfigError:
    """Return the fault of a resource, with its place."""
    what = f"{kind_of(read.resource)} {name_of(read.resource)!r}"
    hint = problem.hint if isinstance(problem, TportError) else ""
    return ConfigError(f"{what} {problem}", where=read.where, hint=hint)


def _judged(resource: Resource, cluster: str, now: datetime) -> Resource:
    """Return what is stored of a resource of a file; no file has an `app_server`."""
    match resource:
        case RoleResource(role=role):
            check_role(role)
        case AppResource(app=app):
            check_dynamic_app(app)
        case LockResource(lock=lock):
            check_target(lock.target)
            name = lock.name or str(uuid.uuid4())
            return replace(resource, lock=replace(lock, name=name, created=lock.created or now))
        case UserResource(user=user, secrets=secrets):
            phc = secrets.password_hash if secrets is not None else ""
            if phc and not phc.startswith(_HASH):
                raise InvalidRequest("local_auth.password_hash is no Argon2id hash")
            if secrets is not None and secrets.factors is not None:
                sealed(
                    secrets.factors, Seal(bytes(KEY_BYTES))
                )  # tells what can't be, before a write
                if not secrets.id:
                    raise InvalidRequest("local_auth.mfa needs local_auth.id beside it")
            id_ = (secrets.id if secrets is not None else "") or str(uuid.uuid4())
            # Whom a provider vouched for signs in there again, and is then who they were.
            expires = None if user.is_local else now
            return replace(resource, user=replace(user, id=id_, created=now, expires=expires))
        case AuthorityResource(spec=spec):
            authority = msgspec.convert(spec, Authority)
            if authority.cluster != cluster:
                raise InvalidRequest(
                    f"is of cluster {authority.cluster!r}, the configuration says {cluster!r}",
                    hint=f"set cluster_name: {authority.cluster}",
                )
            load_private_key(authority.key)
            for certificate in authority.trusted if authority.kind != "jwt" else ():
                load_certificate(certificate)
        case PreferenceResource(preference=preference):
            check_preference(preference)
        case OidcResource(connector=connector) | GithubResource(connector=connector):
            check_by_itself(connector)
            check_has_secret(connector)
    return resource


async def _store(stores: Stores, resource: Resource, seal: Seal, now: datetime) -> None:
    match resource:
        case RoleResource(role=role):
            await stores.roles.put(role.name, role)
        case AppResource(app=app):
            await stores.app_resources.put(app.name, app)
        case LockResource(lock=lock):
            await stores.locks.put(lock.name, lock)
        case TokenResource(token=token):
            await stores.tokens.put(token.id, token, expires=token.expires)
        case UserResource(user=user, secrets=secrets):
            await stores.users.put(user.name, user)
            if user.subject:
                of = SubjectOf(user=user.name)
                await stores.subjects.put(subject_key(user.subject), of)
            if secrets is not None and secrets.password_hash:
                record = PasswordRecord(
                    phc=secrets.password_hash, changed=secrets.password_changed or now
                )
                await stores.passwords.put(user.name, record)
            if secrets is not None and secrets.factors is not None:
                await _store_factors(stores, user.name, sealed(secrets.factors, seal))
        case AuthorityResource(spec=spec):
            authority = msgspec.convert(spec, Authority)
            await stores.authorities.put(authority.kind, authority)
        case PreferenceResource(preference=preference):
            await stores.preference.put(RECORD, preference)
        case OidcResource(connector=connector) | GithubResource(connector=connector):
            await stores.connectors.put(origin_of(connector), sealed_connector(connector, seal))


async def _store_factors(stores: Stores, name: str, factors: Factors) -> None:
    await stores.factors.put(name, factors)
    for device in factors.devices:
        if isinstance(device, WebauthnDevice):
            await stores.credentials.put(credential_key(device.credential), CredentialOf(user=name))
