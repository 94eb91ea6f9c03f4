"""The page about security says what is proved, and it is."""

from __future__ import annotations

import re

import pytest

from tests.security.coverage import PAGE, PROMISES, ROOT, WHOLE, page, proofs


def test_every_promise_has_a_test_through_a_whole_cluster() -> None:
    found = proofs()

    bare = [
        id_ for id_ in PROMISES if not any(file.startswith(WHOLE) for file in found.get(id_, {}))
    ]

    assert bare == []


def test_the_tables_are_up_to_date() -> None:
    text = PAGE.read_text("utf-8")
    if page(text) != text:
        pytest.fail("docs/security.md: write it anew: python -m tests.security.coverage")


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text("utf-8"))

    assert links
    assert [each for each in links if not (PAGE.parent / each).resolve().is_file()] == []
    assert ROOT in (PAGE.parent / links[0]).resolve().parents
