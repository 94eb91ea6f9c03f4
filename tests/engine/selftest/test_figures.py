"""From samples to numbers, and to verdicts that can be bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.selftest.figures import (
    MEMORY_LIMIT,
    MIB,
    Figure,
    apart,
    carried,
    grown,
    percentile,
    timed,
    timed_p99,
)

TIME = Figure(name="time", what="time", unit="ms", adds=True)
RATE = Figure(name="rate", what="rate", unit="MiB/s")
MEMORY = Figure(name="memory", what="memory", unit="MiB")


def test_times_are_told_in_ms_with_what_tport_adds() -> None:
    middle = timed(TIME, [0.001, 0.002, 0.009], [0.003, 0.005, 0.004])

    assert (middle.direct, middle.through, middle.samples) == (2, 4, 3)
    assert middle.added == 2
    assert middle.ok


def test_the_99th_percentile_is_a_sample_that_99_of_100_do_not_exceed() -> None:
    samples = [number / 1000 for number in range(1, 101)]

    figure = timed_p99(TIME, samples, [*samples, *samples])

    assert (figure.direct, figure.through) == (99, 99)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0, 100))
def test_a_percentile_is_one_of_the_samples_and_bounds_its_share(
    samples: list[float], percent: float
) -> None:
    found = percentile(samples, percent)

    assert found in samples
    assert found is not None
    assert sum(each <= found for each in samples) >= len(samples) * percent / 100


def test_where_one_way_was_not_gone_nothing_is_added() -> None:
    figure = timed(TIME, [], [0.002])

    assert (figure.direct, figure.through, figure.added) == (None, 2, None)


def test_events_that_come_as_they_were_sent_are_right() -> None:
    assert apart(TIME, 0.2, [0.2], [0.19, 0.21]).ok


@pytest.mark.parametrize("gaps", [[0.0], [0.2, 0.001], []])
def test_events_that_were_held_back_are_not(gaps: list[float]) -> None:
    figure = apart(TIME, 0.2, [0.2], gaps)

    assert figure.ok is False
    assert "held back" in figure.note


def test_a_transfer_is_a_rate_each_way_and_no_rate_is_wrong() -> None:
    figure = carried(RATE, MIB, direct=(0.5, "same"), through=(1000, "same"), wanted="same")

    assert (figure.direct, figure.through, figure.added) == (2, 0.001, None)
    assert figure.ok


@pytest.mark.parametrize(("direct", "through"), [("same", "other"), ("other", "same")])
def test_bytes_that_differ_are_wrong_whichever_way_they_went(direct: str, through: str) -> None:
    figure = carried(RATE, MIB, direct=(1, direct), through=(1, through), wanted="same")

    assert figure.ok is False
    assert "not what was sent" in figure.note


@pytest.mark.parametrize(
    ("size", "ok"), [(0, True), (MEMORY_LIMIT, True), (MEMORY_LIMIT + 1, False), (None, None)]
)
def test_a_process_may_grow_by_64_mib_and_where_nobody_knows_that_is_said(
    size: int | None, ok: bool | None
) -> None:
    figure = grown(MEMORY, size, unknown="this system does not tell")

    assert figure.ok is ok
    assert figure.through == (None if size is None else size / MIB)
    if size is None:
        assert figure.note == "this system does not tell"
