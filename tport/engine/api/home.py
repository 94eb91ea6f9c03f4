"""What a person who is signed in asks about themselves, for the pages around everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import Rule


class HomeAPI(Protocol):
    async def own_rights(self) -> tuple[tuple[str, str], ...]:
        """Return what of the tables RULES this person's roles allow now: kind and verb, sorted.

        What a page offers follows from it; what is done is judged again by each call.
        """
        ...

    async def check_right(self, *, kind: str, verb: str) -> None:
        """Return when this person's roles allow `verb` on `kind` now.

        Raises:
            AccessDenied: they don't; it is written down, as for any call.
        """
        ...


# For whom somebody acts decides what the answer is: nobody asks for themselves.
CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "own_rights": frozenset(),
    "check_right": frozenset(),
}

RULES: Final[Mapping[str, Rule]] = {
    "own_rights": None,
    "check_right": None,  # it is the rule itself
}
