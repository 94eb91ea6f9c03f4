"""Nodes into the structs of `file.py`. Every fault is kept with its place; none ends the reading."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingOf
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from tport.engine.config.document import Mapping, Node, Scalar, Sequence
from tport.engine.config.file import ONE_OR_MANY, File, Section
from tport.engine.config.words import did_you_mean, parse_bool, parse_choice, shown
from tport.engine.errors import InvalidRequest

S = TypeVar("S", bound=Section)

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


class Complaint(msgspec.Struct, frozen=True, order=True):
    """What is wrong, or worth knowing, with one setting.

    Attributes:
        line, column: counted from 1; 0 when there is no file to point into.
        path: the setting, as in `app_service.apps[0].uri`; "" is the file itself.
        shape: not this value is wrong but the way the file is written, so that nobody knows
            what was meant.
    """

    line: int
    column: int
    path: str
    text: str
    shape: bool = False

    def told(self, file: object) -> str:
        """Return `file:line:column: path: what is wrong`."""
        return ": ".join(part for part in (self.place(file), self.path, self.text) if part)

    def place(self, file: object) -> str:
        return f"{file}:{self.line}:{self.column}" if self.line else str(file)


class Reading:
    """What was found on the way: complaints, notes, and where each setting's value stands."""

    def __init__(self) -> None:
        self.complaints: list[Complaint] = []
        self.notes: list[Complaint] = []
        self._places: dict[str, tuple[int, int]] = {"": (1, 1)}
        self._given: dict[str, int] = {}

    def has(self, path: str) -> bool:
        """Tell whether the file gives this setting."""
        return path in self._places

    def is_faulty(self, path: str) -> bool:
        """Tell whether something is wrong with this setting, or within it."""
        return any(_within(complaint.path, path) for complaint in self.complaints)

    def is_unreadable(self, path: str) -> bool:
        """Tell whether this very item is not what it should be, so that nothing in it is known."""
        return any(complaint.path == path and complaint.shape for complaint in self.complaints)

    def stands(self, path: str) -> bool:
        """Tell whether the file has this very setting."""
        return path in self._places

    def where(self, path: str, file: object) -> str:
        """Return file:line:column of this setting, or of what it is in."""
        line, column = self._place(path)
        return f"{file}:{line}:{column}"

    def complain(self, path: str, text: str, *, shape: bool = False) -> None:
        """Keep a complaint about `path`, or about the nearest that stands in the file."""
        self.complaints.append(Complaint(*self._place(path), path, text, shape))

    def note(self, path: str, text: str) -> None:
        self.notes.append(Complaint(*self._place(path), path, text))

    def place(self, path: str, node: Node) -> None:
        self._places[path] = (node.line, node.column)

    def give(self, path: str) -> None:
        """Note that this setting, which was placed, has a value that counts."""
        self._given[path] = self._places[path][0]

    def given(self) -> Iterator[tuple[str, int]]:
        """Yield the settings that have a value, with its line: `ca_pin: ""` has none."""
        yield from self._given.items()

    def _place(self, path: str) -> tuple[int, int]:
        while path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._places[path]


def read_file(root: Node | None, reading: Reading) -> File:
    """Read the whole file; what is faulty has its default, and a complaint in `reading`."""
    if root is None or (isinstance(root, Scalar) and root.is_null):
        return File()
    return _section(File, root, "", reading)


def read_section(kind: type[S], node: Node, path: str, reading: Reading) -> S:
    """Read one section, as `read_file` does each of its own; `path` names it in complaints."""
    reading.place(path, node)
    return _section(kind, node, path, reading)


def plain_value(node: Node, path: str, reading: Reading) -> Any:
    """Return what a node is by YAML 1.2's core schema: maps, lists, text, numbers, booleans, None."""
    reading.place(path, node)
    if isinstance(node, Mapping):
        return {
            key.text: plain_value(value, _join(path, key.text), reading)
            for key, value in _once(node, path, reading)
        }
    if isinstance(node, Sequence):
        return [
            plain_value(item, f"{path}[{index}]", reading) for index, item in enumerate(node.items)
        ]
    assert isinstance(node, Scalar)
    if node.is_null:
        return None
    if node.plain and node.text in _BOOLEANS:
        return _BOOLEANS[node.text]
    return int(node.text) if node.plain and _INTEGER.fullmatch(node.text) else node.text


def within(complaints: list[Complaint], path: str) -> Iterator[Complaint]:
    """Yield those about `path` and what is in it."""
    return (complaint for complaint in complaints if _within(complaint.path, path))


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _section(kind: type[S], node: Node, path: str, reading: Reading) -> S:
    if not isinstance(node, Mapping):
        reading.complain(
            path, f"expected settings, each as `name: value`, found {_kind(node)}", shape=True
        )
        return kind()
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in _once(node, path, reading):
        name, here = key.text, _join(path, key.text)
        if name in kind.refused:
            reading.complain(here, kind.refused[name])
        elif name in kind.without_effect:
            reading.place(here, key)
            reading.note(here, "has no effect in tport")
        elif name not in types:
            reading.place(here, key)
            reading.complain(here, f"unknown setting{_meant(name, path, list(types))}", shape=True)
        elif not (isinstance(value, Scalar) and value.is_null):
            read = _value(types[name], value, here, reading)
            if read is not msgspec.UNSET:
                values[name] = read
                reading.give(here)
    return kind(**values)


