"""Replacing what a regular expression finds in a value: `regexp.replace` of templates. Pure.

As Go's `ReplaceAllString`: leftmost, earlier branches first. Never by `re`: the search keeps a
set of threads, one for each place in the expression (Pike's machine; Russ Cox, "Regular Expression
Matching: the Virtual Machine Approach"), so that a value's every character costs at most one step
for each; and MAX_STEPS bounds it all, whatever expression and values are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from tport.engine.access.regex import Chars, Either, Group, Node, Parser, Repeat
from tport.engine.access.regex import Sequence as Items
from tport.engine.errors import InvalidRequest

MAX_PATTERN: Final = 256  # characters, of the expression and of the replacement
MAX_STEPS: Final = 100_000  # for all values of a trait together; some 50 ms
MAX_RESULT: Final = 8192  # characters; no header takes more

_REFERENCE = re.compile(r"\$(?:(\$)|([0-9])(?![A-Za-z0-9_])|\{([0-9]{1,2})\})")

Spans = tuple[int, ...]  # of the whole match and each group: start, end; -1: took no part


class _Char(NamedTuple):
    chars: Chars


class _Split(NamedTuple):
    """Go on at both places; the first is preferred."""

    first: int
    second: int


class _Save(NamedTuple):
    slot: int


class _Match(NamedTuple):
    pass


class _Jump(NamedTuple):
    to: int


_Step = _Char | _Split | _Save | _Match | _Jump


class TooMuchWork(Exception):
    """The values would take more than MAX_STEPS, or become longer than MAX_RESULT."""


class Replacer:
    """One `regexp.replace`, ready."""

    def __init__(self, pattern: str, replacement: str) -> None:
        """
        Raises:
            InvalidRequest: outside of the safe syntax, or a group that isn't there.
        """
        if max(len(pattern), len(replacement)) > MAX_PATTERN:
            raise InvalidRequest(
                f"an argument of regexp.replace is longer than {MAX_PATTERN} characters"
            )
        self._at_start = pattern.startswith("^")
        self._at_end = _ends_anchored(pattern)
        body = pattern[self._at_start : len(pattern) - self._at_end]
        parser = Parser(body, whole=False)
        node = parser.parse()
        if isinstance(node, Either) and (self._at_start or self._at_end):
            raise InvalidRequest(
                f"the regular expression {pattern} can't be used: put brackets around what"
                " stands between ^ and $ when it holds a '|'"
            )
        self._parts = _replacement(replacement, parser.groups)
        self._slots = 2 * (parser.groups + 1)
        self._program: list[_Step] = [_Save(0)]
        self._compile(node)
        self._program += (_Save(1), _Match())
        self._steps = 0

    def apply(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return what becomes of each value in which the expression is found; others are left out.

        Raises:
            TooMuchWork: nothing is returned at all.
        """
        self._steps = 0
        replaced = (self._replace(value) for value in values)
        return tuple(value for value in replaced if value is not None)

    def _replace(self, text: str) -> str | None:
        """Return `text` with every match replaced; None: there is none.

        Go's rules: an empty match right behind another one doesn't count.
        """
        pieces: list[str] = []
        last, at, found, length = 0, 0, False, 0
        while at <= len(text):
            spans = self._search(text, at)
            if spans is None:
                break
            found = True
            start, end = spans[0], spans[1]
            piece = text[last:start]
            if end > last or start == 0:
                piece += self._expanded(text, spans)
            pieces.append(piece)
            length += len(piece)
            if length > MAX_RESULT:
                raise TooMuchWork
            last = end
            at = max(at + 1, end)
        return "".join((*pieces, text[last:])) if found else None

    def _expanded(self, text: str, spans: Spans) -> str:
        """Return the replacement of one match; a group that took no part is empty."""
        parts = (
            part if isinstance(part, str) else text[spans[2 * part] : spans[2 * part + 1]]
            for part in self._parts
        )
        return "".join(parts)

    # --- Searching ---------------------------------------------------------------------------

    def _search(self, text: str, begin: int) -> Spans | None:
        """Return the leftmost match at or behind `begin`."""
        matched: Spans | None = None
        threads: list[tuple[int, Spans]] = []
        seen: set[int] = set()
        for at in range(begin, len(text) + 1):
            if matched is None and (at == 0 or not self._at_start):
                self._add(threads, seen, 0, (-1,) * self._slots, at)
            if not threads:
                if matched is not None or self._at_start:
                    break
                continue
            following: list[tuple[int, Spans]] = []
            seen = set()
            for place, spans in threads:
                step = self._program[place]
                if isinstance(step, _Match):
                    if self._at_end and at != len(text):
                        continue
                    matched = spans
                    break  # all that follow are worse
                assert isinstance(step, _Char)
                if at < len(text) and step.chars.accepts(text[at]):
                    self._add(following, seen, place + 1, spans, at + 1)
            self._count(len(threads))
            threads = following
        return matched

    def _add(
        self,
        threads: list[tuple[int, Spans]],
        seen: set[int],
        place: int,
        spans: Spans,
        at: int,
    ) -> None:
        """Add the places that are reached from `place` without a character, best first."""
        waiting = [(place, spans)]
        while waiting:
            place, spans = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            match self._program[place]:
                case _Jump(to=to):
                    waiting.append((to, spans))
                case _Split(first=first, second=second):
                    waiting += ((second, spans), (first, spans))
                case _Save(slot=slot):
                    waiting.append((place + 1, (*spans[:slot], at, *spans[slot + 1 :])))
                case _:
                    threads.append((place, spans))
            self._count(1)

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise TooMuchWork

    # --- Compiling ---------------------------------------------------------------------------

    def _compile(self, node: Node) -> None:
        program = self._program
        match node:
            case Chars():
                program.append(_Char(node))
            case Items(items=items):
                for item in items:
                    self._compile(item)
            case Group(item=item, number=number):
                program.append(_Save(2 * number))
                self._compile(item)
                program.append(_Save(2 * number + 1))
            case Either(branches=branches):
                self._compile_either(branches)
            case Repeat(item=item, least=least, most=most, lazy=lazy):
                for _ in range(least):
                    self._compile(item)
                if most is None:
                    start = self._fork()
                    self._compile(item)
                    program.append(_Jump(start))
                    self._join([start], lazy=lazy)
                else:
                    forks = []
                    for _ in range(most - least):
                        forks.append(self._fork())
                        self._compile(item)
                    self._join(forks, lazy=lazy)

    def _compile_either(self, branches: Sequence[Node]) -> None:
        ends = []
        for branch in branches[:-1]:
            fork = self._fork()
            self._compile(branch)
            ends.append(len(self._program))
            self._program.append(_Jump(0))
            self._join([fork], lazy=False)
        self._compile(branches[-1])
        for end in ends:
            self._program[end] = _Jump(len(self._program))

    def _fork(self) -> int:
        """Leave room for a choice, whose second way `_join` will say; return its place."""
        self._program.append(_Jump(0))
        return len(self._program) - 1

    def _join(self, forks: Sequence[int], *, lazy: bool) -> None:
        """Let each fork go on behind itself or here; lazily: rather here."""
        here = len(self._program)
        for fork in forks:
            self._program[fork] = _Split(here, fork + 1) if lazy else _Split(fork + 1, here)


