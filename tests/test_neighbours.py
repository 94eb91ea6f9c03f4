"""Versions next to one another read what the other writes: every call of auth, every message of the tunnel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from tests.neighbours import describe, described, unread
from tport import __version__

FOLDER = Path(__file__).with_name("neighbours")
MAJOR, MINOR = map(int, __version__.split(".")[:2])
BEFORE = FOLDER / f"{MAJOR}.{MINOR - 1}.json"


def both() -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads(BEFORE.read_text()), json.loads(msgspec.json.encode(describe()))


def test_what_the_version_before_wrote_and_read_is_known() -> None:
    """Made when that was released: `python -m tests.neighbours`."""
    before, _ = both()

    assert before["version"].startswith(f"{MAJOR}.{MINOR - 1}.")
    assert len(before["what"]) > 200


def complaints(writer: dict[str, Any], reader: dict[str, Any], suffixes: str) -> Iterator[str]:
    for name in writer["what"].keys() & reader["what"].keys():
        if name.endswith(suffixes) or name.startswith("tunnel: "):
            yield from unread(
                writer["what"][name], writer, reader["what"][name], reader, f"{name}: "
            )


# 0.1 doesn't say so in its types: an agent of it that offers more is refused by its own proxy, and it tells of 1,000
# faulty applications.
BOUNDED_BEFORE = {
    f"tunnel: control: .{field}: maxItems 1000 is asked for, and None is written"
    for field in ("apps", "faulty")
}


def test_what_an_older_neighbour_says_is_understood() -> None:
    before, now = both()

    assert sorted(set(complaints(before, now, "")) - BOUNDED_BEFORE) == []


def test_what_we_say_is_understood_by_an_older_neighbour() -> None:
    before, now = both()

    assert sorted(complaints(now, before, "")) == []


def test_no_call_that_an_older_neighbour_makes_is_gone() -> None:
    before, now = both()

    assert before["what"].keys() - now["what"].keys() == set()


# --- The comparison itself -------------------------------------------------------------------------


class Old(msgspec.Struct, kw_only=True):
    name: str
    kind: Literal["a", "b"] = "a"
    parts: tuple[Old, ...] = ()


class Wider(msgspec.Struct, kw_only=True):
    """A field more, with a default; one less that could be left out."""

    name: str | None
    kind: Literal["a", "b", "c"] = "a"
    news: str = ""


class Demanding(msgspec.Struct, kw_only=True):
    name: str
    news: int


class Other(msgspec.Struct, kw_only=True):
    name: int


class Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str


class StrictMore(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    news: str = ""


class Row(msgspec.Struct, array_like=True, tag="row"):
    name: str


class LongerRow(msgspec.Struct, array_like=True, tag="row"):
    name: str
    news: int = 0


class RowOfTwo(msgspec.Struct, array_like=True, tag="row"):
    name: str
    news: int


@pytest.mark.parametrize(
    ("writes", "reads", "complaint"),
    [
        (Old, Old, ""),
        (Old, Wider, ""),
        (Wider, Old, ".name: null is written, string is read"),
        (Old, Demanding, ".news: is read, and not written"),
        (Old, Other, ".name: string is written, integer is read"),
        (Literal["a", "b"], Literal["a"], "b is none of"),
        (str, Literal["a"], "any string is none of"),
        (Strict, StrictMore, ""),
        (StrictMore, Strict, ""),
        (Old, Strict, ".kind: is written, and refused"),
        (Row, LongerRow, ""),
        (LongerRow, Row, ""),
        (Row, RowOfTwo, "2 fields are written, 3 are read"),
        (tuple[Old, ...], tuple[Demanding, ...], "[].news"),
        (dict[str, Old], dict[str, Demanding], "{}.news"),
        (int | None, int, "null is written"),
        (int, int | None, ""),
        (str, Annotated[str, msgspec.Meta(pattern="^a")], "pattern"),
        (Annotated[int, msgspec.Meta(lt=9)], Annotated[int, msgspec.Meta(lt=8)], "Maximum 8"),
        (Annotated[int, msgspec.Meta(lt=8)], Annotated[int, msgspec.Meta(lt=9)], ""),
    ],
)
def test_what_is_written_and_not_read_is_named(writes: Any, reads: Any, complaint: str) -> None:
    writer, reader = described({"it": writes}), described({"it": reads})

    found = list(unread(writer["what"]["it"], writer, reader["what"]["it"], reader))

    if complaint:
        assert complaint in "\n".join(found)
    else:
        assert found == []
