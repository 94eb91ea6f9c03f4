"""The page about security says what is proved, and it is."""

from __future__ import annotations

import re

from tests.security.coverage import PAGE, PROMISES, ROOT, WHOLE, proofs


def test_every_promise_has_a_test_through_a_whole_cluster() -> None:
    found = proofs()

    bare = [
        id_ for id_ in PROMISES if not any(file.startswith(WHOLE) for file in found.get(id_, {}))
    ]

    assert bare == []


def test_the_tables_claim_all_that_was_promised_and_nothing_that_is_not_so() -> None:
    """A proof that is newer than the page may be missing from it; `python -m tests.security.coverage`."""
    found = proofs()
    rows = {
        row[1]: row[0] for row in re.finditer(r"^\| ([A-Z]+-\d\d) \|.*$", _text(), re.MULTILINE)
    }

    assert rows.keys() >= PROMISES.keys()
    assert [id_ for id_, promise in PROMISES.items() if promise not in rows[id_]] == []
    claims = [
        (id_, file)
        for id_, row in rows.items()
        for file in re.findall(r"tests/security/(\w+\.py)", row)
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
