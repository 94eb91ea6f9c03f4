"""Text in Teleport's resource format into resources; complaints say file:line:column. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, TypeVar

import msgspec

from tport.engine.access.rules import role_from_resource
from tport.engine.config.app_rules import check_label
from tport.engine.config.apps import AppReader
from tport.engine.config.connectors import (
    GithubDocument,
    OidcDocument,
    github_connector,
    oidc_connector,
)
from tport.engine.config.document import (
    Mapping as MappingNode,
)
from tport.engine.config.document import (
    Node,
    Scalar,
    Sequence,
    SyntaxFault,
    parse_documents,
)
from tport.engine.config.dynamic_apps import (
    NO_FILES,
    check_dynamic_app,
)
from tport.engine.config.kinds import parse_kind
from tport.engine.config.read import Complaint, Reading, plain_value, read_section
from tport.engine.config.resolve import factor_policy
from tport.engine.config.resource_shape import (
    AppDocument,
    AuthorityDocument,
    LocalAuth,
    LockDocument,
    Metadata,
    PreferenceDocument,
    TokenDocument,
    UserDocument,
    moment,
)
from tport.engine.errors import ConfigError, InvalidRequest
from tport.engine.types.app import check_app_name
from tport.engine.types.factor import Device, FactorPolicy, Factors
from tport.engine.types.lock import Lock, LockTarget, check_message, check_target
from tport.engine.types.preference import Preference
from tport.engine.types.resource import (
    PREFERENCE,
    AppResource,
    AuthorityResource,
    GithubResource,
    Kind,
    LockResource,
    OidcResource,
    PreferenceResource,
    Resource,
    RoleResource,
    TokenResource,
    UserResource,
    UserSecrets,
)
from tport.engine.types.token import JoinToken, hashed_token
from tport.engine.types.user import LOCAL, User, canonical_user_name, check_traits, subject_of_words

A = TypeVar("A")
B = TypeVar("B")

_PATH = re.compile(r"[\w.\[\]]+")


class Read(NamedTuple):
    """One resource, and where its document begins: `file:line:column`."""

    resource: Resource
    where: str


def read_resources(text: str, *, name: str) -> tuple[list[Read], tuple[str, ...]]:
    """Read every document in `text`.

    Args:
        name: what complaints call the text.

    Returns:
        The resources in their order, and notes on what has no effect here.

    Raises:
        ConfigError: all that is wrong, a line each.
    """
    try:
        documents = parse_documents(text)
    except SyntaxFault as fault:
        raise ConfigError(str(fault), where=f"{name}:{fault.line}:{fault.column}") from None
    if not documents:
        raise ConfigError("there is no resource in it", where=name)
    found: list[Read] = []
    complaints: list[Complaint] = []
    notes: list[Complaint] = []
    for root in _each(documents):
        reading = Reading()
        reading.place("", root)
        try:
            resource = _resource(root, reading)
        except _Faulty:
            resource = None
        complaints += reading.complaints
        notes += reading.notes
        if resource is not None and not reading.complaints:
            found.append(Read(resource, f"{name}:{root.line}:{root.column}"))
    if complaints:
        raise ConfigError("\n".join(each.told(name) for each in sorted(complaints)))
    return found, tuple(each.told(name) for each in sorted(notes))


def _each(documents: list[Node]) -> Iterator[Node]:
    """Yield the resources: of a list, as JSON has it, its items."""
    for root in documents:
        if isinstance(root, Sequence):
            yield from root.items
        else:
            yield root


class _Faulty(Exception):
    """Nothing can be made of the document; the complaint is in the reading."""


def _resource(root: Node, reading: Reading) -> Resource:
    if not isinstance(root, MappingNode):
        reading.complain("", "expected a resource: kind, version, metadata, spec", shape=True)
        raise _Faulty
    given = next((v for k, v in root.entries if k.text == "kind"), None)
    if not isinstance(given, Scalar) or given.is_null:
        reading.complain("kind", "is missing; a resource begins with `kind: role` or another one")
        raise _Faulty
    reading.place("kind", given)
    kind = _judged(reading, "kind", parse_kind, given.text)
    return _READERS[kind](root, reading)


# --- Readers ---------------------------------------------------------------------------------------


def _role(root: Node, reading: Reading) -> Resource:
    value = plain_value(root, "", reading)
    value["kind"] = "role"  # by whichever of its names
    metadata = value.get("metadata")
    revision = metadata.pop("revision", None) if isinstance(metadata, dict) else None
    try:
        role, notes = role_from_resource(value)
    except InvalidRequest as problem:
        _complain(reading, problem)
    for note in notes:
        reading.note(note.partition(" ")[0], note.partition(" ")[2])
    return RoleResource(role=role, revision="" if revision is None else str(revision))


def _user(root: Node, reading: Reading) -> Resource:
    document = read_section(UserDocument, root, "", reading)
    metadata, spec = document.metadata, document.spec
    auth, by = spec.local_auth, spec.created_by.connector
    user = User(
        name=_judged(reading, "metadata.name", canonical_user_name, _named(metadata, reading)),
        roles=tuple(dict.fromkeys(spec.roles)),
        traits=_judged(reading, "spec.traits", check_traits, spec.traits),
        origin=f"{by.type}/{by.id}" if by.id else LOCAL,
        subject=subject_of_words(by.identity),
    )
    secrets = None
    if reading.has("spec.local_auth"):
        secrets = UserSecrets(
            id=auth.id,
            password_hash=auth.password_hash,
            password_changed=moment(auth.password_changed),
            factors=_factors(auth, reading),
        )
    return UserResource(user=user, secrets=secrets, revision=metadata.revision)


def _factors(auth: LocalAuth, reading: Reading) -> Factors | None:
    if not auth.mfa and not auth.recovery_codes:
        return None
    devices: list[Device] = []
    for index, spec in enumerate(auth.mfa):
        given = {name: value for name, value in msgspec.to_builtins(spec).items() if value != ""}
        try:
            devices.append(msgspec.convert(given, Device))
        except msgspec.ValidationError as problem:
            reading.complain(f"spec.local_auth.mfa[{index}]", str(problem))
    return Factors(user_id=auth.id, devices=tuple(devices), recovery=auth.recovery_codes)


def _token(root: Node, reading: Reading) -> Resource:
    document = read_section(TokenDocument, root, "", reading)
    metadata, spec = document.metadata, document.spec
    id_, hint = _judged(reading, "metadata.name", hashed_token, _named(metadata, reading))
    roles = {role.lower() for role in spec.roles}
    if roles != {"app"}:
        reading.complain("spec.roles", "expected [App]: tport's tokens are for agents")
    token = JoinToken(
        id=id_,
        hint=hint,
        app_name=spec.app_name,
        app_uri=spec.app_uri,
        max_uses=spec.max_uses,
        uses=spec.uses,
        expires=moment(metadata.expires),
    )
    return TokenResource(token=token, revision=metadata.revision)


def _lock(root: Node, reading: Reading) -> Resource:
    document = read_section(LockDocument, root, "", reading)
    metadata, spec = document.metadata, document.spec
    if spec.target.node and spec.target.server_id:
        reading.complain("spec.target.node", "means the same as server_id; keep one")
    target = LockTarget(
        user=spec.target.user,
        role=spec.target.role,
        server_id=spec.target.server_id or spec.target.node,
    )
    if not reading.complaints:
        _judged(reading, "spec.target", check_target, target)
    lock = Lock(
        name=metadata.name,  # none: auth makes one
        target=target,
        message=_judged(reading, "spec.message", check_message, spec.message),
        expires=moment(spec.expires or metadata.expires),
    )
    return LockResource(lock=lock, revision=metadata.revision)


def _app(root: Node, reading: Reading) -> Resource:
    """Read an application by the rules of the file's, in the shape that resources have."""
    document = read_section(AppDocument, _filelike(root), "", reading)
    metadata = document.metadata
    labels = {}
    for label, text in metadata.labels.items():
        if _fits(reading, f"metadata.labels.{label}", partial(check_label, label), text):
            labels[label] = text
    name = _named(metadata, reading)
    is_name = _fits(reading, "metadata.name", check_app_name, name)
    entry = msgspec.structs.replace(
        document.spec,
        name=name if is_name else "faulty",
        description=metadata.description,
        labels=labels,
    )
    app = AppReader(reading, "spec", frozenset(), _no_file).app(entry)
    if not reading.complaints:
        try:
            check_dynamic_app(app)
        except InvalidRequest as problem:
            _complain(reading, problem)
    return AppResource(app=app, revision=metadata.revision)


