"""What becomes of header lines on their way through here, remembered by their exact bytes. Sans-IO.

Between proxy and agent, and from there to the next hop, headers travel as the lines that are sent in
the end: `name: value` and CRLF each. Which of them go on, and as what, is decided by a rule that looks
at one field alone. So its word on a field, on a line and on a whole block of lines holds whenever the
same bytes come again, as they do: it is a fact about bytes, and says neither who sent them nor what
they were allowed. Where a verdict needs more than the field, it is not for a sieve.

What is remembered is bounded, and the oldest goes first: what comes but once costs its judging, and no room.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tport.engine.proto.fields import SAID_ONCE, Field, Headers, Lines
from tport.engine.proto.known_lines import judge_line
from tport.engine.proto.memory import Memory

MAX_COUNT: Final = 4096
MAX_SIZE: Final = 1024 * 1024  # bytes of lines; of blocks as much again
MAX_LINE: Final = 4096  # bytes; longer ones are judged each time
MAX_BLOCK: Final = 8 * 1024
MAX_LINES: Final = 128  # in a block: as many as a head may have

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_WRITTEN_HERE: Final = frozenset(
    {b"connection", b"content-length", b"transfer-encoding", b"upgrade"}
)

Rule = Callable[[Field], Field | None]  # what goes on of a field; None: it stays


class FieldSieve(Memory[Field, bytes]):
    """For the fields of heads that were read here."""

    def __init__(self, rule: Rule, *, count: int = MAX_COUNT, judged: bool = False) -> None:
        """
        Args:
            count: of what is remembered, at most; MAX_ANSWERED for answers.
            judged: the fields are as they were read: what the rule leaves as it is needs no second look.
        """
        super().__init__(count=count, size=MAX_SIZE, longest=MAX_LINE)
        self._rule = rule
        self._judged = judged

    def __missing__(self, field: Field) -> bytes:
        passed = self._rule(field)
        line = b"" if passed is None else _line(passed, judged=self._judged and passed is field)
        if field[0] not in SAID_ONCE:
            self.keep(field, line, len(field[0]) + len(field[1]) + len(line))
        return line

    def lines(self, headers: Headers) -> Lines:
        """Return the lines of what goes on.

        Raises:
            ValueError: a field that the rule lets through can't be sent as it is.
        """
        return Lines(b"".join([self[field] for field in headers]))


class LineSieve(Memory[bytes, bytes]):
    """For blocks of lines as they come through a tunnel, whose other end is not believed."""

    def __init__(self, rule: Rule, *, count: int = MAX_COUNT) -> None:
        """`count`: of lines that are remembered, at most, and of blocks; MAX_ANSWERED for answers."""
        super().__init__(count=count, size=MAX_SIZE, longest=MAX_LINE)
        self._rule = rule
        self._judged = 0  # lines since the start, but for those that are too long to be kept
        self._blocks = Memory[bytes, bytes](count=count, size=MAX_SIZE, longest=MAX_BLOCK)

    def __missing__(self, line: bytes) -> bytes:
        field = judge_line(line)
        if field is None:
            raise ValueError("a header line in the tunnel is malformed")
        passed = self._rule(field)
        made = b"" if passed is None else _line(passed, judged=passed is field)
        size = len(line) + len(made)
        if field[0] in SAID_ONCE:
            self._judged += 1
        elif size <= MAX_LINE:  # one that is longer is known by its block alone
            self._judged += 1
            self.keep(line, made, size)
        return made

    def lines(self, block: bytes) -> Lines:
        """Return the lines of what goes on of a block.

        Raises:
            ValueError: it is none, or has too many lines; or a field that the rule lets through can't
                be sent as it is.
        """
        if (known := self._blocks.get(block)) is not None:
            return Lines(known)
        *lines, rest = block.split(b"\r\n")
        if rest or len(lines) > MAX_LINES:
            raise ValueError("the headers in the tunnel are no block of lines, or too many")
        before = self._judged
        passed = b"".join([self[line] for line in lines])
        if self._judged == before:  # all of its lines had come before: so may all of it, again
            self._blocks.keep(block, passed, len(block) + len(passed))
        return Lines(passed)


_all: Final = FieldSieve(lambda field: field)


def write_lines(headers: Headers) -> Lines:
    """Return fields as lines.

    Raises:
        ValueError: one can't be sent as it is.
    """
    return _all.lines(headers)


def read_lines(lines: Lines) -> list[Field]:
    """Return the fields of lines that were written here."""
    parted = (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in parted]


def _line(field: Field, *, judged: bool) -> bytes:
    name, value = field
    if not judged and not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        raise ValueError(f"header {name!r} can't be sent as it is")
    if name.lower() in _WRITTEN_HERE:
        raise ValueError(f"header {name!r} is set by the connection alone")
    return b"%b: %b\r\n" % (name, value)
