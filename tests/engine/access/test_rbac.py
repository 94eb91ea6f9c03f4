from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.rbac import DENIED, check_app_access, is_app_allowed, session_ttl
from tport.engine.access.rules import check_role
from tport.engine.access.templates import MAX_VALUES, internal_values, parse_template
from tport.engine.defaults import MAX_SESSION_TTL
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.role import PRESETS, Conditions, Role, RoleOptions, RoleVersion

Labels = Mapping[str, tuple[str, ...]]


def role(
    allow: Labels | None = None,
    deny: Labels | None = None,
    *,
    name: str = "r",
    version: RoleVersion = "v8",
    ttl: timedelta = MAX_SESSION_TTL,
) -> Role:
    return Role(
        name=name,
        version=version,
        allow=Conditions(app_labels=allow or {}),
        deny=Conditions(app_labels=deny or {}),
        options=RoleOptions(max_session_ttl=ttl),
    )


def opens(
    *roles: Role,
    labels: Mapping[str, str],
    traits: Mapping[str, Sequence[str]] | None = None,
) -> bool:
    named = {f"{at}": one for at, one in enumerate(roles)}
    return is_app_allowed(named, list(named), traits or {}, labels)


def test_nothing_is_allowed_by_default() -> None:
    assert not opens(labels={})
    assert not opens(role(), labels={"env": "prod"})


def test_the_preset_access_opens_every_application_and_the_others_none() -> None:
    for labels in ({}, {"env": "prod"}):
        assert is_app_allowed(PRESETS, ["access"], {}, labels)
        assert not is_app_allowed(PRESETS, ["editor", "auditor"], {}, labels)


def test_a_role_of_version_3_without_app_labels_opens_everything_later_ones_nothing() -> None:
    assert opens(role(version="v3"), labels={})
    assert not opens(role(version="v4"), labels={})
    assert not opens(role({"env": ("dev",)}, version="v3"), labels={})


def test_keys_are_anded_and_the_values_of_one_ored() -> None:
    team = role({"env": ("dev", "test"), "team": ("a",)})

    assert opens(team, labels={"env": "test", "team": "a", "more": "x"})
    assert not opens(team, labels={"env": "test"})
    assert not opens(team, labels={"env": "prod", "team": "a"})


def test_two_roles_that_allow_halfway_allow_nothing() -> None:
    assert not opens(
        role({"env": ("dev",), "team": ("a",)}),
        role({"env": ("prod",), "team": ("b",)}),
        labels={"env": "dev", "team": "b"},
    )


def test_deny_wins_whichever_role_comes_first() -> None:
    anything, no_prod = role({"*": ("*",)}), role(deny={"env": ("prod",)})

    for roles in ((anything, no_prod), (no_prod, anything)):
        assert not opens(*roles, labels={"env": "prod"})
        assert opens(*roles, labels={"env": "dev"})


def test_a_name_without_a_role_gives_nothing_and_takes_nothing() -> None:
    assert is_app_allowed(PRESETS, ["gone", "access"], {}, {})
    assert not is_app_allowed(PRESETS, ["gone"], {}, {})


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("prod", "prod", "PROD"),
        ("*", "anything", None),
        ("us-*", "us-west", "eu-us-west"),
        ("*-west-*", "us-west-2", "us-west2"),
        ("a.c", "a.c", "abc"),
        ("^dev|prod$", "prod", "nonprod"),
        ("^us-(east|west)-[0-9]+$", "us-east-12", "us-east-"),
    ],
)
def test_values_are_literals_globs_or_regular_expressions(
    pattern: str, fits: str, fails: str | None
) -> None:
    assert opens(role({"env": (pattern,)}), labels={"env": fits})
    if fails is not None:
        assert not opens(role({"env": (pattern,)}), labels={"env": fails})


def test_a_trait_expands_to_each_of_its_values() -> None:
    team = role({"team": ("{{external.team}}", "shared")})

    assert opens(team, labels={"team": "b"}, traits={"team": ("a", "b")})
    assert not opens(team, labels={"team": "c"}, traits={"team": ("a", "b")})
    assert opens(team, labels={"team": "shared"})


def test_a_missing_trait_matches_nothing_not_even_an_empty_label() -> None:
    team = role({"team": ("{{external.team}}",)})

    assert not opens(team, labels={"team": ""})
    assert not opens(team, labels={"team": "{{external.team}}"})


