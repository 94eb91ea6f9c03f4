"""Streams that end when what allowed them ends.

A request is judged when it begins; a download or a WebSocket may go on for hours after. Whoever
runs one holds it here under its session's id, and on every change of roles or users, and each few
seconds for the clock's sake, all held ones are judged again.
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

    def __contains__(self, key: object) -> bool:
        return key in self._cuts

    def held(self) -> list[K]:
        """Return what something runs for now."""
        return list(self._cuts)

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
        return sum(
            self.cut(key, reason) for key in self.held() if (reason := verdict(key)) is not None
        )

    def cut(self, key: K, reason: str) -> int:
        """Cut every stream held under `key`; return how many."""
        cuts = self._cuts.pop(key, set())
        for cut in cuts.copy():
            cut(reason)
        return len(cuts)
