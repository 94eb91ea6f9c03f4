"""What a provider says of a person: the traits it becomes, the roles it gives, the name. Pure.

    claims {"email": "a@x.org", "groups": ["dev", "ops"], "env": 3}
      → traits {"email": ("a@x.org",), "groups": ("dev", "ops"), "env": ("3",)}
      → roles  by the connector's mappings, each value of a claim against each of them
      → name   by the claim that the connector names, in its one spelling

Claims come from outside: what can be no trait is left out and named, nothing is cut short.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tport.engine.access.patterns import compile_pattern, is_regex
from tport.engine.access.replace import Replacer, TooMuchWork
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.connector import ClaimMapping, Claims, OidcConnector, TeamMapping
from tport.engine.types.user import canonical_user_name, check_traits

MAX_TRAITS: Final = 128  # of one person
MAX_VALUES: Final = 500  # of one trait; groups of a large company's directory
MAX_WHOLE: Final = 5000  # values of one claim that roles are made of
# Characters of all traits as the JWT writes them, six for each that is not of ASCII: it is a header that an
# application must take.
MAX_TOGETHER: Final = 16 * 1024
# Claims about the token, and not about the person.
PROTOCOL: Final = frozenset(
    {"iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "azp"}
    | {"auth_time", "acr", "amr", "sid", "typ", "ver", "session_state"}
    | {"aio", "rh", "uti", "xms_tcdt", "updated_at"}  # of Entra, and what changes by itself
)
_GROUP = re.compile(r"\$(?:\d|\{\d+\})")

Traits = Mapping[str, tuple[str, ...]]


class Told(NamedTuple):
    """Attributes:
    traits: what becomes of claims.
    whole: the same before anything is left out for its size: what roles are made of.
    left_out: names of claims that can't be traits, with why.
    """

    traits: Traits
    whole: Traits
    left_out: Mapping[str, str]


def traits_of(claims: Claims) -> Told:
    """Turn claims into traits. What is nested is left out, true is "true", a number is written out."""
    traits: dict[str, tuple[str, ...]] = {}
    whole: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    for name, value in claims.items():
        if name in PROTOCOL or value is None:
            continue
        values = _values(value)
        if values is None:
            left_out[name[:128]] = "not a text, a number, or a list of them"
        elif len(traits) >= MAX_TRAITS:
            left_out[name[:128]] = f"more than {MAX_TRAITS} claims"
        elif len(values) > MAX_WHOLE:
            left_out[name[:128]] = f"more than {MAX_WHOLE} values"
        elif not values:
            continue
        else:
            try:
                check_traits({name: values})
            except InvalidRequest as problem:
                left_out[name[:128]] = str(problem)
                continue
            whole[name] = values
            if len(values) > MAX_VALUES:
                left_out[name[:128]] = f"more than {MAX_VALUES} values; roles are made of them"
            else:
                traits[name] = values
    sizes = {name: len(json.dumps({name: values})) for name, values in traits.items()}
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sum(sizes.values()) <= MAX_TOGETHER:
            break
        del sizes[name], traits[name]
        left_out[name[:128]] = f"too long: all together have {MAX_TOGETHER} characters at most"
    return Told(traits, whole, left_out)


def _values(value: object) -> tuple[str, ...] | None:
    items = value if isinstance(value, list) else [value]
    texts = [_text(item) for item in items]
    found = [text for text in texts if text is not None]
    if len(found) != len(texts):
        return None
    return tuple(dict.fromkeys(text for text in found if text))


def _text(value: object) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value) if abs(value) < 10**18 else None
        case _:
            return None


def check_mappings(mappings: Sequence[ClaimMapping]) -> None:
    """Return when each can be matched.

    Raises:
        InvalidRequest: naming the first that can't, and its field.
    """
    for index, mapping in enumerate(mappings):
        where = f"spec.claims_to_roles[{index}]"
        try:
            compile_pattern(mapping.value)
            for role in mapping.roles if is_regex(mapping.value) else ():
                if _GROUP.search(role):
                    Replacer(mapping.value, role)
        except InvalidRequest as problem:
            raise InvalidRequest(f"{where}.value: {problem}") from None
        if not is_regex(mapping.value) and any(_GROUP.search(role) for role in mapping.roles):
            raise InvalidRequest(
                f"{where}.roles: '$1' needs a value that is a ^regular expression$"
            )


def mapped_roles(mappings: Iterable[ClaimMapping], traits: Traits) -> tuple[str, ...]:
    """Return the roles that these traits give, each once, in the order of the mappings.

    An expression that needs too much work for a value gives nothing.
    """
    roles: dict[str, None] = {}
    for mapping in mappings:
        fits = compile_pattern(mapping.value)
        if fitting := [value for value in traits.get(mapping.claim, ()) if fits(value)]:
            roles.update(dict.fromkeys(_roles(mapping, fitting)))
    return tuple(role for role in roles if role)


def _roles(mapping: ClaimMapping, fitting: Sequence[str]) -> Iterable[str]:
    """Return the roles of a mapping whose value these fit; what would take too long gives none."""
    found: list[str] = []
    for role in mapping.roles:
        if not is_regex(mapping.value) or not _GROUP.search(role):
            found.append(role)
            continue
        try:
            found += Replacer(mapping.value, role).apply(fitting)
        except TooMuchWork:
            continue
    return found


def team_roles(
    mappings: Iterable[TeamMapping], teams: Iterable[tuple[str, str]]
) -> tuple[str, ...]:
    """Return the roles that membership in these `(organization, team)` gives.

    GitHub's names don't tell case apart. `team` "": in the organization, as far as is known in none.
    """
    known = [(organization.lower(), team.lower()) for organization, team in teams]
    roles: dict[str, None] = {}
    for mapping in mappings:
        for organization, team in known:
            if organization == mapping.organization.lower() and mapping.team.lower() in ("*", team):
                roles.update(dict.fromkeys(mapping.roles))
    return tuple(roles)


def vouched_claims(connector: object, claims: Claims) -> Claims:
    """Return the claims without an e-mail address that the provider doesn't vouch for.

    Where people may write any address into their account, it must give neither role nor name.
    """
    if not isinstance(connector, OidcConnector) or connector.allow_unverified_email:
        return claims
    if is_email_verified(claims):
        return claims
    return {name: value for name, value in claims.items() if name != "email"}


def is_email_verified(claims: Claims) -> bool:
    verified = claims.get("email_verified")
    return verified is True or verified == "true"  # some write it as text


def user_name(connector: OidcConnector, claims: Claims) -> str:
    """Return what the person is called here.

    Raises:
        AccessDenied: the claim is missing, or can be no name, or is an address that the provider
            doesn't vouch for.
    """
    claim = connector.username_claim
    value = claims.get(claim)
    if not isinstance(value, str) or not value:
        raise AccessDenied(
            f"the provider sent no claim {claim!r}, which is to name you here",
            hint=f"it sent: {', '.join(sorted(claims)) or 'none'}",
        )
    if claim == "email" and not is_email_verified(claims) and not connector.allow_unverified_email:
        raise AccessDenied(
            "the provider does not vouch for your e-mail address",
            hint="confirm it there; or, if the provider never says so, set"
            " spec.allow_unverified_email: true in the connector",
        )
    try:
        if not value.isascii():  # folding would make one person of two
            raise InvalidRequest(f"{value[:80]!r} is not of ASCII")
        return canonical_user_name(value)
    except InvalidRequest as problem:
        raise AccessDenied(
            f"what the provider calls you can be no name here: {problem}",
            hint="choose another username_claim in the connector",
        ) from None
