"""How many requests each session has under way: none may take all that tunnels carry. Pure."""

from __future__ import annotations

from tport.engine.defaults import SESSION_STREAMS


class Shares:
    """The requests that run, by session."""

    def __init__(self, most: int = SESSION_STREAMS) -> None:
        self._most = most
        self._run: dict[str, int] = {}

    def __len__(self) -> int:
        """How many sessions have a request under way."""
        return len(self._run)

    def enter(self, session: str) -> bool:
        """Count one more; False: it has as many as it may, and nothing was done."""
        run = self._run.get(session, 0)
        if run >= self._most:
            return False
        self._run[session] = run + 1
        return True

    def leave(self, session: str) -> None:
        """Count one less, that `enter` had counted."""
        if (run := self._run[session]) > 1:
            self._run[session] = run - 1
        else:
            del self._run[session]
