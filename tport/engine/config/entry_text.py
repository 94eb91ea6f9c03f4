"""One app's entry in the text of a tport.yaml: where it stands, and how settings get into it. Pure.

Only what nothing else shares is touched, and only where a line can be added without taking
others apart. That the result means what it should is for `edit.py` to see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tport.engine.config.app_rules import parse_header
from tport.engine.config.document import Mapping, Node, Scalar, Sequence, parse_document
from tport.engine.config.entry import header_text, rewrite_lines
from tport.engine.config.quoting import quoted, scalar
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import Header, Rewrite
from tport.engine.types.probe import Proposal

_BY_HAND: Final = "put the settings into the file by hand"
_BREAK = re.compile(r"\r\n?|\n")
_DASH = re.compile(r"-([ \t]+)[^ \t\r\n#]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One app in the text, and how what surrounds it is indented.

    Attributes:
        name: of the app.
        index: in `app_service.apps`.
        step: columns from a setting to those below it.
        dash: columns from a setting to the dashes of its list.
    """

    node: Mapping
    name: str
    index: int
    step: int
    dash: int


def find_entry(text: str, name: str) -> Entry:
    """Return where the app `name` stands in a sound file that has it.

    Raises:
        InvalidRequest: the entry, or what it is in, may stand elsewhere too.
    """
    root = parse_document(text)
    assert isinstance(root, Mapping)
    service = _own(root, "app_service")
    assert isinstance(service, Mapping)
    apps = _own(service, "apps")
    assert isinstance(apps, Sequence)
    for index, node in enumerate(apps.items):
        assert isinstance(node, Mapping)
        if any(key.text == "name" and _text(value) == name for key, value in node.entries):
            _check_own(node, f"the app {name!r}")
            step, dash = service.column - root.column, apps.column - service.column
            for outer, inner in _blocks(node):
                if isinstance(inner, Mapping):
                    step = inner.column - outer.column
                else:
                    dash = inner.column - outer.column
            return Entry(node, name, index, step, dash)
    raise AssertionError(name)


def _blocks(node: Mapping) -> Iterator[tuple[Mapping, Mapping | Sequence]]:
    """Yield the maps and lists in a map that stand there in lines of their own, each with its map."""
    for _, value in node.entries[: node.own]:
        if isinstance(value, Mapping | Sequence) and not (value.flow or value.marked):
            yield node, value
            if isinstance(value, Mapping):
                yield from _blocks(value)


def _text(node: Node) -> str:
    """Return what a scalar says; "": it says that a setting is empty, or the node is none."""
    return node.text if isinstance(node, Scalar) and not node.is_null else ""


def _own(mapping: Mapping, name: str) -> Node | None:
    """Return the value of a setting, when changing it changes nothing else; None: it isn't set."""
    for index, (key, value) in enumerate(mapping.entries):
        if key.text == name:
            if index >= mapping.own:
                raise refusal(mapping, f"`{name}` comes by <<, from what may stand elsewhere too")
            _check_own(value, f"`{name}`")
            return value
    return None


def _check_own(node: Node, what: str) -> None:
    if node.marked:
        raise refusal(node, f"{what} has an anchor or a tag, so that it may stand elsewhere too")


def _check_lines(node: Mapping | Sequence, what: str) -> None:
    if node.flow:
        raise refusal(node, f"{what} is written in brackets, where no line can be added")


def refusal(node: Node, why: str) -> InvalidRequest:
    """Return the error that says in which line, and why; what to do is always the same."""
    return InvalidRequest(f"line {node.line}: {why}", hint=_BY_HAND)


def put(text: str, entry: Entry, new: Proposal) -> str:
    """Return `text` with the settings of `new`, none of which the entry has yet.

    Raises:
        InvalidRequest: there is no safe way; in which line, and why.
    """
    return _Editor(text, entry).with_settings(new)