def _oidc(root: Node, reading: Reading) -> Resource:
    document = read_section(OidcDocument, root, "", reading)
    _named(document.metadata, reading)
    try:
        connector = oidc_connector(document, has_max_age=reading.has("spec.max_age"))
    except InvalidRequest as problem:
        _complain(reading, problem)
    return OidcResource(connector=connector, revision=document.metadata.revision)


def _github(root: Node, reading: Reading) -> Resource:
    document = read_section(GithubDocument, root, "", reading)
    _named(document.metadata, reading)
    try:
        connector = github_connector(document)
    except InvalidRequest as problem:
        _complain(reading, problem)
    return GithubResource(connector=connector, revision=document.metadata.revision)


def _authority(root: Node, reading: Reading) -> Resource:
    spec = read_section(AuthorityDocument, root, "", reading).spec
    if not spec.key or not spec.trusted:
        reading.complain("spec.key", "is missing; tport get all --with-secrets writes it")
    return AuthorityResource(
        name=spec.kind, spec={**msgspec.to_builtins(spec), "trusted": list(spec.trusted)}
    )


def _app_server(root: Node, reading: Reading) -> NoReturn:
    reading.complain("kind", "an app_server is what an agent offers now; nobody can make one")
    raise _Faulty


def _preference(root: Node, reading: Reading) -> Resource:
    document = read_section(PreferenceDocument, root, "", reading)
    metadata, spec = document.metadata, document.spec
    if metadata.name not in ("", PREFERENCE):
        reading.complain("metadata.name", f"there is only one, and it is called {PREFERENCE}")
    if not reading.has("spec"):
        reading.complain("spec", "is missing; to go back to what the file says: tport rm cap")
    policy = None
    if reading.has("spec.second_factors"):
        if reading.has("spec.second_factor"):
            reading.complain(
                "spec.second_factors", "is the newer spelling of second_factor; keep one of them"
            )
        policy = factor_policy(reading, "spec.second_factors", spec.second_factors)
    elif reading.has("spec.second_factor"):
        policy = FactorPolicy.from_word(spec.second_factor)
    said = [
        value
        for path, value in (
            ("spec.local_auth", spec.local_auth),
            ("spec.allow_local_auth", spec.allow_local_auth),
        )
        if reading.has(path)
    ]
    if len(set(said)) > 1:
        reading.complain("spec.allow_local_auth", "means the same as local_auth; keep one")
    local = said[0] if said else None
    idle = spec.web_idle_timeout if reading.has("spec.web_idle_timeout") else None
    return PreferenceResource(
        preference=Preference(second_factor=policy, web_idle_timeout=idle, local_auth=local),
        rp_id=spec.webauthn.rp_id,
        revision=metadata.revision,
    )


