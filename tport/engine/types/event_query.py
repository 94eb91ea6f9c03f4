"""Questions to what auth writes down: which events, of which log; and a page of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

LogName = Literal["audit", "requests"]


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are wanted; what is empty does not count.

    Attributes:
        log: `audit`: what happened; `requests`: each request that went to an application.
        types: values of `event`.
        user, app: of `user` and `app_name`.
        text: words that all stand somewhere in the values, upper or lower case.
        since: aware; the first moment that counts.
        until: aware; the first that counts no more.
    """

    log: LogName = "audit"
    types: tuple[str, ...] = ()
    user: str = ""
    app: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, and where to go on; there may be more though this page has none.

    Attributes:
        cursor: given back, it continues where this page ended; "": there are no more.
    """

    events: tuple[Mapping[str, Any], ...]
    cursor: str
