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
        answers: it answers an agent that offers it; None: not known, or it is away.
        since: since when that is so: it answers, or answers none of its agents, or is away; with
            `answers` not known, since when an agent offers it. None: not known.
        lacks_certificate: browsers are shown another host's: it can't be opened without a warning.
        servers: its offers that count; when it is away, as they were last, if that is known.
        refused: its offers that don't count.
    """

    name: str
    address: str
    up: bool
    since: datetime | None
    answers: bool | None = None
    lacks_certificate: bool = False
    servers: tuple[AppServer, ...] = ()
    refused: tuple[AppServer, ...] = ()


class OwnApp(msgspec.Struct, frozen=True, kw_only=True):
    """An application that a person may open, when an agent offers it.

    Attributes:
        address, up, answers, since, lacks_certificate: as in AppInfo.
        labels: of the offers that they may use.
        opened: when they opened it last; None: long ago, or never.
        icon: names the picture that `own_app_icon` returns now; "": none is known.
    """

    name: str
    address: str
    up: bool = True
    answers: bool | None = None
    since: datetime | None = None
    lacks_certificate: bool = False
    description: str = ""
    labels: Mapping[str, str] = {}
    favourite: bool = False
    opened: datetime | None = None
    icon: str = ""


class CatalogueAPI(Protocol):
    async def own_apps(self) -> tuple[OwnApp, ...]:
        """Return what the person who is signed in may open now, or could if its agent were there."""
        ...

    async def mark_favourite(self, *, app: str, favourite: bool) -> None:
        """Keep an application at hand for the person who is signed in, or no longer.

        Raises:
            LimitExceeded: they have very many.
        """
        ...

    async def list_apps(self) -> tuple[AppInfo, ...]:
        """Return every application that is offered, refused, or was offered last; by name."""
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "list_apps": ADMIN,
    "own_apps": frozenset(),  # only people, through a proxy
    "mark_favourite": frozenset(),
}

RULES: Final[Mapping[str, Rule]] = {
    "list_apps": ("app_server", "list"),
    "own_apps": None,
    "mark_favourite": None,
}
