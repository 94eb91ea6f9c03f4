from __future__ import annotations

import pytest

from tport.engine.preflight.others import (
    Answer,
    Trust,
    judge_app,
    judge_directory,
    judge_pins,
    judge_proxy,
)
from tport.engine.preflight.row import Row

PROXY = "tport.example.com:443"


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (Answer(status=200), "ok", "answers"),
        (Answer(status=404), "problem", "answers 404"),
        (Answer(said="connection refused"), "problem", "connection refused"),
    ],
)
def test_a_directory_answers_or_there_will_be_no_certificates(
    answer: Answer, verdict: str, words: str
) -> None:
    row = judge_directory("https://ca.test/dir", answer)

    assert (row.verdict, words in row.found) == (verdict, True)
    assert bool(row.advice) == (verdict == "problem")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(status=200, milliseconds=12), "ok"),
        (Answer(status=401), "ok"),  # it asks who comes: it answers
        (Answer(status=400), "unknown"),
        (Answer(status=502), "problem"),
        (Answer(said="refused", advice="start it"), "problem"),
    ],
)
def test_an_application_answers_or_it_is_told_how_not(answer: Answer, verdict: str) -> None:
    assert judge_app("a", "http://localhost:1", answer).verdict == verdict


def of(trust: Trust) -> dict[str, Row]:
    return {row.check: row for row in judge_proxy(PROXY, trust)}


@pytest.mark.parametrize(
    ("trust", "verdict"),
    [
        (Trust(cluster="c", pins="match"), "ok"),
        (Trust(cluster="c", pins="differ", verified=True), "problem"),  # never outvoted
        (Trust(cluster="c", pins="differ", joined="2026-01-02"), "problem"),
        (Trust(cluster="c", verified=True), "ok"),
        (Trust(cluster="c", joined="2026-01-02"), "ok"),
        (Trust(cluster="c"), "problem"),
    ],
)
def test_an_agent_needs_somebody_who_vouches_for_the_proxy(trust: Trust, verdict: str) -> None:
    assert of(trust)["proxy's authorities"].verdict == verdict


@pytest.mark.parametrize(
    ("trust", "verdict"),
    [
        (Trust(cluster="c", token="sound"), "ok"),
        (Trust(cluster="c", joined="2026-01-02", token="none"), "ok"),
        (Trust(cluster="c", token="none"), "problem"),
        (Trust(cluster="c", token="unreadable", token_said="there is none"), "problem"),
        (Trust(cluster="c", token="malformed"), "problem"),
    ],
)
def test_an_agent_joins_by_a_token_once(trust: Trust, verdict: str) -> None:
    row = of(trust)["joining"]

    assert row.verdict == verdict
    assert bool(row.advice) == (verdict == "problem")


def test_a_proxy_that_is_not_reached_says_nothing_of_authorities() -> None:
    rows = of(Trust(said=f"{PROXY}: connection refused", advice="start it", token="sound"))

    assert rows["proxy"].verdict == "problem"
    assert (rows["proxy"].found, rows["proxy"].advice) == (
        f"{PROXY}: connection refused",
        "start it",
    )
    assert set(rows) == {"proxy", "joining"}


def test_no_pin_is_no_match() -> None:
    assert judge_pins([], ["x"], ["y"]) == "none"