_READERS: Final[Mapping[Kind, Callable[[Node, Reading], Resource]]] = {
    "role": _role,
    "user": _user,
    "token": _token,
    "lock": _lock,
    "app": _app,
    "oidc": _oidc,
    "github": _github,
    "cert_authority": _authority,
    "app_server": _app_server,
    "cluster_auth_preference": _preference,
}


# --- Parts -----------------------------------------------------------------------------------------


def _named(metadata: Metadata, reading: Reading) -> str:
    if not metadata.name:
        reading.complain("metadata.name", "is missing")
        raise _Faulty
    return metadata.name


def _judged(reading: Reading, path: str, check: Callable[[A], B], value: A) -> B:
    """Return what `check` makes of a value, or give up on the document."""
    try:
        return check(value)
    except InvalidRequest as problem:
        hint = f"; {problem.hint}" if problem.hint else ""
        reading.complain(path, f"{problem}{hint}")
        raise _Faulty from None


def _fits(reading: Reading, path: str, check: Callable[[str], object], value: str) -> bool:
    """Tell whether `check` takes a value, after a complaint if it doesn't."""
    try:
        check(value)
    except InvalidRequest as problem:
        reading.complain(path, str(problem))
        return False
    return True


def _complain(reading: Reading, problem: InvalidRequest) -> NoReturn:
    """Keep a complaint that begins with its path, seen from the document or from its `spec`."""
    path, colon, text = str(problem).partition(": ")
    if not colon or not _PATH.fullmatch(path):
        path, text = "", str(problem)
    elif path.split(".")[0] not in ("kind", "version", "metadata", "spec"):
        path = f"spec.{path}"
    hint = f"; {problem.hint}" if problem.hint else ""
    reading.complain(path, f"{text}{hint}")
    raise _Faulty


def _no_file(_: str) -> Path:
    raise InvalidRequest(NO_FILES)


def _filelike(root: Node) -> Node:
    """Return an app's document with the names and header lines that the file has."""
    if not isinstance(root, MappingNode):
        return root
    entries = [
        (key, _filelike_spec(value) if key.text == "spec" else value) for key, value in root.entries
    ]
    return MappingNode(root.line, root.column, entries)


def _filelike_spec(node: Node) -> Node:
    if not isinstance(node, MappingNode):
        return node
    return MappingNode(node.line, node.column, [_entry(*entry) for entry in node.entries])


def _entry(key: Scalar, value: Node) -> tuple[Scalar, Node]:
    if key.text == "required_app_names":
        key = Scalar(key.line, key.column, "required_apps")
    if key.text == "rewrite" and isinstance(value, MappingNode):
        value = MappingNode(
            value.line,
            value.column,
            [(k, _header_lines(v) if k.text == "headers" else v) for k, v in value.entries],
        )
    return key, value


def _header_lines(node: Node) -> Node:
    """Return headers given as name and value as the lines that the file has."""
    if not isinstance(node, Sequence):
        return node
    return Sequence(node.line, node.column, [_header_line(item) for item in node.items])


def _header_line(node: Node) -> Node:
    if not isinstance(node, MappingNode) or len(node.entries) != 2:
        return node
    given = {key.text: value.text for key, value in node.entries if isinstance(value, Scalar)}
    if given.keys() != {"name", "value"}:
        return node
    return Scalar(node.line, node.column, f"{given['name']}: {given['value']}", plain=False)
