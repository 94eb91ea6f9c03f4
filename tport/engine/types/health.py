"""Whether an application answers the agents that offer it, and since when."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

MAX_WORDS: Final = 300  # characters of a cause, and of an advice: a thousand fit into one call


class AppHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent found of one application that it offers.

    Attributes:
        up: it takes connections, as far as the last of them and the last requests tell.
        since: when that began.
        cause: why it failed the last time, while this agent runs; a sentence without its full
            stop, in the words that people whose request fails are told. "": it never did.
        advice: what to do about that, in sentences.
        failed: when it failed the last time; while it is down, when it was found so, or with
            this cause.
    """

    up: bool
    since: datetime
    cause: str = ""
    advice: str = ""
    failed: datetime | None = None
