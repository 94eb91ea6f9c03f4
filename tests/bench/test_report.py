"""Medians, tables, and whether a bar is met."""

from __future__ import annotations

import pytest

from bench.bars import BARS, Bar, bars_table, summary
from bench.report import aligned, markdown, medians, number, over_runs, table_of, text_tables
from bench.rows import ROWS, SSH

GET = {
    "tport": [{"CPU us/req": 90.0, "req/s": 9000.0}, {"CPU us/req": 110.0, "req/s": 7000.0}],
    SSH: [{"CPU us/req": 100.0, "req/s": 4000.0}],
}


def test_a_figure_is_the_median_of_its_rounds() -> None:
    found = medians({"get": GET})
    assert found["get"]["tport"] == {"CPU us/req": 100.0, "req/s": 8000.0}


def test_a_stack_that_never_did_the_work_is_left_out() -> None:
    assert medians({"get": {**GET, "Caddy": []}})["get"].keys() == {"tport", SSH}


def test_several_runs_make_the_median_of_their_medians() -> None:
    runs = [{"get": {"tport": [{"CPU us/req": value}]}} for value in (80.0, 200.0, 90.0)]
    assert over_runs(runs)["get"]["tport"]["CPU us/req"] == 90.0


def test_what_one_run_lacks_is_taken_from_the_others() -> None:
    found = over_runs(
        [{"get": GET}, {"get": {"tport": GET["tport"]}, "tls": {"tport": [{"a": 1.0}]}}]
    )
    assert found["get"][SSH]["req/s"] == 4000.0
    assert found["tls"]["tport"]["a"] == 1.0


def test_a_table_has_each_figure_and_the_ratio_of_the_leading_one() -> None:
    head, ours, peer, chisel = table_of("get", medians({"get": GET})["get"])
    assert head == ["", "CPU us/req", "req/s", "tport / it (CPU)"]
    assert ours == ["tport", "100", "8,000", "1.00"]
    assert peer == [SSH, "100", "4,000", "1.00"]
    assert chisel == [f"chisel, not run: 1.42 x {SSH}", "142", "", "0.70"]


def test_a_stack_of_which_tport_has_no_figure_has_no_ratio() -> None:
    _, peer = table_of("tls", {SSH: {"CPU us/req": 100.0}})
    assert peer == [SSH, "100", "-"]


def test_added_latency_is_what_the_application_alone_does_not_take() -> None:
    found = {"tport": {"p50 ms": 1.5}, "application": {"p50 ms": 0.25}}
    head, ours, bare = table_of("latency", found)
    assert head == ["", "p50 ms", "added ms", "tport / it (p50)"]
    assert ours == ["tport", "1.50", "1.25", "1.00"]
    assert bare[2] == "0.00"


def test_columns_of_a_terminal_are_aligned() -> None:
    assert aligned([["", "a"], ["tport", "1,000"]]) == ["             a", "  tport  1,000"]


def test_all_rows_that_were_measured_are_told() -> None:
    told = text_tables({**medians({"get": GET}), "tls": {}})
    assert ROWS["get"].title in told
    assert ROWS["tls"].title not in told


def test_markdown_has_a_rule_below_its_head() -> None:
    assert markdown([["", "a"], ["b", "1"]]) == "|  | a |\n| --- | ---: |\n| b | 1 |\n"


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (9.876, "9.88"), (0.0, "0.00")]
)
def test_three_digits_count(value: float, text: str) -> None:
    assert number(value) == text


def bar(*, is_floor: bool) -> Bar:
    return Bar("a name", "get", "req/s", 1.5, 3.0 if is_floor else 1.0, SSH, is_floor=is_floor)


@pytest.mark.parametrize(
    ("own", "is_floor", "verdict"),
    [
        (3.0, True, "stretch"),
        (1.5, True, "met"),
        (1.49, True, "missed"),
        (1.0, False, "stretch"),
        (1.5, False, "met"),
        (1.51, False, "missed"),
    ],
)
def test_a_bar_is_met_at_its_very_value(own: float, is_floor: bool, verdict: str) -> None:
    found = {"get": {"tport": {"req/s": own}, SSH: {"req/s": 1.0}}}
    assert bar(is_floor=is_floor).verdict(found) == verdict


def test_a_bar_without_its_peer_is_not_measured() -> None:
    found = {"get": {"tport": {"req/s": 1.0}}}
    assert bar(is_floor=True).verdict(found) == "not measured"
    assert bar(is_floor=True).verdict({}) == "not measured"


def test_a_figure_of_our_own_needs_no_peer() -> None:
    own = Bar("memory", "memory", "idle MiB", 120, 80)
    assert own.verdict({"memory": {"tport": {"idle MiB": 100.0}}}) == "met"
    assert own.told(100.0) == "100 MiB"


def test_each_bar_is_of_a_row_that_measures_both_sides() -> None:
    for each in BARS:
        assert each.row in ROWS, each
        assert not each.peer or each.peer in ROWS[each.row].stacks, each
        assert (each.stretch >= each.bar) is each.is_floor, each


def test_the_table_of_bars_tells_of_each() -> None:
    head, *rest = bars_table({})
    assert head == ["", "bar", "stretch", "measured", ""]
    assert [line[0] for line in rest] == [each.name for each in BARS]
    assert {line[-1] for line in rest} == {"not measured"}


def test_what_is_missed_is_named() -> None:
    met = {"memory": {"tport": {"idle MiB": 100.0, "KiB/connection": 40.0}}}
    told = summary(met)
    assert told.startswith(f"1 of {len(BARS)} bars are met, {len(BARS) - 2} were not measured.")
    assert told.endswith("Missed: memory of an idle connection.")