@pytest.mark.parametrize("trait", ["*", "^.*$", ".*", "p*", "prod|dev"])
@pytest.mark.parametrize("value", ["{{external.env}}", "^{{external.env}}$", "{{external.env}}*"])
def test_what_a_trait_holds_is_no_pattern(value: str, trait: str) -> None:
    """Who may set a trait may not thereby open everything."""
    assert not opens(role({"env": (value,)}), labels={"env": "prod"}, traits={"env": (trait,)})
    assert opens(role({"env": (value,)}), labels={"env": trait}, traits={"env": (trait,)})


def test_a_trait_does_not_turn_a_literal_into_a_regular_expression() -> None:
    begun = role({"env": ("^p{{external.rest}}",)})

    assert not opens(begun, labels={"env": "prod"}, traits={"rest": (".*$",)})
    assert opens(begun, labels={"env": "^p.*$"}, traits={"rest": (".*$",)})


def test_globs_and_expressions_work_around_a_trait() -> None:
    assert opens(
        role({"app": ("{{external.team}}-*",)}), labels={"app": "x-1"}, traits={"team": ("x",)}
    )
    assert opens(
        role({"app": ("^{{external.team}}-[0-9]$",)}),
        labels={"app": "a.b-1"},
        traits={"team": ("a.b",)},
    )


def test_a_label_whose_command_failed_opens_nothing_and_lifts_no_denial() -> None:
    """AG-14: `error` says nothing of the application."""
    labels = {"env": "error", "team": "a"}

    assert not opens(role({"env": ("*",)}), labels=labels)
    assert not opens(role({"env": ("^.*$",)}), labels=labels)
    assert opens(role({"team": ("a",)}), labels=labels)
    assert opens(role({"*": ("*",)}), labels=labels)
    assert not opens(role({"*": ("*",)}, deny={"env": ("prod",)}), labels=labels)


def test_a_denial_says_the_same_to_everyone_and_more_to_the_log() -> None:
    roles = {"open": role({"*": ("*",)}), "shut": role(deny={"env": ("prod",)})}

    with pytest.raises(AccessDenied) as denied:
        check_app_access(roles, ["open", "shut"], {}, {"env": "prod"})
    with pytest.raises(AccessDenied) as unlisted:
        check_app_access(roles, ["shut"], {}, {"env": "dev"})

    assert str(denied.value) == str(unlisted.value) == DENIED
    assert "'shut'" in denied.value.reason
    assert denied.value.reason != unlisted.value.reason


def test_a_changed_role_counts_at_once() -> None:
    roles = {"r": role({"env": ("dev",)})}
    assert not is_app_allowed(roles, ["r"], {}, {"env": "prod"})

    roles["r"] = role({"env": ("prod",)})

    assert is_app_allowed(roles, ["r"], {}, {"env": "prod"})


