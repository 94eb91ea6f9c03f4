"""Resources as Teleport writes them: plain values, and YAML or JSON text. Pure.

What is written here is what `config.resources` reads: reading it gives the same resource.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tport.engine.config.connectors import connector_spec
from tport.engine.config.in_force import duration
from tport.engine.config.yaml_dump import dumped
from tport.engine.types.app import App, AppServer, Rewrite
from tport.engine.types.factor import Device
from tport.engine.types.lock import Lock
from tport.engine.types.resource import (
    PREFERENCE,
    AppResource,
    AppServerResource,
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
)
from tport.engine.types.role import Conditions, Role
from tport.engine.types.token import JoinToken
from tport.engine.types.user import subject_words

Value = dict[str, Any]


def yaml_text(resources: Sequence[Resource]) -> str:
    """Return YAML documents, parted by `---`."""
    return "---\n".join(dumped(resource_value(each), in_order=True) for each in resources)


def json_text(resources: Sequence[Resource]) -> str:
    """Return a list in ASCII, all else escaped: no terminal obeys what is in it."""
    return json.dumps([resource_value(each) for each in resources], indent=2)


def resource_value(resource: Resource) -> Value:
    """Return what a resource is in Teleport's format, as dicts, lists and plain values."""
    value = _value(resource)
    if resource.revision:
        value["metadata"]["revision"] = resource.revision
    return value


def _value(resource: Resource) -> Value:
    match resource:
        case RoleResource(role=role):
            return _role(role)
        case UserResource():
            return _user(resource)
        case TokenResource(token=token):
            return _token(token)
        case AppResource(app=app):
            return _app(app)
        case LockResource(lock=lock):
            return _lock(lock)
        case OidcResource(connector=connector) | GithubResource(connector=connector):
            return _envelope(kind_of(resource), "v3", connector.name, connector_spec(connector))
        case AppServerResource(server=server):
            return _app_server(server)
        case PreferenceResource():
            return _preference(resource)
        case AuthorityResource(name=name, spec=spec):
            return _envelope("cert_authority", "v2", name, dict(spec))


def _envelope(kind: str, version: str, name: str, spec: Value) -> Value:
    return {"kind": kind, "version": version, "metadata": {"name": name}, "spec": spec}


def _role(role: Role) -> Value:
    value = _envelope(
        "role",
        role.version,
        role.name,
        {
            "options": {"max_session_ttl": duration_text(role.options.max_session_ttl)},
            "allow": _conditions(role.allow),
            "deny": _conditions(role.deny),
        },
    )
    if role.description:
        value["metadata"]["description"] = role.description
    for path, fields in role.other.items():
        place = value
        for step in path.split("."):
            place = place[step]
        place |= {name: each for name, each in fields.items() if name not in ("revision", "id")}
    return value


def _conditions(conditions: Conditions) -> Value:
    value: Value = {}
    if conditions.app_labels:
        value["app_labels"] = {key: _short(each) for key, each in conditions.app_labels.items()}
    if conditions.rules:
        value["rules"] = [
            {"resources": list(rule.resources), "verbs": list(rule.verbs)}
            for rule in conditions.rules
        ]
    return value


