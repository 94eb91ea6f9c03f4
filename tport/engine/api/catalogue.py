"""What pages ask about applications: how each is offered, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol

import msgspec

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.app import AppServer


class AppInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An application as it stands.

    Attributes:
        address: host[:port] at which people reach it.
        up: an agent offers it now, and the offer counts.
        since: since when it is up or away; None: not known.
        servers: its offers that count; when it is away, as they were last, if that is known.
        refused: its offers that don't count.
    """

    name: str
    address: str
    up: bool
    since: datetime | None
    servers: tuple[AppServer, ...] = ()
    refused: tuple[AppServer, ...] = ()


class CatalogueAPI(Protocol):
    async def list_apps(self) -> tuple[AppInfo, ...]:
        """Return every application that is offered, refused, or was offered last; by name."""
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "list_apps": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "list_apps": ("app_server", "list"),
}
