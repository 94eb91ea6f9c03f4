"""Two people at one record: who saves later is told who was first, and overwrites nothing unseen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from tport.engine.auth.cluster import Cluster
from tport.engine.errors import CompareFailed, TportError
from tport.engine.types.event_query import EventQuery

LOOK_BACK: Final = timedelta(days=7)  # as far as the audit log is asked who it was
LOOK_AT: Final = 1000  # events

# The types of events that tell of a change of a record, with the fields that say of which and by
# whom; "": by nobody.
Changes = Mapping[str, tuple[str, str]]


async def check_revision(
    cluster: Cluster, *, wanted: int, found: int, what: str, name: str, changes: Changes
) -> None:
    """Return when a record is as its reader saw it, or they don't mind.

    Args:
        wanted: the revision they saw; 0: they don't mind.
        what: "user", for the message.
        changes: what the audit log says of such records.

    Raises:
        CompareFailed: it was changed meanwhile, and by whom if the audit log knows.
    """
    if wanted in (0, found):
        return
    by = await _changed_by(cluster, name, changes)
    raise CompareFailed(
        f"{what} {name!r} was changed meanwhile{f' by {by}' if by else ''}, so nothing was saved",
        hint="look at it as it is now, and save again if you still mean it",
    )


async def _changed_by(cluster: Cluster, name: str, changes: Changes) -> str:
    query = EventQuery(types=tuple(changes), since=cluster.clock() - LOOK_BACK)
    try:
        found = await cluster.audit.search(query, cursor="", limit=LOOK_AT)
    except TportError:  # the log decides nothing here
        return ""
    return next(
        (_who(event, changes) for event in found.events if _is_of(event, name, changes)), ""
    )


def _is_of(event: Mapping[str, Any], name: str, changes: Changes) -> bool:
    of, _ = changes[event["event"]]
    return event.get(of) == name and event.get("state") != "denied"  # a refusal changes nothing


def _who(event: Mapping[str, Any], changes: Changes) -> str:
    _, by = changes[event["event"]]
    return str(event.get(by, ""))
