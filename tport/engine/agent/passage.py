"""One request from its tunnel stream to the application, and the answer back; nothing buffered."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from tport.engine.agent.health import as_sentences
from tport.engine.agent.rewrite import Redirect, Rewriter
from tport.engine.agent.upstream import TargetDenied, Upstream, close
from tport.engine.agent.upstream_tls import CORRECT_URI, WRONG_SCHEME
from tport.engine.api.events import EventQueue
from tport.engine.errors import ConnectionProblem, InvalidRequest, RemoteProtocolError
from tport.engine.net.flow import Silent, relay
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.net.moments import MOMENT
from tport.engine.net.mux_stream import MuxStream
from tport.engine.net.tcp import Prompt
from tport.engine.proto.fields import Lines, forwardable
from tport.engine.proto.framing import CHUNKED, NO_BODY, of_length
from tport.engine.proto.head import SAFE, Block
from tport.engine.proto.head import ResponseHead as HttpHead
from tport.engine.proto.sieve import write_lines
from tport.engine.proto.tunnel import (
    SPARE,
    Accepted,
    NoAnswer,
    NoAnswerKind,
    RequestHead,
    ResponseHead,
    pack,
)
from tport.engine.types.app import App
from tport.engine.types.session import SessionCredential

logger = logging.getLogger(__name__)

# s after which the proxy is told that the application is still waited for; it gives up a silent
# agent after 90.
PULSE: Final = 30.0
MAX_NOTES: Final = 4  # ways in which one head is told: to an address each, and in one of some KiB


Over = Callable[["Passage", bool], None]  # what a passage without a task came to: see `take`


class _Slow(Exception):
    """The application took longer than it may."""


class Offered:
    """One application that this agent offers: its definition and what serves it."""

    def __init__(self, app: App, upstream: Upstream, rewriter: Rewriter) -> None:
        self.app = app
        self.upstream = upstream
        self.rewriter = rewriter
        self.labels = dict(app.labels)  # with the dynamic ones, as they are now


class Passage:
    """One request. Whoever runs `carry` cuts it by cancelling, and resets the stream after it.

    The stream has then ended cleanly if the answer is whole. `take` begins without a task, and
    where the answer comes whole and soon, ends without one; else `carry` goes on from there.
    """

    def __init__(
        self,
        stream: MuxStream,
        offered: Offered,
        credential: SessionCredential,
        head: RequestHead,
        rest: bytes,
        events: EventQueue,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """
        Args:
            rest: what of the body came with the head.
            now: trio's time.
        """
        self.stream = stream
        self._offered = offered
        self._credential = credential
        self.head = head
        self._rest = rest
        self._events = events
        self._answering = False  # a head has been sent: too late for NoAnswer
        self._give_up_at = math.inf  # on the wait for a head
        self._now = now
        self._began = now()
        # What `take` has come to.
        self._begun: tuple[ClientConnection, Prompt] | None = None  # by which it was sent
        self._answered: HttpHead | None = None
        self._here = b""  # of the answer's body
        self._failed: Exception | None = None
        self._over: Over = _nothing

    # --- Without a task ------------------------------------------------------------------------

    def take(self, over: Over) -> bool:
        """Ask the application by a kept connection, if nothing of that takes waiting.

        Only what may be asked again: a kept connection can be dying, and nobody has told yet.

        Args:
            over: called once, with this: with True when all is over, and the stream too; with False when
                the rest takes waiting, and a task is to `carry` it.

        Returns:
            False: nothing was done.
        """
        head, upstream = self.head, self._offered.upstream
        limit = self._offered.app.timeouts.response_head
        if head.length != 0 or head.upgrade or head.method not in SAFE or 0 < limit < MOMENT:
            return False
        connection = upstream.take_nowait(self._began)
        prompt = connection.prompt if connection is not None else None
        if connection is None or prompt is None:
            return False
        try:
            target = self._offered.rewriter.target_for(head.target)
            if isinstance(target, Redirect):
                if not upstream.keep(connection, self._began):
                    prompt.close()
                return False
            if limit:
                self._progress()
            sent = connection.ask_nowait(head.method, target, self._rewritten())
        except Exception:  # whatever it is: `carry` comes to it again, and tells
            prompt.close()
            return False
        self._begun, self._over = (connection, prompt), over
        prompt.on_arrival = partial(self._arrived, connection, prompt)
        self.stream.on_arrival = partial(self._stirred, prompt)
        if not sent:
            self.late()
        return True

    def late(self) -> None:
        """Let a task carry the rest."""
        self._listen_no_more()
        self._end(False)

    def _end(self, whole: bool) -> None:
        over, self._over = self._over, _nothing
        over(self, whole)

    def forsake(self) -> None:
        """Ask the application no more, for nobody will `carry` this; nothing once somebody does."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[1].close()

    def _listen_no_more(self) -> None:
        assert self._begun is not None, "nothing was begun"
        self._begun[1].on_arrival = None
        self.stream.on_arrival = None

    def _stirred(self, prompt: Prompt) -> None:
        """The proxy said something: nothing matters but that it wants no answer any more."""
        if self.stream.is_cut:
            self._abandon(prompt)

    def _abandon(self, prompt: Prompt) -> None:
        self._listen_no_more()
        prompt.close()
        self.stream.reset()
        self._end(True)

    def _arrived(self, connection: ClientConnection, prompt: Prompt) -> None:
        """Pass the answer on if it is whole; if it has begun, let a task go on with it."""
        try:
            whole = self._pass_on(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._abandon(prompt)  # the proxy wants no answer any more
            return
        except Exception as error:  # whatever it is: `carry` tells
            self._failed = error
            whole = False
        if whole:
            self._listen_no_more()
            if not self._offered.upstream.keep(connection, self._now()):
                prompt.close()
            self.stream.close()
            self._end(True)
        elif self._failed or connection.answer_begun or prompt.may_have_come:
            self.late()

    def _pass_on(self, connection: ClientConnection) -> bool:
        """Pass the answer on if all of it is here, and there is room for it in the tunnel."""
        if (head := connection.head_nowait()) is None:
            return False
        self._answered = head
        if head.status == 400 and not self._offered.upstream.health.has_answered:
            return False  # it may want to be spoken to in TLS
        self._here = connection.body_here()
        if not connection.body_done:
            return False
        if not self.stream.send_last_nowait(self._told(head) + self._here):
            return False
        self._offered.upstream.health.answered(head.status, self._now())
        return True

    # --- By a task -----------------------------------------------------------------------------

    async def carry(self) -> None:
        """Carry the request and its answer; say on the stream why there is none, if so."""
        try:
            problem = await self._carry()
        except* UpstreamGone as gone:
            problem = await self._broken(str(gone.exceptions[0]))
        except* InvalidRequest as bad:
            problem = NoAnswer(kind="refused", hop="agent", cause=str(bad.exceptions[0]))
        except* RemoteProtocolError as nonsense:
            problem = await self._broken(
                f"the application's answer makes no sense: {nonsense.exceptions[0]}"
            )
        except* _Slow as slow:
            problem = self._unanswered("timeout", str(slow.exceptions[0]))
        if problem is not None:
            if self._answering:
                self._say(logging.WARNING, "an answer was cut short", problem)
                return  # cut, so that nobody takes what was sent for the whole
            self._say(logging.INFO, "no answer", problem)
            await self.stream.send_all(pack(problem))
        # Clean even where the request's end, or more of its body, is still on its way: a reset
        # would drop what is queued of the answer.
        await self.stream.aclose()

    def _say(self, level: int, what: str, problem: NoAnswer) -> None:
        logger.log(
            level,
            "%s: %s: %s",
            *(self.head.app, what, problem.cause),
            extra={"request_id": self.head.request_id},
        )

    def _unanswered(self, kind: NoAnswerKind, cause: str, hint: str = "") -> NoAnswer:
        self._offered.upstream.health.unanswered(cause, hint, trio.current_time())
        return self._no_answer(kind, cause, hint)

    def _no_answer(self, kind: NoAnswerKind, cause: str, hint: str = "") -> NoAnswer:
        since = self._offered.upstream.health.silent_since
        return NoAnswer(
            kind=kind,
            hop="app",
            cause=cause,
            since=since.isoformat() if since else "",
            advice=as_sentences(hint),
            waited=trio.current_time() - self._began,
        )

    async def _broken(self, cause: str) -> NoAnswer:
        if not self._answering and await self._offered.upstream.expects_tls():
            return self._unanswered(
                "unreachable", f"{self._offered.app.uri}: {WRONG_SCHEME}", CORRECT_URI
            )
        return self._unanswered("broken", cause)

    # --- Up -----------------------------------------------------------------------------------

    async def _carry(self) -> NoAnswer | None:
        head, rewriter = self.head, self._offered.rewriter
        try:
            target = rewriter.target_for(head.target)
        except InvalidRequest as bad:
            return NoAnswer(kind="refused", hop="agent", cause=str(bad))
        if isinstance(target, Redirect):
            await self._redirect(target)
            return None
        begun, self._begun = self._begun, None
        connection = begun[0] if begun else await self._offered.upstream.take()
        kept = connection is not None
        try:
            connection = connection or await self._offered.upstream.connect()
            try:
                if begun is None:
                    await self._ask(connection, target)
                else:
                    await self._go_on(*begun)
            except UpstreamGone:
                repeatable = head.method in SAFE and head.length == 0 and not self._answering
                if not kept or connection.answer_begun or not repeatable:
                    raise
                # It had been dying while it was kept: the application never saw the request.
                await close(connection)
                connection = await self._offered.upstream.connect()
                await self._ask(connection, target)
        except ConnectionProblem as problem:
            if isinstance(problem, TargetDenied):
                self._events.put(
                    "app.dial.denied",
                    app_name=head.app,
                    user=self._credential.user,
                    error=str(problem),
                )
            cause = self._offered.upstream.why(problem)
            return self._no_answer("unreachable", cause, problem.hint)
        finally:
            if connection is not None:
                await self._offered.upstream.put(connection)  # noqa: ASYNC102 - closes at once, or keeps
        return None

    async def _ask(self, connection: ClientConnection, target: bytes) -> None:
        """Send the request; receive the answer, at the same time where there is a body."""
        head, headers = self.head, self._rewritten()
        framing = (
            NO_BODY
            if head.length == 0
            else CHUNKED
            if head.length is None
            else of_length(head.length)
        )
        self._progress()
        try:
            await connection.send_head(head.method, target, headers, framing, upgrade=head.upgrade)
        except ValueError as bad:  # no honest proxy asks for it
            raise InvalidRequest(f"it can't be sent: {bad}") from None
        if head.length is None or head.length > SPARE:
            await self.stream.send_all(pack(Accepted()))
        if head.length == 0:
            await self._answer(connection)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload, connection)
            await self._answer(connection)
            nursery.cancel_scope.cancel()

    def _rewritten(self) -> Lines:
        """Return the headers for the application.

        Raises:
            InvalidRequest: they can't be sent.
        """
        head = self.head
        lines, skipped = self._offered.rewriter.request(
            head.headers, self._credential, remote=head.remote, public=head.public
        )
        for reason in skipped:
            self._events.put(
                "header.rewrite.skipped",
                app_name=head.app,
                user=self._credential.user,
                error=reason,
            )
        return lines

    async def _go_on(self, connection: ClientConnection, prompt: Prompt) -> None:
        """Receive the answer to what `take` sent."""
        if self._failed is not None:
            raise self._failed
        try:
            await prompt.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it may have answered early nevertheless; who receives finds out
        await self._answer(connection)

    async def _upload(self, connection: ClientConnection) -> None:
        try:
            await connection.send_body(self._rest)
            self._progress()
            await connection.send_body_from(self.stream, lambda _: self._progress())
            await connection.end_body()
            self._progress()
        except UpstreamGone:
            pass  # it may have answered early nevertheless; who receives finds out

    def _progress(self) -> None:
        if limit := self._offered.app.timeouts.response_head:
            self._give_up_at = trio.current_time() + limit

    # --- Down ----------------------------------------------------------------------------------

    async def _redirect(self, target: Redirect) -> None:
        await self._send_head(302, b"Found", write_lines([(b"location", target.location)]), 0)

    async def _send_head(
        self, status: int, reason: bytes, headers: Lines, length: int | None
    ) -> None:
        final = status >= 200 or status == 101
        self._answering = self._answering or final
        await self.stream.send_all(
            pack(ResponseHead(status=status, reason=reason, headers=headers, length=length))
        )

    async def _answer(self, connection: ClientConnection) -> None:
        head = await self._final_head(connection)
        self._offered.upstream.health.answered(head.status, trio.current_time())
        if head.status == 400 and await self._offered.upstream.expects_tls():
            raise UpstreamGone(WRONG_SCHEME)
        if head.status == 101:
            await self._send_head(101, head.reason, self._headers(head), 0)
            await self._switch(connection)
            return
        self._answering = True
        data = self._told(head) + self._here + connection.body_here()
        if connection.body_done:
            await self.stream.send_last(data)
            return
        await self.stream.send_all(data)
        idle = self._offered.app.timeouts.idle
        try:
            await connection.pass_body_on(self.stream, idle or math.inf)
        except Silent:
            raise _Slow(
                f"the application was silent for {idle:g} s in the middle of its answer"
            ) from None
        await self.stream.send_eof()

    def _told(self, head: HttpHead) -> bytes:
        """Return the message about a final head: the same for the same head and public name."""
        notes = head.headers.notes if isinstance(head.headers, Block) else {}
        key = self._offered.rewriter, self.head.public, head.status
        told: bytes | None = notes.get(key)
        if told is None:
            told = pack(
                ResponseHead(
                    status=head.status,
                    reason=head.reason,
                    headers=self._headers(head),
                    length=head.length,
                )
            )
            if len(notes) >= MAX_NOTES:
                notes.clear()
            notes[key] = told
        return told

    async def _final_head(self, connection: ClientConnection) -> HttpHead:
        """Return the last head, passing on those before it.

        Raises:
            _Slow: none came in time.
        """
        if self._answered is not None:
            return self._answered
        while True:
            head = None
            with trio.move_on_at(min(self._give_up_at, trio.current_time() + PULSE)):
                head = await connection.receive_head()  # cut short, it goes on where it was
            if head is None:
                if trio.current_time() >= self._give_up_at:
                    limit = self._offered.app.timeouts.response_head
                    raise _Slow(f"the application did not answer within {limit:g} s")
                await self.stream.send_all(pack(Accepted()))
            elif head.status < 200 and head.status != 101:
                await self._send_head(head.status, head.reason, self._headers(head), 0)
                self._progress()
            else:
                return head

    def _headers(self, head: HttpHead) -> Lines:
        passed = forwardable(head.headers, head.connection_tokens, odd_names=True)
        return self._offered.rewriter.response(head.status, passed, public=self.head.public)

    async def _switch(self, connection: ClientConnection) -> None:
        """Relay bytes both ways: the application has left HTTP."""
        application, leftover = connection.detach()
        if leftover:
            await self.stream.send_all(leftover)
        if self._rest:
            await application.send_all(self._rest)
        await relay(self.stream, application)


def _nothing(_: Passage, __: bool) -> None:
    """What is called where nobody wants to know."""
