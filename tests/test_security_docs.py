"""The page about security says what is proved, and it is."""

from __future__ import annotations

import re

from tests.security.coverage import (
    IN_ITS_PART,
    PAGE,
    PROMISES,
    ROOT,
    is_whole,
    proofs,
    status,
)


def test_every_promise_has_a_test_through_a_whole_cluster_or_says_why_it_has_none() -> None:
    found = proofs()

    standing = {id_: status(id_, found.get(id_, {})) for id_ in PROMISES}
    assert [id_ for id_, how in standing.items() if how == "not proved"] == []
    parts = {
        id_: [file for file in found.get(id_, {}) if not is_whole(file)] for id_ in IN_ITS_PART
    }
    assert [id_ for id_, files in parts.items() if not files] == []


def test_no_test_names_a_promise_that_nobody_made() -> None:
    """An ID that is mistyped proves nothing."""
    assert proofs().keys() - PROMISES.keys() == set()


def test_the_table_claims_all_that_was_promised_and_nothing_that_is_not_so() -> None:
    """A proof that is newer than the page may be missing from it; `python -m tests.security.coverage`."""
    found = proofs()
    rows = {
        row[1]: row[0] for row in re.finditer(r"^\| ([A-Z]+-\d\d) \|.*$", _text(), re.MULTILINE)
    }

    assert rows.keys() == PROMISES.keys()
    assert [id_ for id_, (_, promise) in PROMISES.items() if promise not in rows[id_]] == []
    claims = [
        (id_, file)
        for id_, row in rows.items()
        for file in re.findall(r"\.\./tests/([\w/]+\.py)", row)
    ]
    assert len(claims) >= len(PROMISES)
    assert [claim for claim in claims if claim[1] not in found.get(claim[0], {})] == []


def _text() -> str:
    return PAGE.read_text("utf-8")


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", _text())

    assert links
    assert [each for each in links if not (PAGE.parent / each).resolve().is_file()] == []
    assert ROOT in (PAGE.parent / links[0]).resolve().parents
