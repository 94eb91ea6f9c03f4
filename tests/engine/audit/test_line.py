"""Whatever an event holds, its line is one line of plain ASCII that reads back as JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import START
from tport.engine.audit.line import FIELD_LIMIT, ITEM, LINE_LIMIT, encode_line
from tport.engine.types.event import event

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))  # lone surrogates too
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


def line(event: object) -> dict[str, object]:
    assert isinstance(event, dict)
    encoded = encode_line(event, uid="u", cluster="c", now=START)
    read = json.loads(encoded)
    assert isinstance(read, dict)
    return read


@given(fields=st.dictionaries(st.text(st.characters(exclude_categories=())), values))
def test_any_event_is_one_line_of_printable_ascii(fields: dict[str, object]) -> None:
    """OPS-01."""
    encoded = encode_line(fields, uid="u", cluster="c", now=START)

    assert re.fullmatch(rb"[\x20-\x7e]+\n", encoded)
    assert json.loads(encoded)["uid"] == "u"


@pytest.mark.parametrize(
    "text", ["a\nb\r", "\x1b[2J", "\u202egnp.exe", "\x7f\x85", "é😀\u2028", '"\\']
)
def test_hostile_text_reads_back_as_it_was(text: str) -> None:
    """OPS-01: line breaks, terminal escapes, a right-to-left override."""
    assert line({"user": text, text: 1}) == line({}) | {"user": text, text: 1}


def test_an_event_names_its_type_time_id_and_cluster() -> None:
    encoded = encode_line(
        event("user.login", user="alice", success=True), uid="u-1", cluster="example", now=START
    )

    assert json.loads(encoded) == {
        "event": "user.login",
        "code": "T1000I",
        "user": "alice",
        "success": True,
        "time": "2026-01-01T12:00:00.000Z",
        "uid": "u-1",
        "cluster_name": "example",
    }


def test_an_event_cannot_name_its_own_id_cluster_type_or_code() -> None:
    forged = event("user.login", event="x", code="x", uid="x", cluster_name="x")

    read = json.loads(encode_line(forged, uid="u", cluster="c", now=START))

    assert (read["event"], read["code"]) == ("user.login", "T1000I")
    assert (read["uid"], read["cluster_name"]) == ("u", "c")


@pytest.mark.parametrize(
    ("claimed", "written"),
    [
        (datetime(2026, 1, 1, 1, 2, 3, 4567, tzinfo=UTC), "2026-01-01T01:02:03.004Z"),
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2025-12-31T23:00:00.000Z"),
        ("2026-01-01T01:02:03+01:00", "2026-01-01T00:02:03.000Z"),
        ("2026-01-01T01:02:03", "2026-01-01T12:00:00.000Z"),  # in what zone?
        ("yesterday", "2026-01-01T12:00:00.000Z"),
        ("9999-12-31T23:59:59-12:00", "2026-01-01T12:00:00.000Z"),  # no year of UTC
        ("0001-01-01T00:00:00+12:00", "2026-01-01T12:00:00.000Z"),
        (12, "2026-01-01T12:00:00.000Z"),
        (None, "2026-01-01T12:00:00.000Z"),
    ],
)
def test_a_time_the_event_brings_is_kept_if_it_is_one(claimed: object, written: str) -> None:
    assert line({"time": claimed})["time"] == written


def test_what_json_has_no_word_for_is_written_as_text() -> None:
    class Kind(Enum):
        APP = "app"

    class Struct(msgspec.Struct):
        name: str

    read = line(
        {
            "bytes": b"a\xff\n",
            "kind": Kind.APP,
            "struct": Struct("x"),
            "set": {"b", "a"},
            "mapping": MappingProxyType({1: START}),
            "object": timedelta(seconds=1),
            "large": 2**64,
            "nan": float("nan"),
        }
    )

    assert read["bytes"] == "a\\xff\n"
    assert read["kind"] == "app"
    assert read["struct"] == {"name": "x"}
    assert read["set"] == ["a", "b"]
    assert read["mapping"] == {"1": "2026-01-01T12:00:00.000Z"}
    assert read["object"] == "0:00:01"
    assert read["large"] == "0x10000000000000000"
    assert read["nan"] is None


def test_what_is_too_long_is_cut_and_says_so() -> None:
    """OPS-01: a user agent of 1 MB."""
    many = FIELD_LIMIT // ITEM
    read = line({"agent": "x" * 1_000_000, "many": list(range(10_000)), "x" * 100: 1})

    assert read["agent"] == "x" * FIELD_LIMIT + "… (of 1000000)"
    assert read["many"] == [*range(many), "… (of 10000)"]
    assert read["x" * 32 + "… (of 100)"] == 1


def test_nobody_gets_rid_of_a_field_by_others_that_are_large() -> None:
    """OPS-01: a path and a user agent of characters that take 12 bytes each."""
    hostile: dict[str, object] = {"path": "\U000e0041" * 10_000, "agent": "\U000e0041" * 10_000}

    read = line({**hostile, "user": "alice", "error": "x" * 300})

    assert (read["user"], read["error"]) == ("alice", "x" * 300)
    assert str(read["path"]).startswith("\U000e0041" * 32)


def test_an_event_that_is_large_in_all_its_fields_still_is_a_short_line() -> None:
    deep: object = "x"
    for _ in range(100):
        deep = [deep]
    wide = [["\U0001f600" * 4096] * 50, {str(n) * 9: {} for n in range(999)}, deep]
    fields: dict[str, object] = {f"\U0001f600{n:03}" * 100: wide for n in range(200)}

    encoded = encode_line(fields, uid="u", cluster="c", now=START)

    assert len(encoded) <= LINE_LIMIT
    assert json.loads(encoded)["time"] == "2026-01-01T12:00:00.000Z"
    assert "too deep" in str(line({"deep": deep}))
