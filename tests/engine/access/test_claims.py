"""What a provider says of a person: traits, roles, a name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tport.engine.access.claims import (
    MAX_TOGETHER,
    MAX_TRAITS,
    MAX_VALUES,
    MAX_WHOLE,
    check_mappings,
    mapped_roles,
    team_roles,
    traits_of,
    user_name,
    vouched_claims,
)
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.connector import ClaimMapping, OidcConnector, TeamMapping
from tport.engine.types.user import check_traits

CONNECTOR = OidcConnector(name="x", issuer="https://id.test", client_id="c")


def mapping(value: str, *roles: str, claim: str = "groups") -> ClaimMapping:
    return ClaimMapping(claim=claim, value=value, roles=roles or ("access",))


def test_every_claim_of_the_person_becomes_a_trait_and_none_of_the_token() -> None:
    told = traits_of(
        {
            "iss": "https://id.test",
            "nonce": "n",
            "exp": 1,
            "email": "ann@x.test",
            "groups": ["dev", "dev", "ops"],
            "email_verified": True,
            "level": 7,
            "nothing": None,
            "none": [],
        }
    )
    assert told.traits == {
        "email": ("ann@x.test",),
        "groups": ("dev", "ops"),
        "email_verified": ("true",),
        "level": ("7",),
    }
    assert told.left_out == {}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("address", {"street": "x"}, "not a text"),
        ("mixed", ["a", {"b": 1}], "not a text"),
        ("ratio", 0.5, "not a text"),
        ("many", [str(n) for n in range(MAX_WHOLE + 1)], "values"),
        ("a b", "x", "no trait name"),
        ("line", "a\nb", "not printable"),
        ("long", "x" * 1025, "too long"),
    ],
)
def test_what_can_be_no_trait_is_left_out_and_named(name: str, value: object, why: str) -> None:
    told = traits_of({name: value, "email": "a@x.test"})
    assert told.traits == {"email": ("a@x.test",)}
    assert why in told.left_out[name]


def test_a_token_with_thousands_of_claims_makes_no_more_than_so_many_traits() -> None:
    told = traits_of({f"c{n}": "x" for n in range(5000)})
    assert len(told.traits) == MAX_TRAITS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_whatever_a_provider_says_what_comes_of_it_is_traits(claims: dict[str, Any]) -> None:
    check_traits(traits_of(claims).traits)


@pytest.mark.parametrize(
    ("value", "roles", "expected"),
    [
        ("dev", ("access",), ("access",)),
        ("de", ("access",), ()),
        ("Dev", ("access",), ()),
        ("d*", ("access",), ("access",)),
        ("^(dev|ops)$", ("access",), ("access",)),
        ("^team-(.*)$", ("$1-role", "auditor"), ("red-role", "auditor")),
        ("^team-(.*)$", ("${1}",), ("red",)),
        ("^(a+)+$", ("x",), ()),
    ],
)
def test_a_value_is_a_literal_a_glob_or_an_expression(
    value: str, roles: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    mappings = [mapping(value, *roles)]
    check_mappings(mappings)
    assert mapped_roles(mappings, {"groups": ("dev", "team-red", "a" * 40 + "!")}) == expected


def test_roles_come_once_and_in_the_order_of_the_mappings() -> None:
    mappings = [mapping("b", "two", "one"), mapping("a", "one", "three")]
    assert mapped_roles(mappings, {"groups": ("a", "b")}) == ("two", "one", "three")
    assert mapped_roles(mappings, {}) == ()


@pytest.mark.parametrize(
    ("value", "role", "words"),
    [
        ("^(a$", "x", "value"),
        ("^a$", "$1", "value"),
        ("dev", "$1", "roles"),
        ("x" * 257, "x", "longer"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused_when_it_is_written(
    value: str, role: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"claims_to_roles\[0\].*{words}"):
        check_mappings([mapping(value, role)])


def test_teams_are_told_apart_by_organization_and_not_by_case() -> None:
    mappings = [
        TeamMapping(organization="Acme", team="Devs", roles=("access",)),
        TeamMapping(organization="acme", team="*", roles=("auditor",)),
    ]
    assert team_roles(mappings, [("acme", "devs")]) == ("access", "auditor")
    assert team_roles(mappings, [("ACME", "")]) == ("auditor",)
    assert team_roles(mappings, [("evil", "devs")]) == ()


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"sub": "1"}, "no claim 'email'"),
        ({"email": ["a@x.test"], "email_verified": True}, "no claim"),
        ({"email": "a@x.test"}, "vouch"),
        ({"email": "a@x.test", "email_verified": "false"}, "vouch"),
        ({"email": "a@x.test", "email_verified": 1}, "vouch"),
        ({"email": "a b@x.test", "email_verified": True}, "no name here"),
        ({"email": "../../etc", "email_verified": True}, "no name here"),
    ],
)
def test_a_name_must_be_one_and_vouched_for(claims: dict[str, Any], words: str) -> None:
    with pytest.raises(AccessDenied, match=words):
        user_name(CONNECTOR, claims)


def test_one_person_has_one_name_however_the_provider_spells_it() -> None:
    """AUTH-11."""
    for spelling in ("Ann@X.test", "ANN@X.TEST", "ann@x.test"):
        assert user_name(CONNECTOR, {"email": spelling, "email_verified": True}) == "ann@x.test"


@pytest.mark.parametrize("name", ["ａｎｎ@x.test", "strauß@x.test"])
def test_two_people_are_not_made_one_by_folding_their_names(name: str) -> None:
    """AUTH-11."""
    with pytest.raises(AccessDenied, match="no name here"):
        user_name(CONNECTOR, {"email": name, "email_verified": True})


def test_an_address_that_nobody_vouches_for_gives_nothing() -> None:
    """Whoever may write any address into their account would have any role."""
    claims = {"sub": "1", "email": "boss@x.test"}
    assert vouched_claims(CONNECTOR, claims) == {"sub": "1"}
    assert vouched_claims(CONNECTOR, claims | {"email_verified": True})["email"] == "boss@x.test"
    lax = replace(CONNECTOR, allow_unverified_email=True)
    assert vouched_claims(lax, claims) == claims


def test_roles_are_made_of_more_groups_than_an_application_is_told_of() -> None:
    groups = [f"group-{n:04}-{'x' * 20}" for n in range(MAX_VALUES + 100)]
    told = traits_of({"groups": groups, "email": "a@x.test"})
    assert told.traits == {"email": ("a@x.test",)}
    assert "roles are made of them" in told.left_out["groups"]
    assert mapped_roles([mapping(groups[-1])], told.whole) == ("access",)


def test_all_traits_together_fit_into_a_header() -> None:
    told = traits_of({f"c{n}": ["x" * 1000] * 1 + [str(n)] for n in range(40)})
    assert len(json.dumps(told.traits)) <= MAX_TOGETHER
    assert len(told.left_out) + len(told.traits) == 40


def test_what_is_not_of_ascii_counts_as_long_as_it_is_in_a_header() -> None:
    groups = ["\N{CJK UNIFIED IDEOGRAPH-6F22}" * 99 + str(number) for number in range(100)]
    told = traits_of({"department": ["Labs"], "groups": groups})
    assert told.traits == {"department": ("Labs",)}
    assert told.whole.keys() == {"department", "groups"}
    assert "too long" in told.left_out["groups"]
