"""Streams that end when what allowed them ends.

A request is judged when it begins; a download or a WebSocket may go on for hours after. Whoever
runs one holds it here under its session's id, and on every change of roles, users or sessions,
and each few seconds for the clock's sake, all held ones are judged again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K")

Cut = Callable[[str], None]  # called once at most, with the reason; must not block or raise


class LiveStreams(Generic[K]):
    """What runs now, by what it was judged by. No two judgements of one key in one round."""

    def __init__(self) -> None:
        self._cuts: dict[K, set[Cut]] = {}

    def __len__(self) -> int:
        return sum(len(cuts) for cuts in self._cuts.values())

    @contextmanager
    def hold(self, key: K, cut: Cut) -> Iterator[None]:
        """Keep a stream under `key` while the block runs; `cut` ends it early."""
        cuts = self._cuts.setdefault(key, set())
        cuts.add(cut)
        try:
            yield
        finally:
            cuts.discard(cut)
            if not cuts and self._cuts.get(key) is cuts:
                del self._cuts[key]

    def judge(self, verdict: Callable[[K], str | None]) -> int:
        """Cut every stream whose key `verdict` gives a reason for; return how many."""
        cut_count = 0
        for key in list(self._cuts):
            reason = verdict(key)
            if reason is not None:
                for cut in self._cuts.pop(key, set()).copy():
                    cut(reason)
                    cut_count += 1
        return cut_count
