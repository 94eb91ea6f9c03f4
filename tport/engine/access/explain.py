"""Why somebody may not open an application, and the smallest change that would let them. Pure.

The decision itself is `rbac`'s and asked there; here its parts are looked at one by one, for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from tport.engine.access.labels import FAILED
from tport.engine.access.rbac import (
    UNJUDGED,
    Selector,
    check_app_access,
    compile_role,
    is_app_allowed,
)
from tport.engine.access.replace import TooMuchWork
from tport.engine.access.templates import Template, Values, parse_template
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.explanation import Explanation, RoleView, Unmet
from tport.engine.types.lock import Lock
from tport.engine.types.role import Role

MAX_CHANGES: Final = 4


def explain(
    *,
    user: str,
    app: str,
    roles: Mapping[str, Role],
    names: Sequence[str],
    traits: Values,
    labels: Mapping[str, str],
) -> Explanation:
    """Return why `user` may or may not open an application with these labels.

    Args:
        roles: all roles as they are now.
        names: the person's.
        labels: static and dynamic, merged.
    """
    seen = {name: _view(name, roles.get(name), traits, labels) for name in names}
    unjudged = [name for name, view in seen.items() if view is None]
    views = tuple(
        view or RoleView(role=name, outcome="opens-nothing") for name, view in seen.items()
    )
    denying = next((view.role for view in views if view.outcome == "denies"), "")
    try:
        check_app_access(roles, names, traits, labels)
    except AccessDenied as denied:
        decided = denied.reason
    else:
        opening = next(view.role for view in views if view.outcome == "opens")
        return Explanation(
            user=user, app=app, allowed=True, decided=f"role {opening!r} opens it", roles=views
        )
    would_open: tuple[str, ...] = ()
    if decided.startswith(UNJUDGED):
        changes = [
            f"mend the role {name!r}, which can't be judged, or take it from {user}"
            for name in unjudged
        ]
    elif denying:
        changes = list(_undenying(roles[denying], user))
    else:
        would_open = _would_open(roles, names, traits, labels)
        changes = list(_changes(views, user=user, app=app, would_open=would_open))
    return Explanation(
        user=user,
        app=app,
        allowed=False,
        decided=_sentence(decided, views),
        roles=views,
        changes=tuple(changes[:MAX_CHANGES]),
        would_open=would_open,
    )


def keep_out(found: Explanation, lock: Lock) -> Explanation:
    """Return what roles alone decide, as it stands while a lock is on the person."""
    until = f" until {lock.expires:%Y-%m-%d %H:%M} UTC" if lock.expires is not None else ""
    said = f": {lock.message}" if lock.message else ""
    lifting = f"lift the lock on {lock.target}: tport rm lock/{lock.name}"
    return replace(
        found,
        allowed=False,
        decided=f"a lock on {lock.target} keeps {found.user} out{until}{said}",
        changes=(lifting, *found.changes)[:MAX_CHANGES],
    )


def _view(
    name: str, role: Role | None, traits: Values, labels: Mapping[str, str]
) -> RoleView | None:
    """Return what a role says of the application; None: that can't be judged."""
    if role is None:
        return RoleView(role=name, outcome="unknown")
    try:
        compiled = compile_role(role)
        if compiled.deny.matches(labels, traits, if_failed=True):
            return RoleView(role=name, outcome="denies")
        if compiled.allow.matches(labels, traits, if_failed=False):
            return RoleView(role=name, outcome="opens")
    except (InvalidRequest, TooMuchWork):
        return None
    if not compiled.allow.keys:
        return RoleView(role=name, outcome="opens-nothing")
    unmet = tuple(
        _unmet(role, key, traits, labels)
        for key, wanted in compiled.allow.keys
        if not _is_met(Selector(False, ((key, wanted),)), traits, labels)
    )
    return RoleView(role=name, outcome="falls-short", unmet=unmet)


