"""What the chain of an audit log says of its lines."""

from __future__ import annotations

from typing import Literal

import msgspec

FaultKind = Literal["changed", "missing", "added"]
NoteKind = Literal["unchained", "torn", "begins", "unmarked", "ahead"]


class Link(msgspec.Struct, frozen=True):
    """A line as the next one names it: its number, counted from 1, and its SHA-256 in hex."""

    number: int
    hash: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a place in the log.

    Attributes:
        kind: a FaultKind: somebody had a hand in it; a NoteKind: all is as it may be.
        where: `file:line`.
    """

    kind: FaultKind | NoteKind
    where: str
    text: str

    @property
    def is_fault(self) -> bool:
        return self.kind in ("changed", "missing", "added")


class ChainState(msgspec.Struct, kw_only=True):
    """How far a log has been checked: where reading goes on, and what must come next.

    Attributes:
        file, offset, line: what was read last; its byte and line, from 0.
        last: the last line that stands in the chain; None: none so far.
        last_where: its place.
        loose: places of lines since then that hold no link, and whether each is JSON.
        lines: how many stand in the chain so far.
        first: the number of the first of them.
        unchained: lines written before there was a chain.
        removed: the number of the last line that retention removed, as the log itself says.
        is_whole: the check began with the first file.
    """

    file: str = ""
    offset: int = 0
    line: int = 0
    last: Link | None = None
    last_where: str = ""
    loose: list[tuple[str, bool]] = []
    lines: int = 0
    first: int = 0
    unchained: int = 0
    removed: int = 0
    is_whole: bool = True


class ChainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of a check found. `is_done`: there is no further part."""

    findings: tuple[Finding, ...]
    state: ChainState
    is_done: bool
