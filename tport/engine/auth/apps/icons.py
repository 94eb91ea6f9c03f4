"""Icons of applications: asked of their agents when people look at them, kept in memory, bounded.

Nobody waits for an icon: whoever looks first sees none, and has an agent asked for it. It is asked
once, then each day, when the application was away meanwhile, and sooner when it gave no answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import trio

from tport.engine.api.changes import IconAsked
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.machines.watch import Watches
from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.icon import Icon, icon_of

DAY: Final = 24 * 3600.0  # s after which an icon is asked for anew
RETRY: Final = 60.0  # s, where the application or its agent gave no answer
MAX_ASKED: Final = 16  # questions at a time; agents answer 4 at a time
ANSWERED: Final = 120.0  # s that an answer is waited for
MAX_TOTAL: Final = 16 * 1024 * 1024  # bytes of all pictures; those told first go first
MAX_APPS: Final = 4096  # of which is known whether they have one; a thousand is many


@dataclass(slots=True)
class _Known:
    """What is known of one application. `due`: when it is asked for again, on trio's clock."""

    icon: Icon | None = None
    due: float = -math.inf


@dataclass(slots=True)
class _Asked:
    """A question to one agent, and until when its answer counts."""

    host_id: str
    until: float


class Icons:
    def __init__(self, presence: Presence, watches: Watches) -> None:
        self._presence = presence
        self._watches = watches
        self._known: dict[str, _Known] = {}  # those told last stand last
        self._wanted: dict[str, None] = {}  # to be asked for, in this order
        self._asked: dict[str, _Asked] = {}
        self._total = 0  # bytes
        presence.on_change.append(self._note_who_is_away)

    @property
    def waiting(self) -> frozenset[str]:
        """The applications whose agents were asked and haven't told."""
        return frozenset(self._asked)

    def tag(self, app: str, *, answers: bool | None = None) -> str:
        """Return what names the icon of an application that is looked at; "": none is known.

        When it is due, an agent is asked for it; nobody waits for that.

        Args:
            answers: whether the application does now; None: not known. While it doesn't it isn't
                asked, and once it does again it is due.
        """
        known = self._known.get(app)
        if known is None:
            if len(self._known) >= MAX_APPS:
                self._forget(next(iter(self._known)))
            known = self._known[app] = _Known()
        if answers is False:
            known.due = -math.inf
        elif known.due <= trio.current_time():
            self._wanted[app] = None
        self._ask()
        return known.icon.tag if known.icon else ""

    def get(self, app: str) -> Icon:
        """Raises NotFound: none is known."""
        known = self._known.get(app)
        if known is None or known.icon is None:
            raise no_icon()
        return known.icon

    def told(self, app: str, body: bytes, *, answered: bool, by: str) -> None:
        """Take what an agent fetched; see `AuthAPI.tell_icon`."""
        asked = self._asked.get(app)
        if asked is None or asked.host_id != by or asked.until <= trio.current_time():
            raise NotFound("nobody asked for this icon")
        del self._asked[app]
        icon = icon_of(body)
        if answered and app in self._known:  # else what is known of it stays
            self._keep(app, icon)
        self._ask()
        if body and icon is None:
            raise InvalidRequest("this is no picture that may be served")

    def _keep(self, app: str, icon: Icon | None) -> None:
        self._forget(app)
        self._known[app] = _Known(icon, trio.current_time() + DAY)
        self._total += len(icon.body) if icon else 0
        for known in self._known.values():
            if self._total <= MAX_TOTAL:
                break
            self._total -= len(known.icon.body) if known.icon else 0
            known.icon = None  # until it is due again: a picture more isn't worth asking in circles

    def _forget(self, app: str) -> None:
        known = self._known.pop(app)
        self._total -= len(known.icon.body) if known.icon else 0

    def _ask(self) -> None:
        """Ask for what is wanted, as far as there is room."""
        now = trio.current_time()
        self._asked = {app: asked for app, asked in self._asked.items() if now < asked.until}
        while self._wanted and len(self._asked) < MAX_ASKED:
            app = next(iter(self._wanted))
            del self._wanted[app]
            if app in self._asked or app not in self._known:
                continue
            self._known[app].due = now + RETRY
            for server in self._presence.servers:
                if server.app.name != app or server.refused:
                    continue
                if self._watches.ask(server.host_id, IconAsked(app=app)):
                    self._asked[app] = _Asked(server.host_id, now + ANSWERED)
                    break

    def _note_who_is_away(self) -> None:
        """Have the icons of those that are away asked for when they are there again."""
        here = {server.app.name for server in self._presence.servers if not server.refused}
        for app, known in self._known.items():
            if app not in here:
                known.due = -math.inf


def no_icon() -> NotFound:
    """Say the same of an application without an icon, one of others, and one that isn't."""
    return NotFound("no such icon")
