"""The plot, and figures in the page about them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.docs import PAGE, written
from bench.svg import WIDTH, Group, draw, groups

SPACE = "{http://www.w3.org/2000/svg}"
RUN = {
    "day": "2026-11-26",
    "versions": {"nginx": "1.22.1"},
    "results": {"get": {"tport": [{"CPU us/req": 90.0}], "mitmproxy": [{"CPU us/req": 2700.0}]}},
}
PLACES = "a\n" + "".join(
    f"<!-- {n} -->\nold\n<!-- /{n} -->\nb\n" for n in ("bars", "rows", "versions")
)


def widths(plot: str) -> list[float]:
    return [float(bar.attrib["width"]) for bar in ElementTree.fromstring(plot).iter(f"{SPACE}rect")]


def test_bars_are_as_long_as_their_figures() -> None:
    one, two = widths(draw([Group("work", "ms", [("tport", 10.0), ("nginx", 5.0)])], "a title"))
    assert one == 2 * two


def test_a_bar_that_would_dwarf_the_others_is_cut_and_its_figure_is_told() -> None:
    plot = draw([Group("work", "ms", [("tport", 10.0), ("mitmproxy", 900.0)])], "a title")
    ours, cut = widths(plot)
    assert cut < 2 * ours
    assert cut < WIDTH
    assert 'class="cut"' in plot
    assert ">900<" in plot


def test_only_tport_is_in_its_colour_and_names_are_no_markup() -> None:
    plot = draw([Group("a < b", "ms", [("tport, far", 1.0), ("a & b", 1.0)])], "<title>")
    kinds = [bar.attrib["class"] for bar in ElementTree.fromstring(plot).iter(f"{SPACE}rect")]
    assert kinds == ["ours", "bar"]


def test_what_was_not_measured_is_not_drawn() -> None:
    drawn = groups({"get": {"tport": {"CPU us/req": 90.0}}, "tls": {}})
    assert [group.title for group in drawn] == ["A GET of 1 KiB"]


def test_figures_come_to_their_places_and_all_else_stays() -> None:
    page = written(PLACES, [RUN])
    assert "old" not in page
    assert "| tport | 90.0 | 1.00 |" in page
    assert "| nginx | 1.22.1 |" in page
    assert "one run, the last of 2026-11-26" in page
    assert page.startswith("a\n")
    assert page.count("\nb\n") == 3


def test_figures_come_anew_as_often_as_they_are_measured() -> None:
    assert written(written(PLACES, [RUN]), [RUN]) == written(PLACES, [RUN])


def test_a_page_without_their_place_is_not_written() -> None:
    with pytest.raises(ValueError, match="no place for bars"):
        written("a page", [RUN])


def test_the_page_has_all_places() -> None:
    assert "| nginx | 1.22.1 |" in written(PAGE.read_text(), [RUN])
