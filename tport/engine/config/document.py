"""YAML text as a small tree in which every node knows its line and column. Pure.

Built from the parser's events, not its objects: scalars stay the text that was written (a
version `1.10` or a word `no` isn't guessed at), nesting and aliases are bounded before they
cost anything, and nothing in the text can name a Python type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

MAX_NODES = 50_000  # with aliases counted as often as they are used: no "billion laughs"
MAX_DEPTH = 32  # levels; the deepest setting lies at 6

_COLON = re.compile(r"\s*:")
_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_LAST_BREAK = re.compile(r"\r?\n\Z")
# What the parser's words mean to a person who wrote a file; the first that fits.
_ADVICE = (
    ("'\\t' that cannot start", "indent with spaces, not with tabs"),
    ("that cannot start any token", "put the value in quotes"),
    (
        "mapping values are not allowed",
        "a value with ': ' in it stands in quotes, a line above needs its colon, or is indented less",
    ),
    ("<block end>", "what belongs together begins in one column, and nothing follows a quote"),
    ("could not find expected ':'", "a setting is `name: value`"),
    ("unexpected end of stream", "a quote is not closed"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
)
_NULLS = ("", "~", "null", "Null", "NULL")  # YAML 1.2 core schema, 10.3.2


class SyntaxFault(Exception):
    """The text is no YAML that we take. `line` and `column` count from 1."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.line = line
        self.column = column


@dataclass(slots=True)
class Node:
    """A value of the text.

    Attributes:
        line, column: where it begins, counted from 1.
        size: how many nodes it is with all that is in it.
        start, end: its characters are `text[start:end]`. A block ends with the last value that
            is written in it, an absent value lies behind its colon.
        marked: it has an anchor or a tag; with an anchor it may stand in other places too.
    """

    line: int
    column: int
    size: int = field(default=1, kw_only=True)
    start: int = field(default=0, kw_only=True)
    end: int = field(default=0, kw_only=True)
    marked: bool = field(default=False, kw_only=True)


@dataclass(slots=True)
class Scalar(Node):
    text: str
    plain: bool = True

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in _NULLS


@dataclass(slots=True)
class Sequence(Node):
    """`flow`: it is written in brackets."""

    items: list[Node]
    flow: bool = field(default=False, kw_only=True)


@dataclass(slots=True)
class Mapping(Node):
    """`own`: how many of the entries stand in it; those behind them came by `<<`."""

    entries: list[tuple[Scalar, Node]]
    own: int = field(default=0, kw_only=True)
    flow: bool = field(default=False, kw_only=True)


def parse_document(text: str) -> Node | None:
    """Return the one document in `text`; None when there is none.

    Raises:
        SyntaxFault: it isn't YAML, holds a second document, or is beyond the bounds.
    """
    documents = _parse(text, many=False)
    return documents[0] if documents else None


def parse_documents(text: str) -> list[Node]:
    """Return the documents in `text`, those that hold something; JSON is YAML, too.

    Raises:
        SyntaxFault: it isn't YAML, or is beyond the bounds, which all of them share.
    """
    return [each for each in _parse(text, many=True) if not _is_nothing(each)]


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null


def _parse(text: str, *, many: bool) -> list[Node]:
    builder = _Builder(text)
    try:
        return builder.documents(many=many)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise SyntaxFault(_told(str(error.problem)), line, column) from None
    except YAMLError as error:
        problem = str(error).partition("\n")[0]
        raise SyntaxFault(f"this is no YAML: {problem}", 1, 1) from None
    except (ValueError, OverflowError):
        # ruamel lets these through from escapes such as "\UFFFFFFFF"
        raise SyntaxFault(
            "an escape behind this names no character", builder.line, builder.column
        ) from None


def _joined(pair: re.Match[str]) -> str:
    """Return the one character that JSON escapes as two: of U+10000 and above."""
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _told(problem: str) -> str:
    """Return what the parser says, and what to do about it where that is known."""
    advice = next((advice for sign, advice in _ADVICE if sign in problem), "")
    return f"this is no YAML: {problem}" + (f"; {advice}" if advice else "")


