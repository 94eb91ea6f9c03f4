"""Kinds of resources by all the names that Teleport has for them, and references to them. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple, get_args

from tport.engine.config.words import did_you_mean, shown
from tport.engine.errors import InvalidRequest
from tport.engine.types.resource import PREFERENCE, Kind

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
EVERYTHING: Final = "all"
_CONNECTORS: Final = ("connector", "connectors", "auth_connector", "auth_connectors")
_ALIASES: Final[dict[str, Kind]] = {
    **{kind: kind for kind in KINDS},
    "roles": "role",
    "users": "user",
    "tokens": "token",
    "apps": "app",
    "locks": "lock",
    "app_servers": "app_server",
    "cert_authorities": "cert_authority",
    "oidc_connector": "oidc",
    "github_connector": "github",
    "cap": "cluster_auth_preference",
    "cas": "cert_authority",
}
# What `get all` gives, in the order in which another cluster can take it.
DUMPED: Final[tuple[Kind, ...]] = (
    "cert_authority",
    "cluster_auth_preference",
    "role",
    "user",
    "token",
    "app",
    "lock",
    "oidc",
    "github",
)
_ONLY: Final[dict[Kind, str]] = {"cluster_auth_preference": PREFERENCE}  # there is one of them


class Reference(NamedTuple):
    kind: Kind
    name: str = ""  # "": all of the kind


def parse_kind(text: str) -> Kind:
    """Return the kind that a word means: `roles` and `Role` are `role`.

    Raises:
        InvalidRequest: none.
    """
    kind = _ALIASES.get(text.lower().replace("-", "_"))
    if kind is None:
        meant = did_you_mean(text, list(_ALIASES)) or f"; expected one of {', '.join(KINDS)}"
        raise InvalidRequest(f"{shown(text)} is no kind of resource{meant}")
    return kind


def parse_reference(text: str, *, whole: bool = False) -> Reference:
    """Read `kind` or `kind/name`; `whole`: a name is needed.

    Raises:
        InvalidRequest: it is none.
    """
    kind, _, name = text.partition("/")
    reference = Reference(parse_kind(kind), name)
    if whole and not name and reference.kind in _ONLY:
        return reference._replace(name=_ONLY[reference.kind])
    if whole and not name:
        raise InvalidRequest(
            f"{shown(text)} names no {reference.kind}: write {reference.kind}/NAME"
        )
    return reference


def parse_references(texts: list[str]) -> list[Reference]:
    """Read what `get` is given: references, also parted by commas; `all` is all kinds of a dump.

    Raises:
        InvalidRequest: one of them is none.
    """
    words = [word for text in texts for word in text.split(",") if word]
    if words == [EVERYTHING]:
        return [Reference(kind) for kind in DUMPED]
    if not words:
        raise InvalidRequest("nothing named", hint="tport get roles, tport get user/alice, …")
    found = []
    for word in words:
        if word.lower().replace("-", "_") in _CONNECTORS:  # Teleport's word for all of these kinds
            found += [Reference("oidc"), Reference("github")]
            continue
        try:
            found.append(parse_reference(word))
        except InvalidRequest as problem:
            if not found or "/" in word or found[-1].name:
                raise
            before = found[-1].kind  # `get role dev`, as other tools write it
            raise InvalidRequest(str(problem), hint=f"did you mean {before}/{word}?") from None
    return found
