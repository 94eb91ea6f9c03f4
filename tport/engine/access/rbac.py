"""May this person open this application? Roles, traits and labels in; yes or an error out.

Deny is asked first and wins. One role must allow by itself: what two roles allow halfway
is not allowed. Whatever goes wrong while deciding denies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from tport.engine.access.labels import FAILED
from tport.engine.access.patterns import (
    Matcher,
    compile_glob,
    compile_pattern,
    compile_regex,
    escape,
    is_regex,
)
from tport.engine.access.templates import (
    INTERNAL_TRAITS,
    Template,
    Values,
    internal_values,
    parse_template,
)
from tport.engine.defaults import MAX_SESSION_TTL
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.app import is_label
from tport.engine.types.role import Role

DENIED: Final = "there is no such application, or no role of yours opens it"
UNJUDGED: Final = "the roles can't be judged"  # how a reason begins when deciding fails

MAX_COMPILED: Final = 2048  # roles kept ready; a cluster has a few dozen


def check_app_access(
    roles: Mapping[str, Role],
    names: Sequence[str],
    traits: Values,
    labels: Mapping[str, str],
) -> None:
    """Return when the roles `names` open an application with these labels.

    Args:
        roles: all roles as they are now; a name without a role gives nothing.
        names: the person's roles.
        traits: the person's, for templates; a trait's value is taken to the letter.
        labels: static and dynamic, merged.

    Raises:
        AccessDenied: always with the same message, which also stands for "no such
            application"; `reason` says which role decided.
    """
    try:
        compiled = [(name, _compiled(roles[name])) for name in names if name in roles]
        for name, selectors in compiled:
            if selectors.deny.matches(labels, traits, if_failed=True):
                raise AccessDenied(DENIED, reason=f"role {name!r} denies it")
        for _, selectors in compiled:
            if selectors.allow.matches(labels, traits, if_failed=False):
                return
    except AccessDenied:
        raise
    except Exception as error:  # whatever it is, it is no permission
        raise AccessDenied(DENIED, reason=f"{UNJUDGED}: {error}") from error
    raise AccessDenied(DENIED, reason=no_role_does("open", names))


def no_role_does(verb: str, names: Sequence[str]) -> str:
    """Say that none of the roles `names` opens or allows something, as a reason in words."""
    match names:
        case []:
            return "no role was given"
        case [name]:
            return f"the role {name!r} does not {verb} it"
        case _:
            return f"none of the roles {', '.join(names)} {verb}s it"


def is_app_allowed(
    roles: Mapping[str, Role],
    names: Sequence[str],
    traits: Values,
    labels: Mapping[str, str],
) -> bool:
    """Tell what `check_app_access` would say."""
    try:
        check_app_access(roles, names, traits, labels)
    except AccessDenied:
        return False
    return True


def session_ttl(roles: Mapping[str, Role], names: Sequence[str]) -> timedelta:
    """Return how long a session of a person with these roles may live: the shortest counts."""
    ttls = (roles[name].options.max_session_ttl for name in names if name in roles)
    # At or below zero means "the default" in Teleport's roles.
    return min((ttl for ttl in ttls if ttl > timedelta(0)), default=MAX_SESSION_TTL)


@dataclass(frozen=True, slots=True)
class Selector:
    """One `app_labels`, ready to match: keys ANDed, the values of one key ORed."""

    everything: bool
    keys: tuple[tuple[str, tuple[Matcher | Template, ...]], ...] = ()

    def matches(self, labels: Mapping[str, str], traits: Values, *, if_failed: bool) -> bool:
        """Tell whether the labels fit.

        A label whose command failed says nothing of the application: it fits when
        `if_failed`, so that a failure neither opens what is allowed by that label nor
        opens what is denied by it. So does a label that is wanted to be text around a trait
        with more values than are looked at.
        """
        if self.everything:
            return True
        if not self.keys:
            return False
        for key, wanted in self.keys:
            value = labels.get(key)
            if value is None:
                return False
            if value == FAILED:
                if not if_failed:
                    return False
            elif not any(_fits(one, value, traits, if_failed=if_failed) for one in wanted):
                return False
        return True


def compile_labels(app_labels: Mapping[str, Sequence[str]]) -> Selector:
    """Make the selector that `app_labels` of a role means.

    Raises:
        InvalidRequest: naming the key.
    """
    if "*" in app_labels:
        if tuple(app_labels["*"]) != ("*",):
            raise InvalidRequest(
                "app_labels: the key '*' takes only the value '*'",
                hint="'*': '*' opens every application; name a label for anything else",
            )
        return Selector(everything=True)
    return Selector(
        everything=False,
        keys=tuple((key, _values(key, values)) for key, values in app_labels.items()),
    )


def _values(key: str, values: Sequence[str]) -> tuple[Matcher | Template, ...]:
    if not is_label(key, ""):
        raise InvalidRequest(f"app_labels: {key[:80]!r} can't be the key of a label")
    if not values:
        raise InvalidRequest(f"app_labels: {key!r} has no value, so that nothing would match")
    ready: list[Matcher | Template] = []
    for value in values:
        if value == FAILED:
            raise InvalidRequest(
                f"app_labels: {key!r}: {FAILED!r} says that a command failed, and never matches"
            )
        if not value.isprintable():
            raise InvalidRequest(f"app_labels: {key!r}: a value is not printable")
        try:
            template = parse_template(value, internal_names=INTERNAL_TRAITS)
            if not template.is_static:
                # Rendered once with a harmless value: what is wrong around it shows now.
                compile_pattern("".join(p if isinstance(p, str) else "x" for p in template.parts))
            ready.append(compile_pattern(value) if template.is_static else template)
        except InvalidRequest as error:
            raise InvalidRequest(f"app_labels: {key!r}: {error}", hint=error.hint) from None
    return tuple(ready)


def _fits(wanted: Matcher | Template, value: str, traits: Values, *, if_failed: bool) -> bool:
    if not isinstance(wanted, Template):
        return wanted(value)
    internal = internal_values(traits)
    if len(wanted.parts) == 1:  # to the letter: comparing costs little, however many they are
        return value in wanted.values(internal, traits)
    # What the role wrote decides which kind of pattern it is: a trait can't turn it into another.
    first, last = wanted.parts[0], wanted.parts[-1]
    regex = isinstance(first, str) and isinstance(last, str) and is_regex(first[0] + last[-1])
    compile_one = compile_regex if regex else compile_glob
    patterns = wanted.render(internal, traits, escape=partial(escape, regex=regex))
    if patterns is None:
        return if_failed
    return any(compile_one(pattern)(value) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class _Compiled:
    role: Role  # keeps the role alive, and with it its id
    allow: Selector
    deny: Selector


_cache: dict[int, _Compiled] = {}


def _compiled(role: Role) -> _Compiled:
    """Return the role ready to match; the same object is compiled once.

    Keyed by identity: a role is a frozen value without a hash, and the watch that brings a
    changed role brings a new object.
    """
    ready = _cache.get(id(role))
    if ready is None or ready.role is not role:
        if len(_cache) >= MAX_COMPILED:
            _cache.clear()
        ready = _cache[id(role)] = compile_role(role)
    return ready


def compile_role(role: Role) -> _Compiled:
    """Make both selectors of a role.

    Raises:
        InvalidRequest: naming side and key.
    """
    if role.version == "v3" and not role.allow.app_labels:
        allow = Selector(everything=True)  # v3 without app_labels meant all applications
    else:
        allow = _side("allow", role.allow.app_labels)
    return _Compiled(role, allow, _side("deny", role.deny.app_labels))


def _side(side: str, app_labels: Mapping[str, Sequence[str]]) -> Selector:
    try:
        return compile_labels(app_labels)
    except InvalidRequest as error:
        raise InvalidRequest(f"{side}.{error}", hint=error.hint) from None
