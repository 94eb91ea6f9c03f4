import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.patterns import compile_pattern
from tport.engine.errors import InvalidRequest

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\-", "[a-c-]", r"[\d.]"])
COUNTS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "{0,2}", "{1,}", "*?"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pieces = st.tuples(inner, COUNTS).map(lambda both: f"({both[0]}){both[1]}")
    return st.one_of(
        st.lists(pieces, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join),
    )


REGEXES = st.recursive(st.tuples(ATOMS, COUNTS).map("".join), _grown, max_leaves=5)


@given(regex=REGEXES, value=st.text("abc1-", max_size=6))
def test_a_regular_expression_means_what_it_means_elsewhere(regex: str, value: str) -> None:
    """Held against `re` on values short enough for its backtracking."""
    expected = re.fullmatch(f"(?:{regex})", value) is not None

    assert compile_pattern(f"^{regex}$")(value) is expected


@given(parts=st.lists(st.text("ab.^$", max_size=3), min_size=2, max_size=5), value=st.text("ab.^$"))
def test_a_star_stands_for_any_characters_and_all_else_for_itself(
    parts: list[str], value: str
) -> None:
    glob = "x" + "*".join(parts)  # the x keeps it from being ^…$
    expected = re.fullmatch("x" + ".*".join(map(re.escape, parts)), f"x{value}") is not None

    assert compile_pattern(glob)(f"x{value}") is expected


@given(st.text(max_size=300))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        compile_pattern(text)("some value")


@given(st.text(r"ab()[]{}|*+?\^$.,-12:=!<", max_size=40))
def test_any_regular_expression_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        compile_pattern(f"^{text}$")("ab12")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"^(a)\1$", r"\1 is not supported"),
        (r"^(?=a)b$", "other than"),
        (r"^(?i)prod$", "other than"),
        (r"^a\bb$", "not supported"),
        (r"^a**$", "follows a repetition"),
        (r"^*a$", "means nothing"),
        (r"^(a$", "not closed"),
        (r"^a)$", "closes nothing"),
        (r"^[a$", "ends too early"),
        (r"^[z-a]$", "runs backwards"),
        (r"^[[:alpha:]]$", "not supported"),
        (r"^a{,3}$", "{m}"),
        (r"^a{3,1}$", "repeats nothing"),
        (r"^((a{99}){99}){99}$", "more than"),
        ("^" + "(" * 40 + "a" + ")" * 40 + "$", "deeper"),
    ],
)
def test_what_is_not_understood_is_refused_when_it_is_written(pattern: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(why)):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*b$", "^(a|aa)+$", "^(.*a){12}$", "^(a?){100}a{100}$", "^(a*)*$"]
)
def test_no_pattern_takes_long_on_any_value(pattern: str) -> None:
    """AZ-02: each of these takes a backtracking engine longer than the universe has."""
    matches = compile_pattern(pattern)

    started = time.process_time()
    matches("a" * 1023 + "!")
    assert time.process_time() - started < 0.5  # s of CPU; it takes a few ms


def test_each_alternative_may_carry_its_own_anchors() -> None:
    matches = compile_pattern("^dev$|^prod$")

    assert matches("dev")
    assert matches("prod")
    assert not matches("dev$|^prod")
