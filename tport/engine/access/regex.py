"""The syntax of regular expressions that roles and templates may use. Pure.

It is the part of RE2's (Teleport's engine) that needs no backtracking and that people use;
anything else is refused when it is written.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

from tport.engine.errors import InvalidRequest

MAX_POSITIONS: Final = 256  # characters a pattern may stand for once {m,n} is written out
MAX_DEPTH: Final = 16  # brackets within brackets

_CLASSES: Final = {
    "d": frozenset(string.digits),
    "w": frozenset(string.ascii_letters + string.digits + "_"),
    "s": frozenset(" \t\n\r\f\v"),
}


@dataclass(frozen=True, slots=True)
class Chars:
    """One character: of `members`, or none of them."""

    members: frozenset[str]
    negated: bool = False

    def accepts(self, char: str) -> bool:
        return (char in self.members) is not self.negated


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`most` None: without end. `lazy`: as few as will do, where that makes a difference."""

    item: Node
    least: int
    most: int | None
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """What a replacement may name: `(…)`, counted from 1 by its bracket."""

    item: Node
    number: int


Node = Chars | Sequence | Either | Repeat | Group

ANY_CHAR = Chars(frozenset(), negated=True)


def size(node: Node) -> int:
    """Return how many positions `node` takes once repeats are written out."""
    match node:
        case Chars():
            return 1
        case Sequence(items=parts):
            return sum(map(size, parts))
        # What is empty counts too: writing it out a million times takes its time and memory.
        case Either(branches=parts):
            return sum(max(1, size(part)) for part in parts)
        case Group(item=item):
            return max(1, size(item))
        case Repeat(item=item, least=least, most=most):
            return max(1, size(item)) * max(1, least if most is None else most)


class Parser:
    """Recursive descent over the text between `^` and `$`, where they stand.

    Attributes:
        groups: how many there are, once parsed.
    """

    def __init__(self, text: str, *, whole: bool = True) -> None:
        """`whole`: it is for the whole of a value, so that further `^` and `$` mean nothing."""
        self.groups = 0
        self._text = text
        self._whole = whole
        self._at = 0

    def parse(self) -> Node:
        node = self._either(0)
        if self._at < len(self._text):
            raise self._refusal("a ')' closes nothing")
        if size(node) > MAX_POSITIONS:
            raise self._refusal(f"it stands for more than {MAX_POSITIONS} characters")
        return node

    def _refusal(self, why: str) -> InvalidRequest:
        shown = f"^{self._text}$" if self._whole else self._text
        return InvalidRequest(f"the regular expression {shown} can't be used: {why}")

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

    def _either(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._refusal(f"brackets are nested deeper than {MAX_DEPTH}")
        branches = [self._sequence(depth)]
        while self._skip("|"):
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else Either(tuple(branches))

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        if depth == 0 and self._whole:
            self._skip("^")  # ^a$|^b$: the whole value is matched anyway
        while self._peek() not in ("", "|", ")"):
            if depth == 0 and self._whole and self._text.startswith("$|", self._at):
                self._at += 1
                break
            items.append(self._repeat(depth))
        return Sequence(tuple(items))

    def _repeat(self, depth: int) -> Node:
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
        lazy = self._skip("?")
        if self._peek() in tuple("*+?{"):
            raise self._refusal("a repetition follows a repetition")
        return Repeat(item, least, most, lazy)

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

    def _atom(self, depth: int) -> Node:
        char = self._take()
        if char == "(":
            counts = self._peek() != "?"
            if not counts and not self._skip("?:"):
                raise self._refusal("(?…) other than (?:…) is not supported")
            self.groups += counts
            number = self.groups
            node = self._either(depth + 1)
            if not self._skip(")"):
                raise self._refusal("a '(' is not closed")
            return Group(node, number) if counts else node
        if char == "[":
            return self._class()
        if char == ".":
            return ANY_CHAR
        if char == "\\":
            return self._escape()
        if char in "*+?{}]^$":
            raise self._refusal(f"{char!r} stands where it means nothing; write \\{char}")
        return Chars(frozenset(char))

    def _escape(self) -> Chars:
        char = self._take()
        if members := _CLASSES.get(char.lower()):
            return Chars(members, negated=char.isupper())
        if char in string.punctuation or char == " ":
            return Chars(frozenset(char))
        raise self._refusal(f"\\{char} is not supported")

    def _class(self) -> Chars:
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
        return Chars(frozenset(members), negated)

    def _class_member(self) -> frozenset[str]:
        char = self._take()
        if char != "\\":
            return frozenset(char)
        chars = self._escape()
        if chars.negated:
            raise self._refusal("\\D, \\W and \\S are not supported in […]")
        return chars.members
