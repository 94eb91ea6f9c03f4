"""What a role writes as a label's value: a literal, a glob or a regular expression.

Regular expressions are matched by an automaton of our own, never by `re`: time is bounded by
pattern length x value length whatever the pattern, so that no role or label can stall a
request. The syntax is the part of RE2's (Teleport's engine) that needs no backtracking and
that people use; anything else is refused when the role is written.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tport.engine.errors import InvalidRequest

MAX_PATTERN: Final = 256  # characters
MAX_POSITIONS: Final = 256  # characters a pattern may stand for once {m,n} is written out
MAX_DEPTH: Final = 16  # brackets within brackets
MAX_REMEMBERED: Final = 2048  # transitions kept of one automaton

STAR: Final = "\0"  # in a glob, a star that is meant literally; no label holds a NUL

Matcher = Callable[[str], bool]
"""Tells whether a whole value fits."""

_CLASSES: Final = {
    "d": frozenset(string.digits),
    "w": frozenset(string.ascii_letters + string.digits + "_"),
    "s": frozenset(" \t\n\r\f\v"),
}


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
    return _Automaton(_Parser(text[1:-1]).parse()).matches


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


@dataclass(frozen=True, slots=True)
class _Chars:
    """One character: of `members`, or none of them."""

    members: frozenset[str]
    negated: bool = False

    def accepts(self, char: str) -> bool:
        return (char in self.members) is not self.negated


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Either:
    branches: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    """`most` None: without end."""

    item: _Node
    least: int
    most: int | None


_Node = _Chars | _Sequence | _Either | _Repeat

_ANY_CHAR = _Chars(frozenset(), negated=True)


def _size(node: _Node) -> int:
    """Return how many positions `node` takes once repeats are written out."""
    match node:
        case _Chars():
            return 1
        case _Sequence(items=parts) | _Either(branches=parts):
            return sum(map(_size, parts))
        case _Repeat(item=item, least=least, most=most):
            return _size(item) * max(1, least if most is None else most)


class _Parser:
    """Recursive descent over the text between `^` and `$`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> _Node:
        node = self._either(0)
        if self._at < len(self._text):
            raise self._refusal("a ')' closes nothing")
        if _size(node) > MAX_POSITIONS:
            raise self._refusal(f"it stands for more than {MAX_POSITIONS} characters")
        return node

    def _refusal(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"the regular expression ^{self._text}$ can't be used: {why}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise self._refusal("it ends too early")
        self._at += 1
        return char

    def _skip(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _either(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._refusal(f"brackets are nested deeper than {MAX_DEPTH}")
        branches = [self._sequence(depth)]
        while self._skip("|"):
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else _Either(tuple(branches))

    def _sequence(self, depth: int) -> _Node:
        items: list[_Node] = []
        if depth == 0:
            self._skip("^")  # ^a$|^b$: the whole value is matched anyway
        while self._peek() not in ("", "|", ")"):
            if depth == 0 and self._text.startswith("$|", self._at):
                self._at += 1
                break
            items.append(self._repeat(depth))
        return _Sequence(tuple(items))

    def _repeat(self, depth: int) -> _Node:
        item = self._atom(depth)
        match self._peek():
            case "*":
                least, most = 0, None
            case "+":
                least, most = 1, None
            case "?":
                least, most = 0, 1
            case "{":
                least, most = self._bounds()
            case _:
                return item
        self._at += 1
        self._skip("?")  # lazy or not is the same for a whole match
        if self._peek() in tuple("*+?{"):
            raise self._refusal("a repetition follows a repetition")
        return _Repeat(item, least, most)

    def _bounds(self) -> tuple[int, int | None]:
        """Read `{m}`, `{m,}` or `{m,n}` up to its closing brace."""
        end = self._text.find("}", self._at)
        inside = self._text[self._at + 1 : end] if end > 0 else ""
        low, comma, high = inside.partition(",")
        if not all(c in string.digits for c in low + high) or not low or len(inside) > 9:
            raise self._refusal("a '{' needs {m}, {m,} or {m,n} behind what it repeats")
        least = int(low)
        most = int(high) if high else (None if comma else least)
        if most is not None and most < max(least, 1):
            raise self._refusal(f"{{{inside}}} repeats nothing")
        self._at = end
        return least, most

    def _atom(self, depth: int) -> _Node:
        char = self._take()
        if char == "(":
            if self._peek() == "?" and not self._skip("?:"):
                raise self._refusal("(?…) other than (?:…) is not supported")
            node = self._either(depth + 1)
            if not self._skip(")"):
                raise self._refusal("a '(' is not closed")
            return node
        if char == "[":
            return self._class()
        if char == ".":
            return _ANY_CHAR
        if char == "\\":
            return self._escape()
        if char in "*+?{}]^$":
            raise self._refusal(f"{char!r} stands where it means nothing; write \\{char}")
        return _Chars(frozenset(char))

    def _escape(self) -> _Chars:
        char = self._take()
        if members := _CLASSES.get(char.lower()):
            return _Chars(members, negated=char.isupper())
        if char in string.punctuation or char == " ":
            return _Chars(frozenset(char))
        raise self._refusal(f"\\{char} is not supported")

    def _class(self) -> _Chars:
        negated = self._skip("^")
        members: set[str] = set()
        first = True
        while first or self._peek() != "]":
            first = False
            if self._text.startswith("[:", self._at):
                raise self._refusal("[:…:] is not supported")
            low = self._class_member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_member()
                if len(low) != 1 or len(high) != 1 or max(low) > max(high):
                    raise self._refusal("a range in […] runs backwards")
                if ord(max(high)) - ord(max(low)) > 255:
                    raise self._refusal("a range in […] is wider than 256 characters")
                low = frozenset(map(chr, range(ord(max(low)), ord(max(high)) + 1)))
            members |= low
        self._at += 1
        return _Chars(frozenset(members), negated)

    def _class_member(self) -> frozenset[str]:
        char = self._take()
        if char != "\\":
            return frozenset(char)
        chars = self._escape()
        if chars.negated:
            raise self._refusal("\\D, \\W and \\S are not supported in […]")
        return chars.members


class _Automaton:
    """Positions that may come next, as bits of an integer (Glushkov's construction).

    Sets of positions met before are remembered, so that a value seen often costs one
    dictionary look-up a character.
    """

    def __init__(self, node: _Node) -> None:
        self._chars: list[_Chars] = []
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

    def _build(self, node: _Node) -> tuple[bool, int, int]:
        """Add `node`; return whether it may be empty, its first and its last positions."""
        match node:
            case _Chars():
                bit = 1 << len(self._chars)
                self._chars.append(node)
                self._follow.append(0)
                return False, bit, bit
            case _Sequence(items=items):
                empty, first, last = True, 0, 0
                for item in items:
                    empty, first, last = self._join((empty, first, last), self._build(item))
                return empty, first, last
            case _Either(branches=branches):
                built = [self._build(branch) for branch in branches]
                first = last = 0
                for _, branch_first, branch_last in built:
                    first, last = first | branch_first, last | branch_last
                return any(empty for empty, _, _ in built), first, last
            case _Repeat(item=item, least=least, most=most):
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