def _once(node: Mapping, path: str, reading: Reading) -> Iterator[tuple[Scalar, Node]]:
    """Yield each key's first entry; complain of the others. Places each value."""
    lines: dict[str, int] = {}
    for key, value in node.entries:
        here = _join(path, key.text)
        if key.text in lines:
            reading.complaints.append(
                Complaint(
                    key.line,
                    key.column,
                    here,
                    f"is set twice, first in line {lines[key.text]}; keep one",
                    shape=True,
                )
            )
            continue
        lines[key.text] = key.line
        reading.place(here, value)
        yield key, value


def _value(type_: Any, node: Node, path: str, reading: Reading) -> Any:
    """Return the value, or UNSET after a complaint."""
    marks: tuple[Any, ...] = ()
    if get_origin(type_) is Annotated:
        type_, *rest = get_args(type_)
        marks = tuple(rest)
    if get_origin(type_) is tuple:
        return _list(get_args(type_)[0], node, path, reading, one=ONE_OR_MANY in marks)
    if get_origin(type_) is MappingOf:
        return _map(get_args(type_)[1], node, path, reading)
    if isinstance(type_, type) and issubclass(type_, Section):
        return _section(type_, node, path, reading)
    return _scalar(_parser(type_, marks), node, path, reading)


def _list(type_: Any, node: Node, path: str, reading: Reading, *, one: bool) -> Any:
    if isinstance(node, Scalar) and one:
        value = _value(type_, node, path, reading)
        return msgspec.UNSET if value is msgspec.UNSET else ((value,) if node.text else ())
    if not isinstance(node, Sequence):
        reading.complain(path, f"expected a list, found {_kind(node)}", shape=True)
        return msgspec.UNSET
    values = []
    for index, item in enumerate(node.items):
        here = f"{path}[{index}]"
        reading.place(here, item)
        value = _value(type_, item, here, reading)
        # A place is kept for what is faulty: an item's index must go on meaning that item.
        values.append(_nothing(type_) if value is msgspec.UNSET else value)
    return tuple(values)


def _map(type_: Any, node: Node, path: str, reading: Reading) -> Any:
    if not isinstance(node, Mapping):
        reading.complain(path, f"expected a map of `name: value`, found {_kind(node)}", shape=True)
        return msgspec.UNSET
    values = {}
    for key, value in _once(node, path, reading):
        read = _value(type_, value, _join(path, key.text), reading)
        values[key.text] = _nothing(type_) if read is msgspec.UNSET else read
    return values


def _scalar(parse: Callable[[str], Any], node: Node, path: str, reading: Reading) -> Any:
    if not isinstance(node, Scalar):
        reading.complain(path, f"expected one value, found {_kind(node)}", shape=True)
        return msgspec.UNSET
    if node.is_null or (node.text == "" and parse is not parse_bool):
        return msgspec.UNSET  # Teleport's samples say `ca_pin: ""` and mean: not set
    try:
        return parse(node.text)
    except InvalidRequest as error:
        reading.complain(path, str(error))
        return msgspec.UNSET


def _parser(type_: Any, marks: tuple[Any, ...]) -> Callable[[str], Any]:
    for mark in marks:
        if callable(mark):
            return mark  # type: ignore[no-any-return]  # what stands in Annotated has no type
    if type_ is bool:
        return parse_bool
    if get_origin(type_) is Literal:
        return lambda text: parse_choice(text, get_args(type_))
    assert type_ is str, type_
    return str


def _nothing(type_: Any) -> Any:
    if get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    if get_origin(type_) is tuple:
        return ()
    return type_() if isinstance(type_, type) else ""


def _meant(name: str, path: str, siblings: list[str]) -> str:
    if close := did_you_mean(name, siblings):
        return close
    owners = [
        outer.name
        for outer in msgspec.structs.fields(File)
        if outer.name not in (path, "teleport")
        and isinstance(outer.default, Section)
        and name in {*outer.default.__struct_fields__, *outer.default.without_effect}
    ]
    if len(owners) == 1:
        return f"; it belongs under {owners[0]!r}"
    return f"; expected one of {', '.join(siblings)}"


def _kind(node: Node) -> str:
    match node:
        case Mapping():
            return "a map"
        case Sequence():
            return "a list"
        case Scalar() if node.is_null:
            return "nothing"
        case _:
            return "one value"


def _join(path: str, name: str) -> str:
    # A key is the operator's text: on one line, and not too long.
    name = name if name.isprintable() and len(name) <= 80 and name else shown(name)
    return f"{path}.{name}" if path else name
