"""Who may stay where there is room for so many connections: by address, and in all.

    a connection comes ──► take(address) ──► a Seat: a stranger's, until somebody shows who they are
                              │ too many           │ recognise()
                              ▼                    ▼
              the oldest that rests is closed     one of the known
              to make room; none rests: None

A connection rests while it shakes hands, sends its head, or is kept for a next request; a stranger's
also whenever its client is waited for, to send or to take something. So who opens connections to
hold them closes their own, those of strangers go before any other, and nobody who is known is cut
off in the middle of an answer.

A place costs little, a handshake much. So a stranger's seat has a turn as well, from which on it is due: an
address of which nobody was known lately has so many a second (`access.pace`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from tport.engine.access.limits import address_key
from tport.engine.access.pace import Pace
from tport.engine.defaults import LATELY, TURN_DEADLINE

LOOKED_AT: Final = 16  # seats that are asked whether they rest before a newcomer is turned away


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections there may be at a time.

    Attributes:
        connections: in all.
        per_address: of one address, strangers or not.
        strangers: in all, of those that have not shown who they are.
        strangers_per_address: of these, from one address, once they are older than `grace` s.
        new_per_address: a second, of one address that is not trusted; after `strangers_per_address` at once.
    """

    connections: int
    per_address: int
    strangers: int
    strangers_per_address: int
    grace: float = 0.0
    new_per_address: float = math.inf


class Seat:
    """A connection's place among the others.

    Attributes:
        since: when it was taken.
        turn: from when on it is worth a handshake.
        is_known: it is no stranger's.
        is_shown: somebody has shown on it who they are, for which its address is trusted.
        end_if_resting: ends the connection if it rests, and tells whether it did. It must not
            block or raise. Before it is set the connection counts as at work.
        on_left: called once the place is given up.
    """

    __slots__ = (
        "_seats",
        "address",
        "end_if_resting",
        "is_known",
        "is_shown",
        "is_taken",
        "on_left",
        "since",
        "turn",
    )

    def __init__(self, seats: Seats, address: str, since: float, turn: float) -> None:
        self._seats = seats
        self.address = address
        self.since = since
        self.turn = turn
        self.is_known = False
        self.is_shown = False
        self.is_taken = True
        self.end_if_resting: Callable[[], bool] = closed_by_nobody
        self.on_left: Callable[[], None] | None = None

    def recognise(self) -> None:
        """Note that somebody has shown who they are: this is no stranger's connection."""
        if not self.is_known and self.is_taken:
            self._seats.recognised(self)

    def hand_on(self) -> None:
        """Note that somebody else counts it among strangers from here on, who are no concern of ours."""
        if not self.is_known and self.is_taken:
            self._seats.recognised(self, is_shown=False)

    @property
    def is_paced(self) -> bool:
        """Whether it is a stranger's, from an address that is counted."""
        return not self.is_known and self.address != ""

    @property
    def is_due(self) -> bool:
        """Whether its turn has come, or who comes from its address is trusted by now."""
        return self._seats.is_due(self)

    def belongs_to(self, remote: str) -> bool:
        """Count it under another address, which is told late; False: that has its share already."""
        return self._seats.move(self, remote)

    def leave(self) -> None:
        """Give the place up; again does nothing."""
        if self.is_taken:
            self._seats.left(self)


def closed_by_nobody() -> bool:
    """The `end_if_resting` of a connection that is at work as long as it lasts."""
    return False


def closed_by(close: Callable[[], None]) -> Callable[[], bool]:
    """Return an `end_if_resting` for a connection that only waits: `close` ends it."""

    def end() -> bool:
        close()
        return True

    return end


class _Of:
    """The seats of one address; `shown`: on how many somebody has shown who they are."""

    __slots__ = ("known", "shown", "strangers")

    def __init__(self) -> None:
        self.strangers: dict[Seat, None] = {}
        self.known: dict[Seat, None] = {}
        self.shown = 0


