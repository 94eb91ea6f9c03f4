"""What a failed request is told: the hop that failed, in words, whatever an agent wrote."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.proto.test_tunnel import HEAD
from tport.engine.proto.tunnel import Hop, NoAnswer, NoAnswerKind
from tport.engine.proxy.failures import failure_of
from tport.engine.types.failure import Failure, Place


def told(problem: NoAnswer, *, agent: str = "host") -> Failure:
    return failure_of(problem, HEAD, host="grafana.proxy.test", agent=agent)


@pytest.mark.parametrize(
    ("kind", "hop", "status", "place"),
    [
        ("unreachable", "app", 502, "app"),
        ("unreachable", "agent", 502, "agent"),
        ("broken", "app", 502, "app"),
        ("broken", "agent", 502, "agent"),
        ("timeout", "app", 504, "app"),
        ("timeout", "agent", 504, "agent"),
        ("refused", "agent", 400, "proxy"),
        ("stale", "agent", 503, "agent"),
        ("busy", "agent", 503, "agent"),
        ("session-busy", "proxy", 503, "proxy"),
        ("unknown-app", "agent", 502, "agent"),
        ("unknown-session", "agent", 502, "agent"),
    ],
)
def test_each_kind_has_its_status_and_its_hop(
    kind: NoAnswerKind, hop: Hop, status: int, place: Place
) -> None:
    failure = told(NoAnswer(kind=kind, hop=hop, cause="why"))

    assert (failure.status, failure.hop, failure.cause) == (status, place, "why")
    assert failure.advice


def test_a_lost_tunnel_sends_nobody_to_the_applications_log() -> None:
    lost = told(NoAnswer(kind="broken", hop="agent", cause="lost"))
    assert "application's log" not in lost.advice
    assert "Start the agent" in told(lost_agent(), agent="").advice


def test_without_an_agent_it_is_worth_asking_again_soon() -> None:
    """R-03: 503, which programs repeat; the application itself may be well."""
    assert told(lost_agent(), agent="").status == 503
    assert told(lost_agent(), agent="host").status == 502


def lost_agent() -> NoAnswer:
    return NoAnswer(kind="unreachable", hop="agent", cause="none is connected")


@given(
    st.sampled_from([kind for kind in get_args(NoAnswerKind) if kind != "denied"]),
    st.sampled_from(get_args(Hop)),
    st.text(),
    st.text(),
)
def test_nothing_that_an_agent_writes_breaks_the_page(
    kind: NoAnswerKind, hop: Hop, cause: str, since: str
) -> None:
    failure = told(NoAnswer(kind=kind, hop=hop, cause=cause, since=since))

    assert failure.cause.isprintable()
    assert len(failure.cause) <= 500
    assert failure.since is None or failure.since.tzinfo is not None


@pytest.mark.parametrize("since", ["", "yesterday", "2026-01-01T00:00:00"])
def test_a_time_that_is_none_is_not_shown(since: str) -> None:
    assert told(NoAnswer(kind="unreachable", hop="app", cause="", since=since)).since is None
    good = NoAnswer(kind="unreachable", hop="app", cause="", since="2026-01-01T00:00:00+00:00")
    assert told(good).since is not None


@pytest.mark.parametrize(
    ("hop", "waited", "times"),
    [
        ("app", 2.0, {"agent": 0.5, "app": 2.0}),
        ("app", 99.0, {"agent": 0.0, "app": 2.5}),  # an agent whose clock runs otherwise
        ("app", -1.0, {"agent": 2.5, "app": 0.0}),
        ("agent", 0.0, {"agent": 2.5}),
    ],
)
def test_what_each_station_took_adds_up(hop: Hop, waited: float, times: dict[str, float]) -> None:
    problem = NoAnswer(kind="timeout", hop=hop, cause="why", waited=waited)

    failure = failure_of(problem, HEAD, host="grafana.proxy.test", agent="host", took=2.5)

    assert failure.times == times
