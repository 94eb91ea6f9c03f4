"""Rules on the cluster's own resources, and whole roles: judged, and read from Teleport's format."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast, get_args

from tport.engine.access.rbac import compile_role, no_role_does
from tport.engine.defaults import MAX_SESSION_TTL
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.role import (
    Conditions,
    Role,
    RoleOptions,
    RoleVersion,
    Rule,
    check_role_name,
)

VERBS: Final = frozenset(
    {"list", "create", "read", "readnosecrets", "update", "delete", "use", "rotate", "*"}
)
VERSIONS: Final[tuple[str, ...]] = get_args(RoleVersion)
MAX_TTL: Final = timedelta(days=100_000)  # above all that documents say; fits a datetime

_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}|\*")
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")  # Go's, whole units

# Fields of Teleport's roles without a meaning here (api/types, RoleSpecV6). What stands in
# neither list is a slip of the pen, and an error.
_OPTIONS: Final = frozenset(
    {
        "cert_extensions",
        "cert_format",
        "client_idle_timeout",
        "create_db_user",
        "create_db_user_mode",
        "create_desktop_user",
        "create_host_user",
        "create_host_user_default_shell",
        "create_host_user_mode",
        "desktop_clipboard",
        "desktop_directory_sharing",
        "device_trust_mode",
        "disconnect_expired_cert",
        "enhanced_recording",
        "forward_agent",
        "idp",
        "lock",
        "max_connections",
        "max_kubernetes_connections",
        "max_sessions",
        "mfa_verification_interval",
        "permit_x11_forwarding",
        "pin_source_ip",
        "port_forwarding",
        "record_session",
        "request_access",
        "request_prompt",
        "require_session_mfa",
        "ssh_file_copy",
        "ssh_port_forwarding",
    }
)
_CONDITIONS: Final = frozenset(
    {
        "account_assignments",
        "aws_role_arns",
        "azure_identities",
        "cluster_labels",
        "cluster_labels_expression",
        "db_labels",
        "db_labels_expression",
        "db_names",
        "db_permissions",
        "db_roles",
        "db_service_labels",
        "db_service_labels_expression",
        "db_users",
        "desktop_groups",
        "gcp_service_accounts",
        "github_permissions",
        "group_labels",
        "host_groups",
        "host_sudoers",
        "impersonate",
        "join_sessions",
        "kubernetes_groups",
        "kubernetes_labels",
        "kubernetes_labels_expression",
        "kubernetes_resources",
        "kubernetes_users",
        "logins",
        "mcp",
        "namespaces",
        "node_labels",
        "node_labels_expression",
        "request",
        "require_session_join",
        "review_requests",
        "spiffe",
        "windows_desktop_labels",
        "windows_desktop_labels_expression",
        "windows_desktop_logins",
        "workload_identity_labels",
        "workload_identity_labels_expression",
    }
)
_METADATA: Final = frozenset({"labels", "expires", "revision", "id", "namespace"})


def check_rule(roles: Mapping[str, Role], names: Sequence[str], kind: str, verb: str) -> None:
    """Return when the roles `names` allow `verb` on resources of `kind`. Deny wins.

    Raises:
        AccessDenied: no rule allows it, or one denies it.
    """
    own = [roles[name] for name in names if name in roles]
    message = f"you may not {verb} {kind}"
    for role in own:
        if _covers(role.deny.rules, kind, verb):
            raise AccessDenied(message, reason=f"role {role.name!r} denies {verb} on {kind}")
    if not any(_covers(role.allow.rules, kind, verb) for role in own):
        raise AccessDenied(message, reason=no_role_does("allow", names))


def check_role(role: Role) -> Role:
    """Return `role` when all of it can be judged later; to be asked before a role is stored.

    Raises:
        InvalidRequest: naming the field.
    """
    check_role_name(role.name)
    if role.version not in VERSIONS:
        raise InvalidRequest(f"version: {role.version!r} is none of {', '.join(VERSIONS)}")
    if role.options.max_session_ttl <= timedelta(0):
        raise InvalidRequest("options.max_session_ttl: must be above zero")
    if role.options.max_session_ttl >= MAX_TTL:
        raise InvalidRequest(f"options.max_session_ttl: must be below {MAX_TTL.days * 24} h")
    compile_role(role)
    for key in role.deny.app_labels:
        if key.startswith("dynamic/"):
            raise InvalidRequest(f"deny.app_labels: {key!r}: the prefix 'dynamic/' is reserved")
    for side, conditions in (("allow", role.allow), ("deny", role.deny)):
        for at, rule in enumerate(conditions.rules):
            where = f"{side}.rules[{at}]"
            if not rule.resources or not rule.verbs:
                raise InvalidRequest(f"{where}: needs resources and verbs")
            for kind in rule.resources:
                if not _KIND.fullmatch(kind):
                    raise InvalidRequest(f"{where}.resources: {kind[:80]!r} is no kind")
            for verb in rule.verbs:
                if verb not in VERBS:
                    raise InvalidRequest(
                        f"{where}.verbs: {verb[:80]!r} is none of {', '.join(sorted(VERBS))}"
                    )
    return role


def role_from_resource(resource: Mapping[str, Any]) -> tuple[Role, list[str]]:
    """Read a role as Teleport writes it (`kind: role`, v3 to v8).

    Returns:
        The checked role, and a note for each field that has no effect here; these are kept
        in `Role.other`.

    Raises:
        InvalidRequest: naming the field. Also for what would grant more if it were left
            out: `app_labels_expression`, and `where` of a rule.
    """
    top = _Fields(resource, "")
    top.known({"kind", "sub_kind", "version", "metadata", "spec"}, frozenset())
    if resource.get("kind", "role") != "role":
        raise InvalidRequest(f"kind: expected role, found {resource['kind']!r}")
    version = resource.get("version") or "v8"
    if version not in VERSIONS:
        raise InvalidRequest(f"version: {version!r} is none of {', '.join(VERSIONS)}")
    metadata, spec = top.sub("metadata"), top.sub("spec")
    options, allow, deny = spec.sub("options"), spec.sub("allow"), spec.sub("deny")
    if not isinstance(name := metadata.get("name"), str):
        raise InvalidRequest("metadata.name: is missing")
    metadata.known({"name", "description"}, _METADATA)
    spec.known({"options", "allow", "deny"}, frozenset())
    options.known({"max_session_ttl"}, _OPTIONS)
    for side in (allow, deny):
        if side.get("app_labels_expression"):
            raise InvalidRequest(
                f"{side.path}app_labels_expression: is not supported, and ignoring it would"
                " change who may do what",
                hint="say it with app_labels",
            )
        side.known({"app_labels", "rules", "app_labels_expression"}, _CONDITIONS)
    role = Role(
        name=name,
        version=cast("RoleVersion", version),
        description=str(metadata.get("description") or ""),
        allow=_conditions(allow),
        deny=_conditions(deny),
        options=RoleOptions(max_session_ttl=read_session_ttl(options.get("max_session_ttl"))),
        other={
            part.path.rstrip("."): part.without_effect
            for part in (metadata, options, allow, deny)
            if part.without_effect
        },
    )
    notes = [
        f"{part.path}{field} has no effect here"
        for part in (options, allow, deny)  # revisions and the like need no note
        for field in part.without_effect
    ]
    return check_role(role), notes


def _covers(rules: Sequence[Rule], kind: str, verb: str) -> bool:
    wanted = {verb, "*"}
    if verb == "readnosecrets":
        wanted.add("read")  # who may read all may read the part without secrets
    return any(
        (kind in rule.resources or "*" in rule.resources) and not wanted.isdisjoint(rule.verbs)
        for rule in rules
    )


class _Fields:
    """One mapping of the resource, which remembers where it stands."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{path.rstrip('.') or 'role'}: must be a mapping")
        self._fields: Mapping[str, Any] = value
        self.path = path
        self.without_effect: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        return self._fields.get(name)

    def items(self) -> Iterator[tuple[str, Any]]:
        for key, value in self._fields.items():
            if not isinstance(key, str):
                raise InvalidRequest(f"{self.path}{key}: put the key in quotes")
            yield key, value

    def sub(self, name: str) -> _Fields:
        value = self._fields.get(name)
        return _Fields({} if value is None else value, f"{self.path}{name}.")

    def known(self, read: Collection[str], without_effect: Collection[str]) -> None:
        """Put aside what has no effect; refuse what nobody knows."""
        for name, value in self.items():
            if name in read:
                continue
            if name not in without_effect:
                close = difflib.get_close_matches(name, [*read, *without_effect], n=1)
                hint = f"did you mean {close[0]}?" if close else ""
                raise InvalidRequest(f"{self.path}{name}: unknown field", hint=hint)
            self.without_effect[name] = value