def _is_met(selector: Selector, traits: Values, labels: Mapping[str, str]) -> bool:
    """Tell whether labels fit one key, to which the decision need not have come."""
    try:
        return selector.matches(labels, traits, if_failed=False)
    except (InvalidRequest, TooMuchWork):
        return False


def _unmet(role: Role, key: str, traits: Values, labels: Mapping[str, str]) -> Unmet:
    wanted = tuple(role.allow.app_labels[key])
    missing = {name for text in wanted for name in _traits_of(text) if not traits.get(name)}
    return Unmet(key=key, wanted=wanted, has=labels.get(key), missing_traits=tuple(sorted(missing)))


def _traits_of(text: str) -> Iterator[str]:
    """Yield the traits that a value of `app_labels` stands for."""
    for part in parse_template(text).parts:
        if not isinstance(part, str):
            yield part.variable[1]


def _would_open(
    roles: Mapping[str, Role], names: Sequence[str], traits: Values, labels: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the roles that would open it beside those there are, the narrowest first."""
    found = [
        name
        for name in roles
        if name not in names and is_app_allowed(roles, [*names, name], traits, labels)
    ]
    return tuple(sorted(found, key=lambda name: (_breadth(roles[name]), name)))


def _breadth(role: Role) -> tuple[bool, int]:
    """Order roles by how much they open: those that open everything last, then by fewer keys."""
    keys = role.allow.app_labels
    return ("*" in keys or not keys, -len(keys))


def _undenying(role: Role, user: str) -> Iterator[str]:
    labels = ", ".join(f"{k}: {list(v)}" for k, v in role.deny.app_labels.items())
    yield f"take the role {role.name!r} from {user}"
    yield f"narrow deny.app_labels of the role {role.name!r} ({labels})"


def _changes(
    views: Sequence[RoleView], *, user: str, app: str, would_open: Sequence[str]
) -> Iterator[str]:
    near = sorted(
        (view for view in views if view.outcome == "falls-short"), key=lambda view: len(view.unmet)
    )
    for view in near:
        if len(view.unmet) == 1:
            yield from _mending(view.unmet[0], view.role, user=user, app=app)
    for name in would_open:
        yield f"give {user} the role {name!r}"
    if not would_open and not near:
        yield "make a role whose app_labels fit the application's labels, and give it to " + user


def _mending(unmet: Unmet, role: str, *, user: str, app: str) -> Iterator[str]:
    key, has = unmet.key, unmet.has
    if has == FAILED:
        yield f"mend the command of {app}'s label {key!r}: it failed"
        return
    whole = [text for text in unmet.wanted if _is_one_trait(text)]
    if has is not None and unmet.missing_traits and whole:
        yield f"give {user} the trait {unmet.missing_traits[0]}={has}"
    elif has is not None and whole:
        name = next(_traits_of(whole[0]))
        yield f"add {has!r} to {user}'s trait {name!r}"
    plain = next((text for text in unmet.wanted if _is_literal(text)), "")
    if plain:
        yield f"label {app} {key}={plain}"
    if has is not None:
        yield f"add {has!r} to app_labels.{key} of the role {role!r}"


def _is_one_trait(text: str) -> bool:
    parts = parse_template(text).parts
    return len(parts) == 1 and not isinstance(parts[0], str)


def _is_literal(text: str) -> bool:
    template: Template = parse_template(text)
    return template.is_static and "*" not in text and not text.startswith("^")


def _sentence(reason: str, views: Sequence[RoleView]) -> str:
    short = [view for view in views if view.outcome == "falls-short"]
    if reason.startswith(UNJUDGED) or "denies" in reason or not short:
        return reason
    view = min(short, key=lambda each: len(each.unmet))
    parts = [
        f"{unmet.key} should be {' or '.join(unmet.wanted)}"
        + (f" and is {unmet.has}" if unmet.has is not None else " and is not there")
        for unmet in view.unmet
    ]
    return f"no role opens it; the nearest, {view.role!r}, falls short: {'; '.join(parts)}"
