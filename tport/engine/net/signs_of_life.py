"""Whether a tunnel's peer lives, how far away it is, and when to ask. No I/O.

Both ends answer pings, and each ends the tunnel when it has heard nothing for a while. Of a tunnel that
rests one end's pings tell both: the agent asks, and the proxy, which has hundreds of them, only if
the agent is late. Where something is carried both ask: each has to know the distance.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

# s by which a look at the time must be late for us to be at fault, and that what waits to be read then
# gets: a process that was stopped, or starved, would take every peer for dead.
LATE: Final = 1.0
RTTS: Final = (
    6  # pings the round trip is the shortest of, half a minute: a full queue is no distance
)
# Intervals of silence after which one that leaves it to the peer asks all the same: of three that a
# peer may be silent two tries are left.
PATIENCE: Final = 1.5


class SignsOfLife:
    """All times are trio's.

    Attributes:
        rtt: the round trip in seconds, the shortest of the last pings; None before the first answer.
        due: when to look again.
    """

    def __init__(self, *, interval: float, deadline: float, asks_second: bool) -> None:
        """
        Args:
            interval: seconds between pings.
            deadline: seconds without a byte from the peer after which it is taken for dead.
            asks_second: whether it is left to the peer to ask while the tunnel rests.
        """
        self.rtt: float | None = None
        self.due = math.inf
        self._interval = interval
        self._deadline = deadline
        self._patience = PATIENCE * interval if asks_second else 0.0
        self._asked: tuple[int, float] | None = None  # the last ping's value and time
        self._rtts: deque[float] = deque(maxlen=RTTS)

    def look(self, now: float, heard: float, *, at_rest: bool) -> Literal["ask", "wait", "dead"]:
        """Return what to do now, and set `due`.

        Args:
            heard: when the last byte came from the peer.
            at_rest: nothing is carried.
        """
        dead = heard + self._deadline
        if now - self.due >= LATE:  # we did not run: what came meanwhile is yet to be read
            dead = max(dead, now + LATE)
        if now >= dead:
            return "dead"
        soon = heard + self._patience
        if at_rest and self.rtt is not None and now < soon:
            self.due = soon
            return "wait"
        self.due = min(now + self._interval, dead)
        return "ask"

    def asked(self, value: int, now: float) -> None:
        """A ping is on its way."""
        self._asked = value, now

    def answered(self, value: int, now: float) -> None:
        """A pong came. One that answers no ping of ours, or an old one, tells nothing."""
        if self._asked is not None and self._asked[0] == value:
            self._rtts.append(now - self._asked[1])
            self.rtt = min(self._rtts)
            self._asked = None