class _Builder:
    def __init__(self, text: str) -> None:
        # A dump of events: typed Any, as ruamel's `parse` has no annotation.
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._text = text
        self._anchors: dict[str, Node | None] = {}
        self._size = 0
        self._end = 0  # of the last value that was read
        self.line = self.column = 1  # of the last event, for errors that name no place

    def documents(self, *, many: bool) -> list[Node]:
        found: list[Node] = []
        while (event := self._next()) is not None:
            if not isinstance(event, NodeEvent):
                continue  # begin and end of stream and document
            if found and not many:
                raise self._fault("a second document begins here; one file is one document")
            self._anchors.clear()  # they name nothing beyond their document
            found.append(self._node(event, 0))
        return found

    def _next(self) -> Any:
        event = next(self._events, None)
        if event is not None:
            self.line, self.column = event.start_mark.line + 1, event.start_mark.column + 1
        return event

    def _fault(self, problem: str) -> SyntaxFault:
        return SyntaxFault(problem, self.line, self.column)

    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._fault(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            node = self._alias(event.anchor)
            self._count(node.size)
            self._end = event.end_mark.index
            return node
        self._count(1)
        line, column = self.line, self.column
        if (tag := event.ctag) is not None and not str(tag).startswith("tag:yaml.org,2002:"):
            raise self._fault(f"the tag {str(tag)[:60]} has no meaning here")
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # not yet whole: an alias to it would be a loop
        node = self._content(event, line, column, depth)
        node.marked = event.anchor is not None or tag is not None
        node.end = self._end
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: Any, line: int, column: int, depth: int) -> Node:
        start = event.start_mark.index
        if isinstance(event, ScalarEvent):
            start, self._end = self._scalar_span(event)
            plain = event.style in (None, "")
            text = _PAIR.sub(_joined, str(event.value))
            return Scalar(line, column, text, plain=plain, start=start)
        flow = bool(event.flow_style)
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(part := self._next(), SequenceEndEvent):
                items.append(self._node(part, depth + 1))
            self._close(part, flow=flow)
            size = 1 + sum(item.size for item in items)
            return Sequence(line, column, items, size=size, start=start, flow=flow)
        assert isinstance(event, MappingStartEvent)
        entries: list[tuple[Scalar, Node]] = []
        while not isinstance(part := self._next(), MappingEndEvent):
            key = self._node(part, depth + 1)
            if not isinstance(key, Scalar):
                raise SyntaxFault("a list or a map cannot name a setting", key.line, key.column)
            entries.append((key, self._node(self._next(), depth + 1)))
        self._close(part, flow=flow)
        size = 1 + sum(1 + value.size for _, value in entries)
        merged, own = _merged(entries)
        return Mapping(line, column, merged, size=size, start=start, own=own, flow=flow)

    def _close(self, event: Any, *, flow: bool) -> None:
        if flow:  # a block ends with what is in it: the parser's mark is behind blanks and comments
            self._end = event.end_mark.index

    def _scalar_span(self, event: Any) -> tuple[int, int]:
        start, end = event.start_mark.index, event.end_mark.index
        if start == end:  # nothing is written, and the parser's mark is at whatever comes next
            colon = _COLON.match(self._text, self._end)
            behind = colon.end() if colon else self._end
            return behind, behind
        if event.style in ("|", ">"):  # the parser counts the blank lines behind it in
            text = self._text[start:end]
            keeps = "+" in text.splitlines()[0].partition("#")[0]
            end = start + len(_LAST_BREAK.sub("", text) if keeps else text.rstrip())
        return start, end

    def _alias(self, anchor: str) -> Node:
        node = self._anchors.get(anchor)
        if anchor not in self._anchors:
            raise self._fault(f"nothing is named &{anchor}")
        if node is None:
            raise self._fault(f"*{anchor} is inside of what it stands for")
        return node

    def _count(self, nodes: int) -> None:
        self._size += nodes
        if self._size > MAX_NODES:
            raise self._fault(f"more than {MAX_NODES} values, aliases counted as often as used")


def _merged(entries: list[tuple[Scalar, Node]]) -> tuple[list[tuple[Scalar, Node]], int]:
    """Put what `<<: *anchor` brings behind the map's own settings, which win. YAML 1.1, "merge".

    Returns all of them, and how many are the map's own.
    """
    merged = [entry for entry in entries if not _is_merge(entry[0])]
    own = len(merged)
    taken = {key.text for key, _ in merged}
    for key, value in entries:
        if not _is_merge(key):
            continue
        for source in value.items if isinstance(value, Sequence) else [value]:
            if not isinstance(source, Mapping):
                raise SyntaxFault("<< takes a map, or a list of maps", key.line, key.column)
            merged += [entry for entry in source.entries if entry[0].text not in taken]
            taken |= {entry[0].text for entry in source.entries}
    return merged, own


def _is_merge(key: Scalar) -> bool:
    return key.plain and key.text == "<<"
