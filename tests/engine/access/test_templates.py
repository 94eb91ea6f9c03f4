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


def rendered(text: str) -> tuple[str, ...] | None:
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


def test_more_combinations_than_are_looked_at_are_not_none_at_all() -> None:
    template = parse_template("{{external.x}}")

    assert template.render({}, {"x": ["v"] * MAX_VALUES}) == ("v",) * MAX_VALUES
    assert template.render({}, {"x": ["v"] * (MAX_VALUES + 1)}) is None


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
        "{{email.local external.email}}",
        "{{email.local(external.email}}",
        "{{email.local(external.email))}}",
        "{{email.local()}}",
        '{{email.local("x")}}',
        "{{email.domain(external.email)}}",
        "{{external.email()}}",
        '{{regexp.replace(external.x, "a")}}',
        '{{regexp.replace(external.x, "a", "b", "c")}}',
        '{{regexp.replace(external.x "a" "b")}}',
        '{{regexp.replace("x", "a", "b")}}',
        "{{regexp.replace(external.x, 'a', 'b')}}",
        '{{regexp.replace(external.x, "\\d", "b")}}',
        '{{regexp.replace(external.x, "(", "b")}}',
        '{{regexp.replace(external.x, "a", "$1")}}',
        '{{regexp.replace(external.x, "a", "b")',
        "{{email.local(" * 6 + "external.x" + ")" * 6 + "}}",
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


TRAITS_OF_FUNCTIONS = {
    "email": ("alice@example.com", "no address", "a@b@c", "Bob <bob@example.com>", "@x", "carol@x"),
    "groups": ("team-red", "team-blue", "staff"),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{email.local(external.email)}}", ("alice", "carol")),
        ("<{{ email.local( external.email ) }}>", ("<alice>", "<carol>")),
        ('{{regexp.replace(external.groups, "^team-(.*)$", "$1")}}', ("red", "blue")),
        ('x-{{regexp.replace(external.groups,"a","A")}}', ("x-teAm-red", "x-teAm-blue", "x-stAff")),
        ('{{regexp.replace(email.local(external.email), "^a(.*)$", "${1}!")}}', ("lice!",)),
        ("{{regexp.replace(external.groups, `^\\w+-(\\w{3}){1}$`, `$1`)}}", ("red",)),
        ('{{regexp.replace(external.groups, "^\\\\w+-(red)$", "\\"$1\\"")}}', ('"red"',)),
        ('{{regexp.replace(external.groups, "red", "}}")}}', ("team-}}",)),
        ('{{regexp.replace(external.missing, "a", "b")}}', ()),
    ],
)
def test_functions_make_one_value_of_another(text: str, expected: tuple[str, ...]) -> None:
    """Where a value is no address, or an expression finds nothing in it, there is none."""
    assert parse_template(text).render({}, TRAITS_OF_FUNCTIONS) == expected


def test_why_a_function_gave_nothing_names_it_and_never_a_value() -> None:
    """AZ-10: so that the audit log holds no secret."""
    for text, value, why in (
        ("{{email.local(external.x)}}", "secret", "email.local(external.x) has no value"),
        (
            '{{regexp.replace(external.x, "a", "b")}}',
            "x",
            "regexp.replace(external.x) has no value",
        ),
        (
            '{{regexp.replace(external.x, "(.*)(.*)(.*)b", "b")}}',
            "a" * 5000,
            "regexp.replace would take too long",
        ),
    ):
        assert parse_template(text).render_header({}, {"x": (value,)}) == ((), why)


def test_what_a_function_makes_is_judged_like_any_value() -> None:
    template = parse_template('{{regexp.replace(external.x, "-", "\\\\")}}')

    assert template.render_header({}, {"x": ("a-\r\nX: y",)})[0] == ()
    assert template.render({}, {"x": ("{{internal.jwt}}-",)}) == ("{{internal.jwt}}\\",)


def test_a_jwt_inside_of_a_function_is_one() -> None:
    """AZ-09: so that no answer may carry a header of that name back."""
    assert parse_template('{{regexp.replace(internal.jwt, "a", "b")}}').uses("internal", "jwt")
    assert not parse_template("{{email.local(external.jwt)}}").uses("internal", "jwt")


@given(st.text('{}().,"`$ \\aexternalregexp.replaceemail.local', max_size=80))
def test_any_text_with_functions_is_read_or_refused(text: str) -> None:
    try:
        template = parse_template("{{" + text)
    except InvalidRequest:
        return
    template.render({}, {})
