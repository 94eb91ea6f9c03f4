import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.templates import (
    MAX_HEADER_VALUE,
    MAX_VALUES,
    internal_values,
    parse_template,
)
from tport.engine.errors import InvalidRequest

TRAITS = {"env": ("prod", "dev"), "logins": ("root",), "team": ("a", "b")}


def rendered(text: str) -> tuple[str, ...]:
    return parse_template(text).render(
        internal_values(TRAITS, username="alice", jwt="eyJ.x"), TRAITS
    )


def test_each_combination_of_values_gives_a_text() -> None:
    assert rendered("plain {text} $1 %s {0.__class__}") == ("plain {text} $1 %s {0.__class__}",)
    assert rendered("Bearer {{internal.jwt}}") == ("Bearer eyJ.x",)
    assert rendered("{{ internal.username }}@{{internal.logins}}") == ("alice@root",)
    assert rendered("{{external.env}}-{{external.team}}") == (
        "prod-a",
        "prod-b",
        "dev-a",
        "dev-b",
    )


def test_a_variable_without_a_value_leaves_nothing() -> None:
    assert rendered("x-{{external.missing}}") == ()
    assert rendered("{{internal.db_names}}") == ()
    assert parse_template("{{internal.jwt}}").render(internal_values({}), {}) == ()


@pytest.mark.parametrize(
    "text",
    [
        "{{external.env",
        "external.env}}",
        "{{}}",
        "{{external}}",
        "{{external.}}",
        "{{outside.env}}",
        "{{external.env.}}}}",
        "{{external.a b}}",
        "{{internal.env}}",
        "{{email.local(external.email)}}",
        '{{external["env"]}}',
        "{{external.env|upper}}",
        "{{{external.env}}}",
    ],
)
def test_what_is_no_template_is_refused_when_it_is_written(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_template(text)


@given(st.text("{} .internalx", max_size=60))
def test_any_text_is_read_whole_or_refused(text: str) -> None:
    try:
        template = parse_template(text)
    except InvalidRequest:
        return
    if template.is_static:
        assert template.render({}, {}) == (text,)


@given(value=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_a_value_is_put_in_once_whatever_it_says(value: str) -> None:
    assert parse_template("<{{external.x}}>").render({}, {"x": (value,)}) == (f"<{value}>",)


def test_why_a_header_is_missing_names_the_variable_and_never_a_value() -> None:
    template = parse_template("{{external.x}}")

    assert template.render_header({}, {}) == ((), "external.x has no value")
    for value in ("secret\r\nX: y", "secret\x7f", "secrét", "secret\0", "sec\tret"):
        values, why = template.render_header({}, {"x": (value, "fine")})
        assert values == ("fine",)
        assert why
        assert "sec" not in why
    values, why = template.render_header({}, {"x": ("v" * (MAX_HEADER_VALUE + 1),)})
    assert values == ()
    assert "longer" in why
    values, why = template.render_header({}, {"x": ["v"] * (MAX_VALUES + 1)})
    assert values == ()
    assert "more than" in why
