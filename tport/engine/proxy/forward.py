"""One request through a tunnel: the head, the body up, the answer down, nothing buffered.

A request is sent again, to the next agent, only while nothing of it has reached the
application: the first SPARE bytes of a body are kept for that, and what follows waits until an
agent says that the application's connection stands. Nobody knows how far a request came whose
tunnel died before a byte of an answer: it is sent again, once, if it changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import trio

from tport.engine.api.live import LiveStreams
from tport.engine.defaults import ANSWER_DEADLINE
from tport.engine.errors import ConnectionProblem, LimitExceeded
from tport.engine.net.http1 import Exchange
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.head import SAFE
from tport.engine.proto.tunnel import (
    NoAnswer,
    RequestHead,
    pack,
)
from tport.engine.proxy.app_session import Credentials
from tport.engine.proxy.passage import LOST_UNHEARD, Begun, Body, Cut, Passage
from tport.engine.proxy.shares import Shares
from tport.engine.proxy.tunnels import Tunnel
from tport.engine.proxy.waiting import Waiting

logger = logging.getLogger(__name__)

# Why an agent has no answer, without that anything of the request reached the application.
UNTOUCHED: Final = frozenset({"unreachable", "busy", "stale", "unknown-app", "unknown-session"})


@dataclass(frozen=True)
class Unanswered:
    """Why a request got no answer.

    Attributes:
        agent: the hostname of the agent that was asked last; "": there was none to ask.
    """

    problem: NoAnswer
    agent: str


class Forwarder:
    """Carries requests of live sessions to agents."""

    def __init__(
        self, *, credentials: Credentials, live: LiveStreams[str], waiting: Waiting
    ) -> None:
        """
        Args:
            live: what runs now, by session id; the owner cuts it when a session ends.
            waiting: what runs now, too; the owner keeps it.
        """
        self._credentials = credentials
        self._live = live
        self._waiting = waiting
        self._shares = Shares()
        self._cuts: set[Cut] = set()  # of what a task carries now

    @property
    def websockets(self) -> int:
        """How many are open."""
        return sum(cut.is_websocket for cut in self._cuts)

    def close_websockets(self) -> None:
        """Tell each one's browser that it is to connect anew (1001): this process ends."""
        for cut in list(self._cuts):
            if cut.is_websocket:
                cut.go_away()

    def begin(self, exchange: Exchange, head: RequestHead, tunnel: Tunnel) -> Begun | None:
        """Send a request without a body on its way, if that takes no waiting.

        None: nothing was done.

        Args:
            tunnel: its agent holds the session's credential.
        """
        if not self._shares.enter(head.session):
            return None
        try:
            stream = tunnel.mux.open_stream()
        except (ConnectionProblem, LimitExceeded):
            self._shares.leave(head.session)
            return None
        begun = Begun(exchange, stream, tunnel, partial(self._shares.leave, head.session))
        try:
            if stream.send_last_nowait(pack(head)):
                return begun
        except trio.BrokenResourceError:
            pass
        begun.end()
        return None

    async def forward(
        self,
        exchange: Exchange,
        head: RequestHead,
        candidates: Callable[[], Sequence[Tunnel]],
        begun: Begun | None = None,
    ) -> Unanswered | None:
        """Send the request through the first tunnel that can; return why none could.

        None: the answer was sent, or was cut short in a way the client can't take for whole.

        Args:
            head: without a credential.
            candidates: the tunnels that may take it now, the preferred one first. Asked again
                before each further try: while one is lost, its replacement may have come.
            begun: the request is on its way, and gets its answer by that first.

        Raises:
            NotSignedIn, AccessDenied: auth, asked for the credential, says no.
            Unavailable: auth can't be asked.
        """
        body = Body(exchange)
        tried: list[Tunnel] = []
        repeated = False
        cause = f"no agent that offers {head.app} is connected"
        outcome = Unanswered(NoAnswer(kind="unreachable", hop="agent", cause=cause), "")
        while (tunnel := begun.tunnel if begun else _untried(candidates(), tried)) is not None:
            tried.append(tunnel)
            problem = await self._try(exchange, head, body, tunnel, begun)
            begun = None
            if problem is None:
                return None
            outcome = Unanswered(problem, tunnel.hostname or tunnel.agent_id)
            if body.committed:
                break
            if problem.kind in UNTOUCHED:
                continue
            harmless = head.method in SAFE and head.length == 0
            if problem is not LOST_UNHEARD or not harmless or repeated:
                break
            repeated = True
        return outcome

    async def _try(
        self,
        exchange: Exchange,
        head: RequestHead,
        body: Body,
        tunnel: Tunnel,
        begun: Begun | None,
    ) -> NoAnswer | None:
        """Send it through one tunnel.

        An agent that refuses a credential may know of a change of its user before this proxy
        does: then auth is asked for one that counts now, or says that there is none.
        """
        problem = await self._offer(exchange, head, body, tunnel, begun)
        if _is_unknown(problem) and not body.committed:
            self._credentials.forget(head.session)
            problem = await self._offer(exchange, head, body, tunnel, None)
        return problem

    async def _offer(
        self,
        exchange: Exchange,
        head: RequestHead,
        body: Body,
        tunnel: Tunnel,
        begun: Begun | None,
    ) -> NoAnswer | None:
        """Send it, with the credential where the agent lacks it."""
        credential = await self._credentials.of(head.session)
        if begun is not None:
            known, problem = True, await self._carry(exchange, head, body, begun.stream, begun)
        else:
            known = tunnel.has_credential(head.session, credential)
            problem = await self._send(exchange, head, body, tunnel, "" if known else credential)
        if known and _is_unknown(problem) and not body.committed:
            problem = await self._send(exchange, head, body, tunnel, credential)
        return problem

    async def _send(
        self, exchange: Exchange, head: RequestHead, body: Body, tunnel: Tunnel, credential: str
    ) -> NoAnswer | None:
        if not self._shares.enter(head.session):
            cause = "your session has as many requests under way as one may have"
            return NoAnswer(kind="session-busy", hop="proxy", cause=cause)
        try:
            try:
                stream = tunnel.mux.open_stream()
            except ConnectionProblem as gone:
                return NoAnswer(kind="unreachable", hop="agent", cause=str(gone))
            except LimitExceeded as full:
                return NoAnswer(kind="busy", hop="agent", cause=str(full))
            if credential:
                head = msgspec.structs.replace(head, credential=credential)
                tunnel.told(head.session, credential)
            return await self._carry(exchange, head, body, stream, None)
        finally:
            self._shares.leave(head.session)

    async def _carry(
        self,
        exchange: Exchange,
        head: RequestHead,
        body: Body,
        stream: MuxStream,
        begun: Begun | None,
    ) -> NoAnswer | None:
        """Carry the request, and its answer; the stream is over by that."""
        cut = Cut()
        passage = Passage(exchange, stream, body, cut, begun)
        self._waiting.add(passage)
        self._cuts.add(cut)
        try:
            with self._live.hold(head.session, cut), cut.scope:
                return await passage.carry(head)
            if passage.is_given_up:
                cause = f"the agent gave no answer for {ANSWER_DEADLINE:.0f} s"
                return NoAnswer(kind="timeout", hop="agent", cause=cause)
            exchange.abort()  # cut: the client must not take what it has for the whole
            return None
        finally:
            self._cuts.discard(cut)
            await self._waiting.remove(passage)  # noqa: ASYNC102 - shielded, and ends at once
            if begun is not None:
                begun.end()
            stream.reset()  # does nothing after a clean end in both directions


def _is_unknown(problem: NoAnswer | None) -> bool:
    return problem is not None and problem.kind == "unknown-session"


def _untried(candidates: Sequence[Tunnel], tried: Sequence[Tunnel]) -> Tunnel | None:
    return next((tunnel for tunnel in candidates if tunnel not in tried), None)
