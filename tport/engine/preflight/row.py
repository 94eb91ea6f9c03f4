"""One thing that was looked at, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Verdict = Literal["ok", "problem", "unknown"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table.

    Attributes:
        check: what was looked at; stays what it is, for programs.
        verdict: `unknown` is nobody's fault: it can't be told from this machine.
        found: what is there.
        advice: what to do, in words to follow or a line to copy; "": nothing.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


def has_problem(rows: Sequence[Row]) -> bool:
    return any(row.verdict == "problem" for row in rows)


def ok(check: str, found: str, advice: str = "") -> Row:
    return Row(check=check, verdict="ok", found=found, advice=advice)


def problem(check: str, found: str, advice: str) -> Row:
    return Row(check=check, verdict="problem", found=found, advice=advice)


def unknown(check: str, found: str, advice: str = "") -> Row:
    return Row(check=check, verdict="unknown", found=found, advice=advice)