class _Editor:
    """The pieces of a text that change. Of those at one place, the first stays the first."""

    def __init__(self, text: str, entry: Entry) -> None:
        self._text = text
        self._entry = entry
        self._app = f"the app {entry.name!r}"
        self._pieces: list[tuple[int, int, str]] = []  # start, end, what becomes of it

    def with_settings(self, new: Proposal) -> str:
        node = self._entry.node
        if new.uri and (there := _own(node, "uri")):
            self._set(there, "`uri`", new.uri)
        if new.insecure_skip_verify:
            self._skip_verify(node)
        if new.redirect or new.host or new.jwt_claims:
            self._rewrite(node, new)
        return self._result()

    def _skip_verify(self, node: Mapping) -> None:
        if there := _own(node, "insecure_skip_verify"):
            self._set(there, "`insecure_skip_verify`", "true", plain="true")
            return
        # Below the address that it is about, unless that stands elsewhere.
        uris = [value for key, value in node.entries[: node.own] if key.text == "uri"]
        behind = uris[0].end if uris and not uris[0].marked else node.end
        self._add_settings(node, self._app, ["insecure_skip_verify: true"], behind)

    def _rewrite(self, node: Mapping, new: Proposal) -> None:
        there = _own(node, "rewrite")
        if isinstance(there, Mapping):
            self._merge(there, new)
            return
        lines = [" " * self._entry.step + line for line in self._lines(new)]
        if there is None:
            self._add_settings(node, self._app, ["rewrite:", *lines], node.end)
        else:
            self._clear(there)
            self._add_settings(node, self._app, lines, there.end)

    def _merge(self, node: Mapping, new: Proposal) -> None:
        """Put settings into a `rewrite` that has some: those that are there first."""
        if new.redirect and (there := _own(node, "redirect")):
            self._append(node, there, "redirect", map(scalar, new.redirect))
            new = replace(new, redirect=())
        if new.host and (there := _own(node, "headers")):
            header = Header("Host", new.host)
            if host := _host_header(there):
                self._set(host, "the header Host", f"{header.name}: {header.value}")
            else:
                self._append(node, there, "headers", [header_text(header)])
            new = replace(new, host="")
        if new.jwt_claims and (there := _own(node, "jwt_claims")):
            self._set(there, "`jwt_claims`", new.jwt_claims)
            new = replace(new, jwt_claims=None)
        if lines := self._lines(new):
            self._add_settings(node, "`rewrite`", lines, node.end)

    def _lines(self, new: Proposal) -> list[str]:
        rewrite = Rewrite(
            redirect=new.redirect,
            headers=(Header("Host", new.host),) if new.host else (),
            jwt_claims=new.jwt_claims or Rewrite().jwt_claims,
        )
        return rewrite_lines(rewrite, self._entry.dash)

    def _append(self, owner: Mapping, node: Node, name: str, items: Iterable[str]) -> None:
        """Add items to the list `node`, the setting `name` in `owner`; it may be empty, or one value."""
        if isinstance(node, Sequence):
            _check_lines(node, f"`{name}`")
            gap = _DASH.match(self._text, node.start)
            dash = " " * (node.column - 1) + "-" + (gap[1] if gap else " ")
            self._add_lines(node.end, [dash + item for item in items])
            return
        _check_lines(owner, "`rewrite`")
        dash = " " * (owner.column - 1 + self._entry.dash) + "- "
        if not _text(node):
            self._clear(node)
        else:
            self._check_one_line(node, f"`{name}`")
            before = self._text[: node.start].rstrip(" \t")
            if before.endswith(":"):
                self._pieces.append(
                    (len(before), node.start, f"{self._line_break(node.start)}{dash}")
                )
            else:  # the value is in a line of its own
                dash = " " * (node.column - 1) + "- "
                self._pieces.append((node.start, node.start, "- "))
        self._add_lines(node.end, [dash + item for item in items])

    def _set(self, node: Node, what: str, value: str, *, plain: str = "") -> None:
        """Put `value` in the place of a scalar, in its quotes; where it has none, `plain` if given."""
        plain = plain or scalar(value)
        _check_own(node, what)
        self._check_one_line(node, what)
        match self._text[node.start : node.end][:1]:
            case "":
                new = f" {plain}"
            case "'":
                new = "'" + value.replace("'", "''") + "'"
            case '"':
                new = quoted(value)
            case _:
                new = plain
        self._pieces.append((node.start, node.end, new))

    def _clear(self, node: Node) -> None:
        """Remove what says that a setting is empty: `~`, `null`, or a pair of quotes."""
        blank = len(self._text[: node.start].rstrip(" \t"))
        self._pieces.append((blank, node.end, ""))

    def _add_settings(self, owner: Mapping, what: str, lines: Iterable[str], behind: int) -> None:
        _check_lines(owner, what)
        pad = " " * (owner.column - 1)
        self._add_lines(behind, [pad + line for line in lines])

    def _add_lines(self, behind: int, lines: Iterable[str]) -> None:
        """Put lines below the line in which the character at `behind` is."""
        line_end = _BREAK.search(self._text, behind)
        position = line_end.start() if line_end else len(self._text)
        added = "".join(self._line_break(position) + line for line in lines)
        self._pieces.append((position, position, added))

    def _line_break(self, position: int) -> str:
        """Return how lines end there; in the last line, as in the first."""
        found = _BREAK.search(self._text, position) or _BREAK.search(self._text)
        return found[0] if found else "\n"

    def _check_one_line(self, node: Node, what: str) -> None:
        if _BREAK.search(self._text, node.start, node.end):
            raise refusal(node, f"{what} runs over several lines")

    def _result(self) -> str:
        parts, done = [], 0
        for start, end, new in sorted(self._pieces, key=lambda piece: piece[0]):
            parts += [self._text[done:start], new]
            done = end
        return "".join([*parts, self._text[done:]])


def _host_header(headers: Node) -> Node | None:
    """Return the entry of `rewrite.headers` that decides on Host: the last of its name wins."""
    items = headers.items if isinstance(headers, Sequence) else [headers]
    for item in reversed(items):
        if (text := _text(item)) and parse_header(text).name.lower() == "host":
            return item
    return None
