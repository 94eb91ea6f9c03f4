"""What a role writes as a label's value: a literal, a glob or a regular expression.

Regular expressions are matched by an automaton of our own, never by `re`: time is bounded by
pattern length x value length whatever the pattern, so that no role or label can stall a
request.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from tport.engine.access.regex import Chars, Either, Group, Node, Parser, Repeat, Sequence
from tport.engine.errors import InvalidRequest

MAX_PATTERN: Final = 256  # characters
MAX_REMEMBERED: Final = 2048  # transitions kept of one automaton

STAR: Final = "\0"  # in a glob, a star that is meant literally; no label holds a NUL

Matcher = Callable[[str], bool]
"""Tells whether a whole value fits."""


def is_regex(text: str) -> bool:
    """Tell whether a role means `text` as a regular expression: `^…$`."""
    return len(text) >= 2 and text.startswith("^") and text.endswith("$")


def compile_pattern(text: str) -> Matcher:
    """Return what decides whether a label's value fits `text`, as a role writes it.

    `^…$` is a regular expression for the whole value; a `*` elsewhere stands for any
    characters, none included; all else is meant to the letter. Case counts.

    Raises:
        InvalidRequest: too long, or a regular expression outside of the safe syntax.
    """
    if len(text) > MAX_PATTERN:
        raise InvalidRequest(f"the pattern {text[:40]!r}… is longer than {MAX_PATTERN} characters")
    return compile_regex(text) if is_regex(text) else compile_glob(text)


@lru_cache(maxsize=1024)
def compile_regex(text: str) -> Matcher:
    """Return what decides whether a value fits the regular expression `^…$`.

    Raises:
        InvalidRequest: outside of the safe syntax, or too much once written out.
    """
    return _Automaton(Parser(text[1:-1]).parse()).matches


@lru_cache(maxsize=4096)
def compile_glob(text: str) -> Matcher:
    """Return what decides whether a value fits `text`, where only `*` is special."""
    if "*" in text:
        return _glob(text)
    return text.replace(STAR, "*").__eq__


def escape(text: str, *, regex: bool) -> str:
    """Return `text` so that it means itself inside of a glob, or of a regular expression."""
    if not regex:
        return text.replace("*", STAR)
    return "".join(f"\\{c}" if c in string.punctuation else c for c in text)


def _glob(text: str) -> Matcher:
    head, *middle, tail = (part.replace(STAR, "*") for part in text.split("*"))

    def matches(value: str) -> bool:
        if len(value) < len(head) + len(tail):
            return False
        if not (value.startswith(head) and value.endswith(tail)):
            return False
        at, end = len(head), len(value) - len(tail)
        for part in middle:
            at = value.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches


class _Automaton:
    """Positions that may come next, as bits of an integer (Glushkov's construction).

    Sets of positions met before are remembered, so that a value seen often costs one
    dictionary look-up a character.
    """

    def __init__(self, node: Node) -> None:
        self._chars: list[Chars] = []
        self._follow: list[int] = []  # position -> the positions that may come after it
        empty, first, last = self._build(node)
        self._start = first
        self._last = last
        self._empty = empty
        self._accepting: dict[str, int] = {}  # character -> the positions it fits
        self._steps: dict[tuple[int, str], tuple[int, bool]] = {}

    def matches(self, value: str) -> bool:
        wanted, ended = self._start, self._empty
        for char in value:
            step = self._steps.get((wanted, char))
            if step is None:
                step = self._step(wanted, char)
            wanted, ended = step
            if not wanted and not ended:
                return False
        return ended

    def _step(self, wanted: int, char: str) -> tuple[int, bool]:
        if len(self._steps) >= MAX_REMEMBERED:
            self._steps.clear()
        if len(self._accepting) >= MAX_REMEMBERED:
            self._accepting.clear()
        fits = self._accepting.get(char)
        if fits is None:
            fits = sum(1 << at for at, chars in enumerate(self._chars) if chars.accepts(char))
            self._accepting[char] = fits
        here = rest = wanted & fits
        following = 0
        while rest:
            lowest = rest & -rest
            following |= self._follow[lowest.bit_length() - 1]
            rest ^= lowest
        step = following, bool(here & self._last)
        self._steps[wanted, char] = step
        return step

    def _build(self, node: Node) -> tuple[bool, int, int]:
        """Add `node`; return whether it may be empty, its first and its last positions."""
        match node:
            case Chars():
                bit = 1 << len(self._chars)
                self._chars.append(node)
                self._follow.append(0)
                return False, bit, bit
            case Sequence(items=items):
                empty, first, last = True, 0, 0
                for item in items:
                    empty, first, last = self._join((empty, first, last), self._build(item))
                return empty, first, last
            case Group(item=item):
                return self._build(item)
            case Either(branches=branches):
                built = [self._build(branch) for branch in branches]
                first = last = 0
                for _, branch_first, branch_last in built:
                    first, last = first | branch_first, last | branch_last
                return any(empty for empty, _, _ in built), first, last
            case Repeat(item=item, least=least, most=most):
                whole = (True, 0, 0)
                copies = max(least, 1) if most is None else most
                for number in range(1, copies + 1):
                    empty, first, last = self._build(item)
                    if most is None and number == copies:
                        self._link(last, first)
                    whole = self._join(whole, (empty or number > least, first, last))
                return whole

    def _join(
        self, left: tuple[bool, int, int], right: tuple[bool, int, int]
    ) -> tuple[bool, int, int]:
        self._link(left[2], right[1])
        return (
            left[0] and right[0],
            left[1] | right[1] if left[0] else left[1],
            left[2] | right[2] if right[0] else right[2],
        )

    def _link(self, sources: int, targets: int) -> None:
        while sources:
            lowest = sources & -sources
            self._follow[lowest.bit_length() - 1] |= targets
            sources ^= lowest
