"""`regexp.replace`: what Go's ReplaceAllString does, in bounded time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.replace import MAX_PATTERN, MAX_STEPS, Replacer, TooMuchWork
from tport.engine.errors import InvalidRequest


def replaced(pattern: str, replacement: str, *values: str) -> tuple[str, ...]:
    return Replacer(pattern, replacement).apply(values)


@pytest.mark.parametrize(
    ("pattern", "replacement", "value", "expected"),
    [
        (r"^(.*)@example\.com$", "$1", "alice@example.com", "alice"),
        (r"^env-(staging|prod)-(\d+)$", "$2/$1", "env-prod-12", "12/prod"),
        (r"-", "_", "a-b-c", "a_b_c"),
        (r"^", "x-", "abc", "x-abc"),
        (r"$", "-x", "abc", "abc-x"),
        (r"^$", "nobody", "", "nobody"),
        (r"a*", "x", "baac", "xbxcx"),  # Go: no empty match right behind another one
        (r"(a)|b", "[$1]", "ab", "[a][]"),
        (r"(a+?)", "<$1>", "aa", "<a><a>"),
        (r"(a+)", "<$1>", "aa", "<aa>"),
        (r"(a|ab)(c|bcd)", "$2", "abcd", "bcd"),
        (r"(?:x{2}|y)(z?)", "[${1}0$$]", "xxzy", "[z0$][0$]"),
        (r"x\$", "$0!", "x$", "x$!"),
        (r".", "$0$0", "é€", "éé€€"),
    ],
)
def test_it_replaces_as_go_does(pattern: str, replacement: str, value: str, expected: str) -> None:
    assert replaced(pattern, replacement, value) == (expected,)


def test_values_in_which_nothing_is_found_are_left_out() -> None:
    """As in Teleport: who lacks the prefix doesn't get the value as it is."""
    assert replaced("^team-(.*)$", "$1", "team-a", "staff", "team-b") == ("a", "b")
    assert replaced("x", "y") == ()


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("^a|b$", "x"),
        ("a|^b", "x"),
        ("a$b", "x"),
        ("$0", "x"),
        ("(a", "x"),
        ("a)", "x"),
        ("(?P<n>a)", "x"),
        ("(?=a)", "x"),
        (r"\bword", "x"),
        (r"(a)\1", "x"),
        ("a", "$1"),
        ("(a)", "$2"),
        ("(a)", "$1x"),
        ("(a)", "${name}"),
        ("(a)", "$"),
        ("(a)", "$(1)"),
        ("a" * (MAX_PATTERN + 1), "x"),
        ("a", "x" * (MAX_PATTERN + 1)),
        ("((((a{9}){9}){9}){9})", "x"),
        ("(){9999999}", "x"),
        ("(?:" + "|" * 240 + "){256}", "x"),
        ("(?:" + "()" * 100 + "){256}", "x"),
    ],
)
def test_what_go_would_read_differently_or_nobody_can_bound_is_refused(
    pattern: str, replacement: str
) -> None:
    with pytest.raises(InvalidRequest):
        Replacer(pattern, replacement)


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|a)*b", "(a|aa)+b", "a*a*a*a*a*a*b", "(.*)(.*)(.*)x", "(a?){50}a{50}b"]
)
def test_no_expression_and_no_value_take_long(pattern: str) -> None:
    """What takes `re` minutes ends within MAX_STEPS."""
    began = time.process_time()
    for value in ("a" * 30, "a" * 5_000):
        try:
            assert replaced(pattern, "x", value) == ()
        except TooMuchWork:
            pass

    assert time.process_time() - began < 5
    assert MAX_STEPS <= 100_000


def test_a_result_has_a_bound_too() -> None:
    with pytest.raises(TooMuchWork):
        replaced("(.*)", "$1" * 50, "x" * 1000)


# --- Against Python's `re`, where both agree on what is meant --------------------------------------


def repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions that never match the empty text, so that loops mean the same everywhere."""
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["+", "+?", "{2}", "{1,2}", "{1,2}?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.tuples(inner, inner, st.sampled_from(["*", "*?", "?", "??"])).map(
            lambda three: f"{three[0]}({three[1]}){three[2]}"
        ),
    )


EXPRESSIONS = st.recursive(st.sampled_from(["a", "b", ".", "[ab]", "[^a]"]), repeated, max_leaves=6)


@given(
    body=EXPRESSIONS,
    start=st.sampled_from(["", "^"]),
    end=st.sampled_from(["", "$"]),
    value=st.text("abc", max_size=8),
)
def test_it_finds_what_res_backtracking_would_find(
    body: str, start: str, end: str, value: str
) -> None:
    pattern = f"{start}({body}){end}"
    groups = re.compile(pattern).groups
    replacement = "".join(f"<${{{number}}}>" for number in range(min(groups, 9) + 1))

    def expand(match: re.Match[str]) -> str:
        return "".join(f"<{match[number] or ''}>" for number in range(min(groups, 9) + 1))

    # `$` of re matches before a last newline too; there is none here.
    expected, count = re.subn(pattern, expand, value)

    assert replaced(pattern, replacement, value) == ((expected,) if count else ())


@given(st.text("ab()[]{}|*+?.^$\\-1,", max_size=14), st.text("ab", max_size=6))
def test_any_expression_is_refused_or_searched(pattern: str, value: str) -> None:
    try:
        replacer = Replacer(pattern, "x")
    except InvalidRequest:
        return
    replacer.apply([value])
