"""One audit event as one line of JSON that is safe to print, to search and to read back. Pure.

Whatever a client put into a name, a path or a header comes out as printable ASCII: no control
character, no escape sequence, no character that turns the direction of text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import msgspec

from tport.engine.audit.chain import NAMES
from tport.engine.defaults import EARLIEST, LATEST
from tport.engine.types.event import Event

FIELDS_LIMIT: Final = 64  # fields of an event
FIELD_LIMIT: Final = 4096  # characters of one field, with all that is in it
NAME_LIMIT: Final = 32  # characters of a field's name
DEPTH_LIMIT: Final = 6  # levels of lists and mappings
LINE_LIMIT: Final = 64 * 1024  # bytes of a line, above which its large fields are cut again:
LARGE: Final = 384  # bytes, from which on a field is large
SHORT: Final = 32  # characters that are left of one; escaped, 12 bytes each
ITEM: Final = 8  # characters that an entry of a list or mapping counts beside its text

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def encode_line(
    event: Event | Mapping[str, object], *, uid: str, cluster: str, now: datetime
) -> bytes:
    """Return the event as a line, with its newline.

    Args:
        event: an Event, or its fields as a mapping. What JSON has no word for is written as
            text; what is too long is cut, and says so.
        uid: the event's own id.
        now: aware; the event's `time`, unless it brings one (an aware datetime, or RFC 3339).
    """
    if isinstance(event, Event):
        names: dict[str, object] = {"event": event.type, "code": event.code}
        event = names | {**event.fields, **names}
    time = _time(event.get("time"), now)
    fields: dict[str, Any] = {
        "time": format_time(time),
        "uid": uid,
        "cluster_name": cluster,
    }
    theirs = [(str(key), value) for key, value in event.items() if key not in fields.keys() | NAMES]
    for key, value in theirs[:FIELDS_LIMIT]:
        fields.setdefault(_Cutter(NAME_LIMIT).text(key), _Cutter(FIELD_LIMIT).clean(value))
    line = encode(fields)
    if len(line) > LINE_LIMIT:
        # Only what is large: nobody gets rid of the other fields by a long path.
        line = encode({key: _shorten(value) for key, value in fields.items()})
    return line + b"\n"


def format_time(time: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC with milliseconds: such texts sort as their times do."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _time(claimed: object, now: datetime) -> datetime:
    if isinstance(claimed, str):
        try:
            claimed = datetime.fromisoformat(claimed)
        except ValueError:
            return now
    if not isinstance(claimed, datetime) or claimed.tzinfo is None:
        return now
    return claimed if EARLIEST <= claimed <= LATEST else now


class _Cutter:
    """Makes one field fit for JSON, and cuts it after so many characters."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def clean(self, value: object, depth: int = 0) -> Any:
        match value:
            case Enum():
                return self.clean(value.value, depth)
            case None | bool() | float():
                return value
            case int():
                return value if abs(value) < 2**63 else self.text(hex(value))
            case str():
                return self.text(value)
            case bytes() | bytearray() | memoryview():
                return self.text(bytes(value).decode("utf-8", "backslashreplace"))
            case datetime() if value.tzinfo is not None:
                return format_time(value)
            case _ if depth == DEPTH_LIMIT:
                return "(too deep)"
            case Mapping():
                return self._mapping(value, depth)
            case set() | frozenset():
                return self._list(sorted(value, key=str), depth)
            case list() | tuple():
                return self._list(value, depth)
            case msgspec.Struct():
                return self._mapping(msgspec.structs.asdict(value), depth)
            case _:
                return self.text(str(value))

    def text(self, text: str) -> str:
        kept = text[: max(self._left, 0)]
        self._left -= len(kept)
        if len(kept) < len(text):
            kept += f"… (of {len(text)})"
        return kept.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no JSON

    def _list(self, items: Sequence[object], depth: int) -> list[Any]:
        cleaned: list[Any] = []
        for item in items:
            if self._left <= 0:
                return [*cleaned, f"… (of {len(items)})"]
            self._left -= ITEM
            cleaned.append(self.clean(item, depth + 1))
        return cleaned

    def _mapping(self, mapping: Mapping[Any, object], depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, value in mapping.items():
            if self._left <= 0:
                return cleaned | {"…": f"(of {len(mapping)})"}
            self._left -= ITEM
            cleaned[self.text(str(key))] = self.clean(value, depth + 1)
        return cleaned


def _shorten(value: Any) -> Any:
    return value if len(encode(value)) < LARGE else _Cutter(SHORT).clean(value)


def encode(value: object) -> bytes:
    """Return a value as JSON in printable ASCII, on one line."""
    encoded = msgspec.json.encode(value)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded  # JSON has escaped all other control characters
    return _UNPRINTABLE.sub(_escape, encoded.decode()).encode("ascii")


def _escape(match: re.Match[str]) -> str:
    # JSON counts in UTF-16: what lies beyond 16 bits is a pair. RFC 8259 §7
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