def _ends_anchored(pattern: str) -> bool:
    """Tell whether the last character is a `$` that means the end, not one behind a backslash."""
    before = pattern[:-1]
    escapes = len(before) - len(before.rstrip("\\"))
    return pattern.endswith("$") and escapes % 2 == 0


def _replacement(text: str, groups: int) -> tuple[str | int, ...]:
    """Read `$1`, `${1}` and `$$` in a replacement; the rest is meant to the letter.

    Raises:
        InvalidRequest: a `$` that means nothing, or a group that isn't there.
    """
    parts: list[str | int] = []
    last = 0
    for dollar in re.finditer(r"\$", text):
        if dollar.start() < last:
            continue  # the second of `$$`
        reference = _REFERENCE.match(text, dollar.start())
        if reference is None:
            raise InvalidRequest(
                f"the replacement {text!r} has a '$' that names no group; write $1, ${{1}}, or $$"
                " for the character itself"
            )
        literal, short, braced = reference.groups()
        parts.append(text[last : dollar.start()])
        parts.append("$" if literal else int(short or braced))
        if not literal and int(short or braced) > groups:
            raise InvalidRequest(
                f"the replacement {text!r} names group {short or braced}, and there are {groups}"
            )
        last = reference.end()
    return (*parts, text[last:])
