"""Lines of heads that were judged before, with their verdict. Sans-IO.

Browsers and applications say the same lines again and again. A line that h11's grammar has let
through once is let through by its exact bytes from then on: what is remembered is a fact about
bytes and nothing else, neither who sent them nor what they were allowed. What depends on several
lines (framing, Host, Connection) is remembered elsewhere, of whole blocks of lines: `head`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from h11._readers import header_field_re  # h11's own grammar of one line; a test holds it to h11

from tport.engine.defaults import READY_SESSIONS
from tport.engine.proto.fields import SAID_ONCE, Field
from tport.engine.proto.memory import Memory

_CLEAN = re.compile(rb"[\t\x20-\x7e\x80-\xff]++")  # stricter than h11: no control characters

MAX_LINES: Final = READY_SESSIONS  # a person's cookies are in a line of their own
# Lines of answers, and whole heads of them: nearly each says Date, so that most of any number are of seconds that
# never come again. So many are full within minutes, and take no more memory from then on; what is said again is
# judged again after that, which costs a busy process microseconds a second.
MAX_ANSWERED: Final = 256
MAX_BYTES: Final = 4 * 1024 * 1024  # of lines; so much is what thousands of people come to
MAX_LINE: Final = 4096  # bytes; longer ones are judged each time


class KnownLines:
    """Fields by the exact bytes of their line, without its CRLF.

    Attributes:
        judged: how many were judged since the start, for they were not known.
    """

    def __init__(self, *, lines: int = MAX_LINES, size: int = MAX_BYTES) -> None:
        self._known = Memory[bytes, Field](count=lines, size=size, longest=MAX_LINE)
        self.judged = 0

    @property
    def held(self) -> int:
        """Bytes of lines that are known now."""
        return self._known.held

    @property
    def count(self) -> int:
        """Lines that are known now."""
        return len(self._known)

    def fields(self, lines: Sequence[bytes]) -> list[Field] | None:
        """Return what these lines say, in order; None: one of them is no header line."""
        fields = list(map(self._known.get, lines))
        if None in fields:
            for at, field in enumerate(fields):
                if field is None:
                    fields[at] = judged = self._judge(lines[at])
                    if judged is None:
                        return None
        return fields  # type: ignore[return-value]  # just looked

    def _judge(self, line: bytes) -> Field | None:
        self.judged += 1
        field = judge_line(line)
        if field is not None and field[0] not in SAID_ONCE:
            self._known.keep(line, field, len(line))
        return field


def judge_line(line: bytes) -> Field | None:
    """Return what a line says, without its CRLF; None: it is no header line."""
    judged = header_field_re.fullmatch(line)
    if judged is None or not _CLEAN.fullmatch(line):
        return None
    return judged["field_name"].lower(), judged["field_value"]