def _short(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _user(resource: UserResource) -> Value:
    user = resource.user
    spec: Value = {
        "roles": list(user.roles),
        "traits": {name: list(values) for name, values in user.traits.items()},
    }
    if user.created is not None:
        spec["created_by"] = {"time": time_text(user.created), "user": {"name": user.created_by}}
    if not user.is_local:
        kind, _, name = user.origin.partition("/")
        identity = subject_words(user.subject)
        by = {"type": kind, "id": name, "identity": identity}
        spec.setdefault("created_by", {})["connector"] = by
    if (secrets := resource.secrets) is not None:
        spec["local_auth"] = {"id": secrets.id}
        if secrets.password_hash:
            spec["local_auth"]["password_hash"] = secrets.password_hash
        if secrets.password_changed is not None:
            spec["local_auth"]["password_changed"] = time_text(secrets.password_changed)
        if secrets.factors is not None:
            spec["local_auth"]["mfa"] = [_device(device) for device in secrets.factors.devices]
            spec["local_auth"]["recovery_codes"] = list(secrets.factors.recovery)
    return _envelope("user", "v2", user.name, spec)


def _device(device: Device) -> Value:
    value: Value = msgspec.to_builtins(device)
    return {name: each for name, each in value.items() if each is not None}


def _token(token: JoinToken) -> Value:
    spec: Value = {"roles": ["App"], "join_method": "token"}
    if token.app_name:
        spec["app_name"] = token.app_name
    if token.app_uri:
        spec["app_uri"] = token.app_uri
    if token.max_uses:
        spec["max_uses"] = token.max_uses
    if token.uses:
        spec["uses"] = token.uses
    # The hash lets nobody in who doesn't know the secret, which has 128 bits or more.
    value = _envelope("token", "v2", f"sha256:{token.id}:{token.hint}", spec)
    if token.expires is not None:
        value["metadata"]["expires"] = time_text(token.expires)
    return value


def _lock(lock: Lock) -> Value:
    target = {
        name: getattr(lock.target, name)
        for name in lock.target.__struct_fields__
        if getattr(lock.target, name)
    }
    spec: Value = {"target": target}
    if lock.message:
        spec["message"] = lock.message
    if lock.expires is not None:
        spec["expires"] = time_text(lock.expires)
    if lock.created is not None:
        spec |= {"created_at": time_text(lock.created), "created_by": lock.created_by}
    return _envelope("lock", "v2", lock.name, spec)


def _app(app: App) -> Value:
    value = _envelope("app", "v3", app.name, app_spec(app))
    given = {"description": app.description, "labels": dict(app.labels)}
    value["metadata"] |= {name: each for name, each in given.items() if each}
    return value


def app_spec(app: App) -> Value:
    """Return `spec` of an application: what differs from the defaults."""
    plain = App(name=app.name, uri=app.uri)
    spec: Value = {"uri": app.uri}
    for name in (
        "public_addr",
        "insecure_skip_verify",
        "cookie_same_site",
        "group",
        "session_notice",
    ):
        if (value := getattr(app, name)) != getattr(plain, name):
            spec[name] = value
    if app.required_apps:
        spec["required_app_names"] = list(app.required_apps)
    if app.rewrite != plain.rewrite:
        spec["rewrite"] = _rewrite(app.rewrite)
    if app.tls.server_name:
        spec["tls"] = {"server_name": app.tls.server_name}
    if app.timeouts != plain.timeouts:
        spec["timeouts"] = {
            name: f"{getattr(app.timeouts, name):g}s" for name in app.timeouts.__struct_fields__
        }
    if app.cors is not None:
        cors = {name: getattr(app.cors, name) for name in app.cors.__struct_fields__}
        spec["cors"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in cors.items()
            if value
        }
    return spec


def _rewrite(rewrite: Rewrite) -> Value:
    value: Value = {}
    if rewrite.redirect:
        value["redirect"] = list(rewrite.redirect)
    if rewrite.headers:
        value["headers"] = [{"name": h.name, "value": h.value} for h in rewrite.headers]
    if rewrite.jwt_claims != Rewrite().jwt_claims:
        value["jwt_claims"] = rewrite.jwt_claims
    return value


def _app_server(server: AppServer) -> Value:
    app: Mapping[str, Any] = _envelope("app", "v3", server.app.name, app_spec(server.app))
    value = _envelope(
        "app_server",
        "v3",
        server.app.name,
        {
            "host_id": server.host_id,
            "hostname": server.hostname,
            "version": server.version,
            "app": app,
        },
    )
    value["metadata"] |= {"labels": dict(server.labels)} if server.labels else {}
    if server.refused:
        value["status"] = {"refused": server.refused}
    return value


def _preference(resource: PreferenceResource) -> Value:
    policy, idle = resource.preference.second_factor, resource.preference.web_idle_timeout
    spec: Value = {"type": "local"}
    if resource.preference.local_auth is not None:
        spec["allow_local_auth"] = resource.preference.local_auth
    if policy is not None:
        spec["second_factor"] = policy.word
    if idle is not None:
        spec["web_idle_timeout"] = duration(idle)
    if resource.rp_id:
        spec["webauthn"] = {"rp_id": resource.rp_id}
    value = _envelope("cluster_auth_preference", "v2", PREFERENCE, spec)
    value["metadata"]["labels"] = {"teleport.dev/origin": resource.origin}
    return value


def duration_text(length: timedelta) -> str:
    """Return a duration as Go writes it: `30h0m0s`."""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    return f"{minutes // 60}h{minutes % 60}m{seconds}s"


def time_text(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC, with all of its fraction: a dump is exact."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
