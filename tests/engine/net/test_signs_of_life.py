"""When a tunnel's peer is asked for a sign of life, and when it is given up."""

from __future__ import annotations

import pytest

from tport.engine.net.signs_of_life import LATE, RTTS, SignsOfLife


def signs(*, asks_second: bool, rtt: float | None = 0.1) -> SignsOfLife:
    """One end of a tunnel; it has had an answer, unless `rtt` is None."""
    life = SignsOfLife(interval=5, deadline=15, asks_second=asks_second)
    if rtt is not None:
        life.asked(0, 0)
        life.answered(0, rtt)
    return life


def test_the_one_that_asks_does_so_each_interval() -> None:
    life = signs(asks_second=False)
    now = 0.0
    for _ in range(10):
        assert life.look(now, now, at_rest=True) == "ask"
        assert life.due == now + 5
        now = life.due


def test_the_other_leaves_it_to_its_peer_while_the_tunnel_rests() -> None:
    """A proxy with a thousand agents would be woken twice as often."""
    life = signs(asks_second=True)
    now = heard = 0.0
    for _ in range(10):
        assert life.look(now, heard, at_rest=True) == "wait"
        assert life.due == heard + 7.5
        now = life.due
        heard = now - 2.5  # the peer's last ping


def test_where_something_is_carried_both_ask_for_the_distance() -> None:
    life = signs(asks_second=True)

    assert life.look(1, 1, at_rest=False) == "ask"
    assert life.due == 6


def test_the_distance_is_asked_for_at_first_by_both() -> None:
    assert signs(asks_second=True, rtt=None).look(0, 0, at_rest=True) == "ask"


@pytest.mark.parametrize("asks_second", [False, True])
def test_a_silent_peer_is_asked_twice_and_then_taken_for_dead(asks_second: bool) -> None:
    life = signs(asks_second=asks_second)
    now, said = 0.0, []
    while (what := life.look(now, 0, at_rest=True)) != "dead":
        said.append(what)
        now = life.due

    assert now == 15
    assert said.count("ask") >= 2


def test_who_did_not_run_takes_nobody_for_dead_before_it_has_read() -> None:
    """R-31: a process that was stopped has not listened."""
    life = signs(asks_second=False)
    life.look(0, 0, at_rest=True)

    assert life.look(60, 0, at_rest=True) == "ask"
    assert life.due == 60 + LATE
    assert life.look(60 + LATE, 0, at_rest=True) == "dead"


def test_the_distance_is_the_shortest_of_the_last_answers() -> None:
    life = SignsOfLife(interval=5, deadline=15, asks_second=False)
    for value, took in enumerate([0.1, *[0.5] * (RTTS - 1)]):
        life.asked(value, 10 * value)
        life.answered(value, 10 * value + took)
    assert life.rtt == pytest.approx(0.1)

    life.asked(99, 100)
    life.answered(98, 100.01)  # an answer to nothing that was asked
    life.answered(99, 100.5)
    life.answered(99, 100.01)  # a second time
    assert life.rtt == pytest.approx(0.5)
