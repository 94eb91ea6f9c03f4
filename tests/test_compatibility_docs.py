"""The page about Teleport's behaviour names tests that there are, and answers every idea."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = ROOT.joinpath("docs", "compatibility.md").read_text("utf-8")
ROWS = {
    int(number): answer
    for number, answer in re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", TEXT, re.MULTILINE)
}


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(test_\w+)`", TEXT)
    existing = {
        name
        for path in ROOT.joinpath("tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }

    assert len(named) > 100
    assert sorted(set(named) - existing) == []


def test_every_idea_is_answered_by_a_test_or_by_why_there_is_none() -> None:
    assert list(ROWS) == list(range(1, 72))
    for number, answer in ROWS.items():
        assert re.search(r"`test_\w+`|\bOtherwise: |\bNot yet\b", answer), number


def test_the_number_of_websocket_cases_is_what_the_page_says() -> None:
    from tests.e2e.test_websocket_cases import cases

    assert f"in {len(list(cases()))} cases" in TEXT
