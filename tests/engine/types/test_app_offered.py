"""What leaves an agent of an application's definition: what others decide by and show, and no secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tport.engine.config.app_rules import parse_header
from tport.engine.config.dynamic_apps import check_dynamic_app
from tport.engine.errors import InvalidRequest
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
        ("X-Mixed", "s3cret-{{external.team}}", f"{KEPT}{{{{external.team}}}}"),
        ("X-Mixed", "{{external.a}}:s3cret", f"{{{{external.a}}}}{KEPT}"),
        ("X-Mixed", "{{external.a}} {{external.b}}", "{{external.a}} {{external.b}}"),
        (
            "X-Mixed",
            's3cret{{regexp.replace(external.a, "b}}c", "d")}}',
            f'{KEPT}{{{{regexp.replace(external.a, "b}}}}{KEPT}',
        ),
        (
            "X-Mixed",
            '{{regexp.replace(external.a, "a{2}", "")}}',
            '{{regexp.replace(external.a, "a{2}", "")}}',
        ),
        ("X-Broken", "s3cret{{", KEPT),
        ("X-Broken", "{{" * 300_000, KEPT),
        ("X-Broken", "{{a" * 300_000, KEPT),
        ("Host", "a.example.com", "a.example.com"),
        ("HOST", "a.example.com", "a.example.com"),
        ("X-Removed", "", ""),
    ],
)
def test_a_header_s_own_text_stays_on_the_agent(name: str, value: str, offered: str) -> None:
    """OPS-03: but for Host, which says where the application is; a template names what is put in."""
    [header] = app(Header(name, value)).as_offered({}).rewrite.headers

    assert header == Header(name, offered)


@given(
    st.lists(
        st.builds(Header, st.sampled_from(["Host", "X-A"]), st.text("a{} ") | st.text()), max_size=3
    )
)
def test_what_was_offered_once_is_offered_again_as_it_is(headers: list[Header]) -> None:
    offered = app(*headers).as_offered({"env": "prod"})

    assert offered.as_offered(offered.labels) == offered
    assert offered.rewrite.redirect == ("localhost",)


@pytest.mark.parametrize("value", [KEPT, f"{KEPT}{{{{external.team}}}}"])
def test_what_stands_in_for_a_value_is_never_sent_as_one(value: str) -> None:
    """Who pastes what is shown of an offer would send that as the password."""
    with pytest.raises(InvalidRequest, match="only the agent knows") as told:
        parse_header(f"Authorization: {value}")
    assert told.value.hint == "put the value itself here"

    handed = app(Header("Authorization", value))
    with pytest.raises(InvalidRequest, match="only the agent knows"):
        check_dynamic_app(handed)


def test_two_agents_mean_the_same_application_whatever_each_says_to_it_for_itself() -> None:
    one, other = app(Header("Authorization", SECRET)), app(Header("Authorization", "Basic eA=="))

    assert one.same_definition(other)
    assert one.same_definition(other.as_offered({}))
    assert not one.same_definition(app(Header("X-Team", SECRET)))
    assert not one.same_definition(app(Header("Authorization", "{{external.token}}")))
    assert not one.same_definition(replace(other, rewrite=Rewrite(redirect=("localhost",))))
