"""Two people at one record: who saves later is told who was first, and overwrites nothing unseen."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tport.engine.auth.cluster import Cluster
from tport.engine.errors import CompareFailed, TportError
from tport.engine.types.event_query import EventQuery

LOOK_BACK: Final = timedelta(days=7)  # as far as the audit log is asked who it was
LOOK_AT: Final = 1000  # events


async def check_revision(
    cluster: Cluster, *, wanted: int, found: int, what: str, name: str, types: tuple[str, ...]
) -> None:
    """Return when a record is as its reader saw it, or they don't mind.

    Args:
        wanted: the revision they saw; 0: they don't mind.
        what: "user", for the message.
        types: of the events that tell of a change of such a record.

    Raises:
        CompareFailed: it was changed meanwhile, and by whom if the audit log knows.
    """
    if wanted in (0, found):
        return
    by = await _changed_by(cluster, name, types)
    raise CompareFailed(
        f"{what} {name!r} was changed meanwhile{f' by {by}' if by else ''}, so nothing was saved",
        hint="look at it as it is now, and save again if you still mean it",
    )


async def _changed_by(cluster: Cluster, name: str, types: tuple[str, ...]) -> str:
    query = EventQuery(types=types, since=cluster.clock() - LOOK_BACK)
    try:
        found = await cluster.audit.search(query, cursor="", limit=LOOK_AT)
    except TportError:  # the log decides nothing here
        return ""
    changes = (event for event in found.events if event.get("name") == name)
    return next((str(event.get("user", "")) for event in changes), "")
