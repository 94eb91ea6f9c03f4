"""The same failure over and over: the first times are written down, the rest is counted, each minute.

Who guesses passwords from a thousand addresses, or knocks with a bad certificate all day, leaves a
trace of it, and does not fill the disk. What was done, and what happens but once, is never left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from tport.engine.defaults import FAILURES_WRITTEN, SAME_FAILURES_WRITTEN
from tport.engine.types.event import CODES, Event, event

# What others can make happen as often as they like, and what came to nothing.
REPEATED: Final = frozenset(
    CODES[type_]
    for type_ in (
        "user.login.failed",
        "user.login.sso.failed",
        "mfa.add.failed",
        "instance.join.failed",
        "instance.join.asked",
        "app.session.start.failed",
        "auth.failed",
        "app.access.denied",
        "app.refused",
        "app.dial.denied",
        "header.rewrite.skipped",
        "tunnel.protocol_error",
        "acme.order.failed",  # of all names together: agents say which there are
    )
)
MAX_KEYS: Final = 10_000  # told apart in a minute; of further ones only the sum counts


class _Key(NamedTuple):
    """What makes two failures the same: what it was, and who did it, or from where.

    `server_id`: the agent's whose it is, where nothing says that.
    """

    code: str
    user: str = ""
    remote: str = ""
    server_id: str = ""


class Sampling:
    """Decides which events are written in this minute, and counts the others."""

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()  # by code
        self._same: Counter[_Key] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()  # by type and code
        self._most: Counter[_Key] = Counter()

    def admits(self, event: Event) -> bool:
        """Tell whether to write an event down; if not it has been counted."""
        if event.code not in REPEATED:
            return True
        key = _key(event)
        is_known = key in self._same or len(self._same) < MAX_KEYS
        if is_known:
            self._same[key] += 1
        if (
            self._written[event.code] < FAILURES_WRITTEN
            and self._same[key] <= SAME_FAILURES_WRITTEN
        ):
            self._written[event.code] += 1
            return True
        self._left_out[event.type, event.code] += 1
        if is_known:
            self._most[key] += 1
        return False

    def next_minute(self) -> Sequence[Event]:
        """Begin a new minute; return what to write of those that were left out in the last one."""
        told = []
        for (type_, code), count in self._left_out.items():
            same = [(key, number) for key, number in self._most.items() if key.code == code]
            most = max(same, key=lambda pair: pair[1])[0] if same else _Key(code)
            whose = most._asdict()
            del whose["code"]
            told.append(
                event(
                    "audit.sampled",
                    event=type_,
                    event_code=code,
                    count=count,
                    **{name: value for name, value in whose.items() if value},
                )
            )
        self._written, self._same = Counter(), Counter()
        self._left_out, self._most = Counter(), Counter()
        return told


def _key(event: Event) -> _Key:
    fields = event.fields
    user = str(fields.get("user") or "")[:128]
    remote = str(fields.get("remote") or fields.get("addr.remote") or "")[:64]
    agent = "" if user or remote else str(fields.get("server_id") or "")[:64]
    return _Key(event.code, user, remote, agent)
