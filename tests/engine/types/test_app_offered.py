"""What leaves an agent of an application's definition: what others decide by and show, and no secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tport.engine.access.templates import parse_template
from tport.engine.config.app_rules import parse_header
from tport.engine.types.app import KEPT, App, Header, Rewrite

SECRET = "Basic YWxpY2U6aHVudGVyMg=="


def app(*headers: Header) -> App:
    return App(name="a", uri="http://a", rewrite=Rewrite(redirect=("localhost",), headers=headers))


@pytest.mark.parametrize(
    ("name", "value", "offered"),
    [
        ("Authorization", SECRET, KEPT),
        ("X-Team", "red", KEPT),
        ("X-Hosts", "h", KEPT),
        ("X-Env", "{{external.env}}", "{{external.env}}"),
        ("Authorization", "Bearer {{internal.jwt}}", "Bearer {{internal.jwt}}"),
        ("Host", "a.example.com", "a.example.com"),
        ("HOST", "a.example.com", "a.example.com"),
        ("X-Removed", "", ""),
    ],
)
def test_a_header_s_own_text_stays_on_the_agent(name: str, value: str, offered: str) -> None:
    """OPS-03: but for Host, which says where the application is; a template names what is put in."""
    [header] = app(Header(name, value)).as_offered({}).rewrite.headers

    assert header == Header(name, offered)


@given(st.lists(st.builds(Header, st.sampled_from(["Host", "X-A"]), st.text()), max_size=3))
def test_what_was_offered_once_is_offered_again_as_it_is(headers: list[Header]) -> None:
    offered = app(*headers).as_offered({"env": "prod"})

    assert offered.as_offered(offered.labels) == offered
    assert offered.rewrite.redirect == ("localhost",)


def test_what_stands_in_for_a_value_is_one_where_values_are_read() -> None:
    assert parse_header(f"X-Team: {KEPT}") == Header("X-Team", KEPT)
    assert parse_template(KEPT).is_static


def test_two_agents_mean_the_same_application_whatever_each_says_to_it_for_itself() -> None:
    one, other = app(Header("Authorization", SECRET)), app(Header("Authorization", "Basic eA=="))

    assert one.same_definition(other)
    assert one.same_definition(other.as_offered({}))
    assert not one.same_definition(app(Header("X-Team", SECRET)))
    assert not one.same_definition(app(Header("Authorization", "{{external.token}}")))
    assert not one.same_definition(replace(other, rewrite=Rewrite(redirect=("localhost",))))
