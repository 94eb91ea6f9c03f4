"""YAML text as a small tree in which every node knows its line and column. Pure.

Built from the parser's events, not its objects: scalars stay the text that was written (a
version `1.10` or a word `no` isn't guessed at), nesting and aliases are bounded before they
cost anything, and nothing in the text can name a Python type.
"""

from __future__ import annotations

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

_NULLS = ("", "~", "null", "Null", "NULL")  # YAML 1.2 core schema, 10.3.2


class SyntaxFault(Exception):
    """The text is no YAML that we take. `line` and `column` count from 1."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.line = line
        self.column = column


@dataclass(slots=True)
class Node:
    """Where it begins, counted from 1, and how many nodes it is with all that is in it."""

    line: int
    column: int
    size: int = field(default=1, kw_only=True)


@dataclass(slots=True)
class Scalar(Node):
    text: str
    plain: bool = True

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in _NULLS


@dataclass(slots=True)
class Sequence(Node):
    items: list[Node]


@dataclass(slots=True)
class Mapping(Node):
    entries: list[tuple[Scalar, Node]]


def parse_document(text: str) -> Node | None:
    """Return the one document in `text`; None when there is none.

    Raises:
        SyntaxFault: it isn't YAML, holds a second document, or is beyond the bounds.
    """
    builder = _Builder(text)
    try:
        return builder.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise SyntaxFault(f"this is no YAML: {error.problem}", line, column) from None
    except YAMLError as error:
        problem = str(error).partition("\n")[0]
        raise SyntaxFault(f"this is no YAML: {problem}", 1, 1) from None
    except (ValueError, OverflowError):
        # ruamel lets these through from escapes such as "\UFFFFFFFF"
        raise SyntaxFault(
            "an escape behind this names no character", builder.line, builder.column
        ) from None


class _Builder:
    def __init__(self, text: str) -> None:
        # A dump of events: typed Any, as ruamel's `parse` has no annotation.
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str, Node | None] = {}
        self._size = 0
        self.line = self.column = 1  # of the last event, for errors that name no place

    def document(self) -> Node | None:
        root: Node | None = None
        while (event := self._next()) is not None:
            if not isinstance(event, NodeEvent):
                continue  # begin and end of stream and document
            if root is not None:
                raise self._fault("a second document begins here; one file is one document")
            root = self._node(event, 0)
        return root

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
            return node
        self._count(1)
        line, column = self.line, self.column
        if (tag := event.ctag) is not None and not str(tag).startswith("tag:yaml.org,2002:"):
            raise self._fault(f"the tag {str(tag)[:60]} has no meaning here")
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # not yet whole: an alias to it would be a loop
        node = self._content(event, line, column, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: Any, line: int, column: int, depth: int) -> Node:
        if isinstance(event, ScalarEvent):
            return Scalar(line, column, str(event.value), plain=event.style in (None, ""))
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(part := self._next(), SequenceEndEvent):
                items.append(self._node(part, depth + 1))
            return Sequence(line, column, items, size=1 + sum(item.size for item in items))
        assert isinstance(event, MappingStartEvent)
        entries: list[tuple[Scalar, Node]] = []
        while not isinstance(part := self._next(), MappingEndEvent):
            key = self._node(part, depth + 1)
            if not isinstance(key, Scalar):
                raise SyntaxFault("a list or a map cannot name a setting", key.line, key.column)
            entries.append((key, self._node(self._next(), depth + 1)))
        size = 1 + sum(1 + value.size for _, value in entries)
        return Mapping(line, column, _merged(entries), size=size)

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


def _merged(entries: list[tuple[Scalar, Node]]) -> list[tuple[Scalar, Node]]:
    """Put what `<<: *anchor` brings behind the map's own settings, which win. YAML 1.1, "merge"."""
    own = [entry for entry in entries if not _is_merge(entry[0])]
    taken = {key.text for key, _ in own}
    for key, value in entries:
        if not _is_merge(key):
            continue
        for source in value.items if isinstance(value, Sequence) else [value]:
            if not isinstance(source, Mapping):
                raise SyntaxFault("<< takes a map, or a list of maps", key.line, key.column)
            own += [entry for entry in source.entries if entry[0].text not in taken]
            taken |= {entry[0].text for entry in source.entries}
    return own


def _is_merge(key: Scalar) -> bool:
    return key.plain and key.text == "<<"
