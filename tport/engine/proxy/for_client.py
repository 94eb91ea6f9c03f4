"""Which headers of an answer go on to the browser. Pure.

The agent has seen to it already (`agent.rewrite`), and an agent may be a lost machine: it is not
believed. Names come in any case here, since HTTP knows none and whoever sends them may choose.
"""

from __future__ import annotations

from typing import Final, Literal

from tport.engine.proto.cookies import allowed_set_cookie, host_only
from tport.engine.proto.fields import HOP_BY_HOP, NOT_FROM_APPS, Field, Lines, fold, is_reserved
from tport.engine.proto.known_lines import MAX_ANSWERED
from tport.engine.proto.memory import ByRule
from tport.engine.proto.sieve import LineSieve

MAX_NAMES: Final = 1024  # of headers, of at most MAX_NAME bytes, whose kind is remembered
MAX_NAME: Final = 128


def for_client(block: bytes) -> Lines:
    """Return the lines that go on: no hop-by-hop, no reserved ones, no cookies of ours or for others.

    Raises:
        ValueError: it is no block of header lines.
    """
    return _SIEVE.lines(block)


def _passed(field: Field) -> Field | None:
    kind = _KINDS[field[0]]
    if kind == "cookie":
        return (b"set-cookie", host_only(field[1])) if allowed_set_cookie(field[1]) else None
    return field if kind == "passes" else None


_SIEVE: Final = LineSieve(_passed, count=MAX_ANSWERED)


_Kind = Literal["passes", "stays", "cookie"]


def _kind_of(name: bytes) -> _Kind:
    """Return what becomes of a header, by its name."""
    lower = name.lower()
    kind: _Kind = "passes"
    if lower == b"set-cookie":
        kind = "cookie"
    elif lower in HOP_BY_HOP or lower in NOT_FROM_APPS or is_reserved(fold(lower)):
        kind = "stays"
    return kind


_KINDS: Final = ByRule(_kind_of, count=MAX_NAMES, longest=MAX_NAME)