def test_the_shortest_session_counts() -> None:
    roles = {
        "long": role(ttl=timedelta(hours=8)),
        "short": role(ttl=timedelta(hours=1)),
        "unset": role(ttl=timedelta(0)),
    }

    assert session_ttl(roles, ["long", "short", "gone"]) == timedelta(hours=1)
    assert session_ttl(roles, ["unset"]) == MAX_SESSION_TTL
    assert session_ttl(roles, []) == MAX_SESSION_TTL


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"*": ("staging",)}, "key '*'"),
        ({"*": ("*", "x")}, "key '*'"),
        ({"env": ("^(a$",)}, "not closed"),
        ({"env": ("{{external.x",)}, "without"),
        ({"env": ("{{internal.jwt}}",)}, "no internal.jwt"),
        ({"env": ("^{{external.x}}($",)}, "not closed"),
        ({"env": ("error",)}, "never matches"),
        ({"env": ()}, "no value"),
        ({"a b": ("x",)}, "key of a label"),
        ({"env": ("x" * 300,)}, "longer"),
    ],
)
def test_a_selector_that_cannot_be_meant_is_refused_when_the_role_is_written(
    labels: Labels, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        check_role(role(allow=labels))
    assert str(refused.value).startswith("allow.app_labels: ")
    with pytest.raises(InvalidRequest, match=r"^deny\.app_labels: "):
        check_role(role(deny=labels))


def test_a_function_of_a_trait_opens_what_it_makes_of_it() -> None:
    red = role({"team": ('{{regexp.replace(external.groups, "^team-(.*)$", "$1")}}',)})
    mine = role({"owner": ("{{email.local(external.email)}}",)})

    assert opens(red, labels={"team": "red"}, traits={"groups": ("team-red", "staff")})
    assert not opens(red, labels={"team": "staff"}, traits={"groups": ("team-red", "staff")})
    assert not opens(red, labels={"team": "team-red"}, traits={"groups": ("team-red",)})
    assert opens(mine, labels={"owner": "alice"}, traits={"email": ("alice@example.com",)})
    assert not opens(mine, labels={"owner": "alice"}, traits={"email": ("*@example.com",)})


def test_what_cannot_be_worked_out_in_time_is_no_permission() -> None:
    """Nor is it a way around a denial."""
    slow = '{{regexp.replace(external.x, "(.*)(.*)(.*)b", "b")}}'
    long = {"x": ("a" * 5000,)}

    assert not opens(role({"env": (slow, "prod")}), labels={"env": "prod"}, traits=long)
    denies = role({"*": ("*",)}, deny={"env": (slow,)})
    assert opens(denies, labels={"env": "prod"}, traits={"x": ("c",)})
    assert not opens(denies, labels={"env": "prod"}, traits=long)


MANY = {"groups": [f"group-{n}" for n in range(1000)]}


def test_a_trait_by_itself_opens_and_denies_however_many_values_it_has() -> None:
    mine = {"team": ("{{external.groups}}",)}

    assert opens(role(mine), labels={"team": "group-999"}, traits=MANY)
    assert not opens(role(mine), labels={"team": "group-1000"}, traits=MANY)
    assert not opens(role({"*": ("*",)}, mine), labels={"team": "group-999"}, traits=MANY)
    assert opens(role({"*": ("*",)}, mine), labels={"team": "group-1000"}, traits=MANY)


class Asked(tuple[str, ...]):
    """Values that may be asked for one, and not gone through."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all values were gone through")


def test_a_trait_by_itself_is_asked_for_the_label_and_not_written_out() -> None:
    """Of each live WebSocket this is asked each few seconds, and a person may be in many groups."""
    mine = {"team": ("{{external.groups}}",)}
    groups = {"groups": Asked(MANY["groups"])}

    assert opens(role(mine), labels={"team": "group-999"}, traits=groups)
    assert not opens(role({"*": ("*",)}, mine), labels={"team": "group-999"}, traits=groups)


TEXTS = st.text("ab@*.^$", max_size=4)
EXPRESSIONS = st.recursive(
    st.sampled_from(["external.logins", "internal.logins", "external.none"]),
    lambda inner: st.one_of(
        inner.map("email.local({})".format),
        inner.map('regexp.replace({}, "^(a*)b?", "$1")'.format),
    ),
    max_leaves=3,
)


@given(expression=EXPRESSIONS, values=st.lists(TEXTS, max_size=MAX_VALUES), label=TEXTS)
def test_a_template_by_itself_fits_what_it_would_be_written_out_as(
    expression: str, values: Sequence[str], label: str
) -> None:
    traits = {"logins": values}
    template = parse_template(f"{{{{{expression}}}}}")
    written_out = template.render(internal_values(traits), traits) or ()

    allowing = role({"team": (f"{{{{{expression}}}}}",)})
    assert opens(allowing, labels={"team": label}, traits=traits) == (label in written_out)
    for one in written_out:
        assert opens(allowing, labels={"team": one}, traits=traits)


@pytest.mark.parametrize("value", ["{{external.groups}}*", "^{{external.groups}}$"])
def test_more_values_than_are_looked_at_open_nothing_and_lift_no_denial(value: str) -> None:
    """Nobody can tell then whether the label is among them."""
    denies = role({"*": ("*",)}, deny={"team": (value,)})

    assert not opens(denies, labels={"team": "group-999"}, traits=MANY)
    assert opens(denies, labels={}, traits=MANY)
    assert opens(denies, labels={"team": "other"}, traits={"groups": MANY["groups"][:64]})
    both = role({"*": ("*",)}, deny={"team": (value,), "env": ("prod",)})
    assert opens(both, labels={"team": "group-999", "env": "dev"}, traits=MANY)
    assert not opens(role({"team": (value,)}), labels={"team": "group-1"}, traits=MANY)
    assert opens(role({"team": (value, "x")}), labels={"team": "x"}, traits=MANY)
