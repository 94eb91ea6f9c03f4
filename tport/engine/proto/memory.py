"""What was found out of bytes, by those bytes: bounded; the oldest goes first. Sans-IO.

For facts about bytes alone, which hold as often as they come. A flood of what comes but once costs its
finding out, as it would without a memory, and no room.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def keep_latest(known: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Put in what may change; where that is one more than `most`, the one goes that came longest ago."""
    if key not in known and len(known) >= most:
        known.popitem(last=False)
    known[key] = value


class Memory(dict[K, V], Generic[K, V]):
    """Look up as in any dictionary; put in by `keep`.

    Attributes:
        held: bytes of what it holds.
    """

    def __init__(self, *, count: int, size: int, longest: int) -> None:
        """
        Args:
            count, size: of what it holds, and its bytes, at most.
            longest: bytes beyond which something is not kept.
        """
        self._count = count
        self._size = size
        self._longest = longest
        self.held = 0
        self._order: deque[tuple[K, int]] = deque()  # with the bytes of each

    def keep(self, key: K, value: V, size: int) -> None:
        """Remember what was found out of `key`; both are of so many bytes together."""
        if size > self._longest or key in self:
            return
        while len(self) >= self._count or self.held + size > self._size:
            oldest, its = self._order.popleft()
            del self[oldest]
            self.held -= its
        self[key] = value
        self._order.append((key, size))
        self.held += size


class ByRule(Memory[bytes, V]):
    """What a rule says of names: looked up like in a dictionary that has all of them."""

    def __init__(self, rule: Callable[[bytes], V], *, count: int, longest: int) -> None:
        super().__init__(count=count, size=count * longest, longest=longest)
        self._rule = rule

    def __missing__(self, name: bytes) -> V:
        said = self._rule(name)
        self.keep(name, said, len(name))
        return said
