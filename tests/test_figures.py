"""Figures of tests: what is told and what fails."""

from __future__ import annotations

import pytest

from tests.figures import BUSY, END, START, Figure, Hold, table, written


def test_a_missed_bar_fails_the_test_and_is_written_down_all_the_same(
    request: pytest.FixtureRequest, hold: Hold
) -> None:
    with pytest.raises(AssertionError, match=r"asked: 2 times, held to <= 1"):
        hold("asked", 2, "times", at_most=1)
    assert "figure" in dict(request.node.user_properties)
    request.node.user_properties.clear()  # not for this run's table


def test_a_bar_in_seconds_is_wider_where_tests_run_beside_one_another(
    request: pytest.FixtureRequest, hold: Hold
) -> None:
    hold("waited", BUSY, "s", at_most=1)
    with pytest.raises(AssertionError, match=r"waited longer: 4.1 s, held to <= 4"):
        hold("waited longer", BUSY + 0.1, "s", at_most=1)
    request.node.user_properties.clear()


def test_the_table_says_what_is_met_and_what_is_not() -> None:
    figures = [
        Figure("R-04 noticed", 3.14159, "s", at_most=15),
        Figure("DOS-01 answered", 99.5, "%", at_least=100),
        Figure("seen", 12345, "requests"),
    ]
    assert table(figures).splitlines()[2:] == [
        "| DOS-01 answered | >= 100 | 99.5 % | **missed** |",
        "| R-04 noticed | <= 15 | 3.14 s | met |",
        "| seen |  | 12,345 requests |  |",
    ]


def test_a_page_keeps_what_stands_around_its_figures() -> None:
    page = f"before\n{START}old\n{END}after\n"
    assert written(page, []) == f"before\n{START}\n{table([])}\n{END}after\n"
    with pytest.raises(ValueError, match="no place"):
        written("a page", [])
