"""Requests are counted by application and class, at next to no cost, and in bounded memory."""

from __future__ import annotations

from tport.engine.metrics.sample import one
from tport.engine.proxy.tally import FOLD, MAX_APPS, OTHERS, Tally


def test_each_end_is_counted_whether_or_not_a_batch_is_full() -> None:
    tally = Tally()
    for _ in range(FOLD + 3):
        tally.ended("echo", 200, 1.0, 1.002)
    tally.ended("echo", 404, 1.0, 3.0)
    tally.unanswered("timeout")

    samples = list(tally.samples())

    assert one("tport_requests_total", FOLD + 3, "echo", "2xx") in samples
    assert one("tport_requests_total", 1, "echo", "4xx") in samples
    assert one("tport_unanswered_total", 1, "timeout") in samples
    [durations] = [each for each in samples if each.name == "tport_request_seconds"]
    *counts, total = durations.values
    assert (counts[0], counts[4], sum(counts)) == (FOLD + 3, 1, FOLD + 4)
    assert abs(total - (FOLD + 3) * 0.002 - 2) < 1e-6


def test_a_websocket_of_an_hour_is_no_slow_request() -> None:
    tally = Tally()
    tally.ended("echo", 101, 0.0, 3600.0)

    requests, durations = tally.samples()

    assert requests == one("tport_requests_total", 1, "echo", "1xx")
    assert sum(durations.values) == 0


def test_names_without_end_are_told_as_others() -> None:
    tally = Tally()
    for number in range(MAX_APPS + 5):
        tally.ended(f"app-{number}", 200, 0.0, 0.1)

    samples = list(tally.samples())

    assert len(samples) == 2 * (MAX_APPS + 1)
    assert one("tport_requests_total", 5, OTHERS, "2xx") in samples


def test_what_is_shed_is_told_by_what_it_was() -> None:
    tally = Tally()

    tally.shed["connections"] += 2

    assert list(tally.samples()) == [one("tport_shed_total", 2, "connections")]


def test_who_left_before_an_answer_has_a_class_of_its_own() -> None:
    tally = Tally()
    tally.ended("echo", 0, 0.0, 9.0)

    assert one("tport_requests_total", 1, "echo", "none") in list(tally.samples())
