"""Icons of applications: fetched by an agent when auth asks, shown to who may open the application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import Rule
from tport.engine.types.icon import Icon


class IconAPI(Protocol):
    async def tell_icon(self, *, app: str, icon: bytes, answered: bool) -> None:
        """Tell what was fetched; of the agent that was asked.

        Args:
            icon: the picture; empty: there is none.
            answered: whether the application gave any answer.

        Raises:
            NotFound: nobody waits for it.
            InvalidRequest: it is no picture that may be served.
        """
        ...

    async def own_app_icon(self, *, app: str) -> Icon:
        """Return the icon of an application that the person who is signed in may open.

        Raises:
            NotFound: none is known, or they may not open it, or there is no such application.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "tell_icon": frozenset({"agent"}),
    "own_app_icon": frozenset(),  # only people, through a proxy
}

RULES: Final[Mapping[str, Rule]] = {"own_app_icon": None}