def _conditions(fields: _Fields) -> Conditions:
    labels = fields.sub("app_labels")
    return Conditions(
        app_labels={key: _strings(value, f"{labels.path}{key}") for key, value in labels.items()},
        rules=tuple(_rules(fields.get("rules") or (), f"{fields.path}rules")),
    )


def _rules(value: object, path: str) -> Iterator[Rule]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidRequest(f"{path}: must be a list")
    for at, item in enumerate(value):
        rule = _Fields(item, f"{path}[{at}].")
        if rule.get("where") or rule.get("actions"):
            raise InvalidRequest(
                f"{rule.path}where: conditions and actions are not supported, and ignoring them"
                " would change who may do what"
            )
        rule.known({"resources", "verbs", "where", "actions"}, frozenset())
        yield Rule(
            resources=_strings(rule.get("resources") or (), f"{rule.path}resources"),
            verbs=_strings(rule.get("verbs") or (), f"{rule.path}verbs"),
        )


def _strings(value: object, path: str) -> tuple[str, ...]:
    """Read a string or a list of them; a YAML `true` or `1` is not what its writer meant."""
    items = [value] if not isinstance(value, list | tuple) else value
    for item in items:
        if not isinstance(item, str):
            raise InvalidRequest(f"{path}: {item!r} is no text", hint="put it in quotes")
    return tuple(items)


def read_session_ttl(value: object) -> timedelta:
    """Read `30h0m0s`, `90m`, or seconds; nothing, or zero and below, means the default.

    Raises:
        InvalidRequest: it is none of these.
    """
    if value is None or value == "":
        return MAX_SESSION_TTL
    if isinstance(value, int) and not isinstance(value, bool):
        length = timedelta(seconds=max(0, min(value, 10**9)))
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    else:
        raise InvalidRequest(
            f"options.max_session_ttl: {value!r} is no duration", hint="write it like 8h or 1h30m"
        )
    return length if length > timedelta(0) else MAX_SESSION_TTL