class Seats:
    """The connections of one listener, or of several that share their room.

    Attributes:
        shed: what was turned away or ended for want of room, by what it was: `connections` that
            found none in all, `address`: none for theirs; `resting` ones that made room; `pace`: too
            many came before them from their address; `memory`: it was too tight for one more.
        is_tight: strangers come only where others go.
    """

    def __init__(
        self,
        room: Room,
        shed: Counter[str] | None = None,
        *,
        is_shared: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_shared`: whether many clients come from an address: it has no share of its own."""
        self._clock = clock
        self.shed = Counter[str]() if shed is None else shed
        self.is_tight = False
        self._room = room
        self._is_shared = is_shared
        self._strangers: dict[Seat, None] = {}  # the oldest first
        self._known: dict[Seat, None] = {}
        self._of: dict[str, _Of] = {}
        self._pace = Pace(
            rate=room.new_per_address,
            burst=room.strangers_per_address,
            most=TURN_DEADLINE,
            trust=LATELY,
        )

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    @property
    def strangers(self) -> int:
        return len(self._strangers)

    def take(self, remote: str) -> Seat | None:
        """Return a seat for a connection from `remote`; None: turn it away."""
        address = "" if self._is_shared(remote) else address_key(remote)
        now = self._clock()
        if (turn := self._turn(address, now)) is None:
            return None
        if address and not self._room_for(address):
            self.shed["address"] += 1
            return None
        if not self._room_in_all():
            self.shed["connections"] += 1
            return None
        if self.is_tight and not self._end_one(self._strangers):
            self.shed["memory"] += 1
            return None
        seat = Seat(self, address, now, turn)
        self._strangers[seat] = None
        self._enter(seat)
        return seat

    def make_room(self) -> bool:
        """End a connection that rests, a stranger's if there is one; tell whether there was."""
        return self._end_one(self._strangers) or self._end_one(self._known)

    def recognised(self, seat: Seat, *, is_shown: bool = True) -> None:
        """See `Seat.recognise`, and `Seat.hand_on`."""
        self._exit(seat)
        del self._strangers[seat]
        seat.is_known, seat.is_shown = True, is_shown
        self._known[seat] = None
        self._enter(seat)
        self._trust(seat)

    def is_due(self, seat: Seat) -> bool:
        """See `Seat.is_due`."""
        now = self._clock()
        return now >= seat.turn or self._is_trusted(seat.address, now)

    def move(self, seat: Seat, remote: str) -> bool:
        """See `Seat.belongs_to`."""
        address = "" if self._is_shared(remote) else address_key(remote)
        if address == seat.address or not seat.is_taken:
            return seat.is_taken
        if (turn := self._turn(address, self._clock())) is None:
            return False
        if address and not self._room_for(address):
            self.shed["address"] += 1
            return False
        self._exit(seat)
        seat.address, seat.turn = address, turn
        self._enter(seat)
        return True

    def left(self, seat: Seat) -> None:
        """See `Seat.leave`."""
        seat.is_taken = False
        seat.end_if_resting = closed_by_nobody  # it holds on to the connection
        del (self._known if seat.is_known else self._strangers)[seat]
        self._trust(seat)
        self._exit(seat)
        if seat.on_left is not None:
            seat.on_left()

    def _enter(self, seat: Seat) -> None:
        if seat.address:
            of = self._of.get(seat.address) or self._of.setdefault(seat.address, _Of())
            (of.known if seat.is_known else of.strangers)[seat] = None
            of.shown += seat.is_shown

    def _exit(self, seat: Seat) -> None:
        if seat.address:
            of = self._of[seat.address]
            del (of.known if seat.is_known else of.strangers)[seat]
            of.shown -= seat.is_shown
            if not of.known and not of.strangers:
                del self._of[seat.address]

    def _turn(self, address: str, now: float) -> float | None:
        """Return when it is the turn of one more from there; None: it would be too late."""
        if not address or self._is_trusted(address, now):
            return now
        turn = self._pace.turn(address, now)
        if turn < math.inf:
            return turn
        self.shed["pace"] += 1
        return None

    def _trust(self, seat: Seat) -> None:
        if seat.is_shown and seat.address:
            self._pace.trust(seat.address, self._clock())

    def _is_trusted(self, address: str, now: float) -> bool:
        of = self._of.get(address)
        return (of is not None and of.shown > 0) or self._pace.is_trusted(address, now)

    def _room_for(self, address: str) -> bool:
        of = self._of.get(address)
        if of is None:
            return True
        if len(of.strangers) >= self._room.strangers_per_address and self._are_old(of.strangers):
            return self._end_one(of.strangers)
        if len(of.strangers) + len(of.known) >= self._room.per_address:
            return self._end_one(of.strangers) or self._end_one(of.known)
        return True

    def _are_old(self, seats: dict[Seat, None]) -> bool:
        """Tell whether the oldest of these has had its time; else all have just come."""
        return self._clock() >= next(iter(seats)).since + self._room.grace

    def _room_in_all(self) -> bool:
        if len(self) >= self._room.connections:
            return self.make_room()
        return len(self._strangers) < self._room.strangers or self._end_one(self._strangers)

    def _end_one(self, seats: dict[Seat, None]) -> bool:
        """End one of the oldest of these that rest, of the address that has most of them.

        Those at work are looked at last from then on.
        """
        looked_at = list(islice(seats, LOOKED_AT))
        looked_at.sort(key=self._share, reverse=True)  # and those of one address stay in order
        for seat in looked_at:
            if seat.end_if_resting():
                seat.leave()
                self.shed["resting"] += 1
                return True
            del seats[seat]
            seats[seat] = None
        return False

    def _share(self, seat: Seat) -> int:
        """Return how many seats of its kind its address has."""
        of = self._of.get(seat.address)
        return 0 if of is None else len(of.known if seat.is_known else of.strangers)
