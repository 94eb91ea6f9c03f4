from datetime import timedelta
from typing import Any

import pytest

from tport.engine.access.rules import check_role, check_rule, role_from_resource
from tport.engine.defaults import MAX_SESSION_TTL
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.role import PRESETS, Conditions, Role, RoleOptions, Rule


def ruled(allow: tuple[Rule, ...] = (), deny: tuple[Rule, ...] = ()) -> Role:
    return Role(name="r", allow=Conditions(rules=allow), deny=Conditions(rules=deny))


def may(role: Role, kind: str, verb: str) -> bool:
    try:
        check_rule({"r": role}, ["r"], kind, verb)
    except AccessDenied:
        return False
    return True


def test_a_rule_allows_its_verbs_on_its_kinds_and_no_more() -> None:
    role = ruled((Rule(("event", "session"), ("list", "read")),))

    assert may(role, "event", "read")
    assert may(role, "event", "readnosecrets")
    assert not may(role, "event", "delete")
    assert not may(role, "user", "read")


def test_a_denied_rule_wins_over_a_star() -> None:
    role = ruled((Rule(("*",), ("*",)),), (Rule(("token",), ("create",)),))

    assert may(role, "token", "list")
    assert not may(role, "token", "create")


def test_the_presets_are_roles_that_could_be_written_today() -> None:
    for role in PRESETS.values():
        assert check_role(role) is role
    check_rule(PRESETS, ["editor"], "token", "create")
    with pytest.raises(AccessDenied):
        check_rule(PRESETS, ["access", "auditor"], "token", "create")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule((), ("list",)), r"allow\.rules\[0\]: needs"),
        (Rule(("user",), ()), r"allow\.rules\[0\]: needs"),
        (Rule(("user",), ("fly",)), r"allow\.rules\[0\]\.verbs: 'fly'"),
        (Rule(("User!",), ("list",)), r"allow\.rules\[0\]\.resources: 'User!'"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: Rule, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        check_role(ruled((rule,)))


DEVELOPER: dict[str, Any] = {
    "kind": "role",
    "version": "v5",
    "metadata": {"name": "developer", "description": "Dev apps", "revision": "4a"},
    "spec": {
        "options": {"max_session_ttl": "8h30m0s", "forward_agent": True},
        "allow": {
            "logins": ["root"],
            "app_labels": {"env": "dev", "team": ["a", "{{external.team}}"]},
            "rules": [{"resources": ["event"], "verbs": ["list", "read"]}],
        },
        "deny": {"app_labels": {"tier": "secret"}, "logins": ["guest"]},
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    def put(where: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        key, *rest = keys
        return {**where, key: put(where.get(key) or {}, rest) if rest else value}

    return put(DEVELOPER, path.split("."))


def test_a_role_of_teleport_is_read_and_what_has_no_effect_is_kept_and_named_once() -> None:
    role, notes = role_from_resource(DEVELOPER)

    assert role == Role(
        name="developer",
        version="v5",
        description="Dev apps",
        allow=Conditions(
            app_labels={"env": ("dev",), "team": ("a", "{{external.team}}")},
            rules=(Rule(("event",), ("list", "read")),),
        ),
        deny=Conditions(app_labels={"tier": ("secret",)}),
        options=role.options,
        other={
            "metadata": {"revision": "4a"},
            "spec.options": {"forward_agent": True},
            "spec.allow": {"logins": ["root"]},
            "spec.deny": {"logins": ["guest"]},
        },
    )
    assert role.options.max_session_ttl == timedelta(hours=8, minutes=30)
    assert notes == [
        "spec.options.forward_agent has no effect here",
        "spec.allow.logins has no effect here",
        "spec.deny.logins has no effect here",
    ]


def test_an_empty_role_is_one_that_grants_nothing() -> None:
    role, notes = role_from_resource({"kind": "role", "metadata": {"name": "nothing"}, "spec": {}})

    assert role == Role(name="nothing")
    assert notes == []


def test_a_session_of_a_thousand_years_is_not_taken() -> None:
    """It can't be added to a time."""
    role = Role(name="long", options=RoleOptions(max_session_ttl=timedelta.max))
    with pytest.raises(InvalidRequest, match=r"options\.max_session_ttl: must be below"):
        check_role(role)


@pytest.mark.parametrize("ttl", [None, "", "0s", 0, "0h0m0s", -5, -(10**15)])
def test_no_session_length_means_the_default(ttl: object) -> None:
    role, _ = role_from_resource(changed("spec.options.max_session_ttl", ttl))

    assert role.options.max_session_ttl == MAX_SESSION_TTL


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("kind", "user", "kind: expected role"),
        ("version", "v9", "version: 'v9'"),
        ("metadata.name", None, r"metadata\.name: is missing"),
        ("metadata.name", "a b", "no role name"),
        ("spec", [], "spec: must be a mapping"),
        ("spec.alow", {}, r"spec\.alow: unknown field"),
        ("spec.allow.app_label", {}, r"spec\.allow\.app_label: unknown field"),
        ("spec.allow.app_labels.env", True, r"spec\.allow\.app_labels\.env: True is no text"),
        ("spec.allow.app_labels.env", ["a", 1], "1 is no text"),
        ("spec.allow.app_labels.*", "x", "key '\\*'"),
        ("spec.allow.app_labels_expression", "x == y", "not supported"),
        ("spec.deny.app_labels_expression", "x == y", "not supported"),
        ("spec.allow.rules", "x", r"spec\.allow\.rules: must be a list"),
        (
            "spec.allow.rules",
            [{"resources": ["session"], "verbs": ["list"], "where": "equals(a, b)"}],
            r"rules\[0\]\.where: conditions",
        ),
        ("spec.options.max_session_ttl", "soon", "'soon' is no duration"),
        ("spec.options.max_session_ttl", True, "no duration"),
        ("spec.deny.app_labels", {"dynamic/x": "y"}, "reserved"),
    ],
)
def test_what_would_be_lost_or_misread_is_refused_by_its_path(
    path: str, value: object, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why):
        role_from_resource(changed(path, value))
