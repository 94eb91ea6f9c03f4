"""A request that came through a tunnel: who it is for, may they, now; then to the application.

The agent believes no proxy: it verifies auth's signature on the session itself, checks the roles
as they are now, and knows the application's address from its own configuration alone.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final, NoReturn

import trio

from tport.engine.access.locks import check_person
from tport.engine.access.rbac import check_app_access
from tport.engine.agent.passage import Offered, Passage
from tport.engine.api.cache import AuthCache
from tport.engine.api.changes import (
    Change,
    EpochChanged,
    LockChanged,
    LockDeleted,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
)
from tport.engine.api.events import EventQueue
from tport.engine.api.live import LiveStreams
from tport.engine.defaults import AUTH_GRACE, READ_SIZE, READY_SESSIONS
from tport.engine.errors import AccessDenied, NotSignedIn, RemoteProtocolError
from tport.engine.net.moments import Moments
from tport.engine.net.mux_stream import MuxStream
from tport.engine.pki.jwt import verify_session_credential
from tport.engine.proto.memory import keep_latest
from tport.engine.proto.tunnel import (
    MAX_REQUEST_MESSAGE,
    Inbox,
    NoAnswer,
    NoAnswerKind,
    RequestHead,
    pack,
    request_decoder,
)
from tport.engine.types.session import SessionCredential

logger = logging.getLogger(__name__)


HEAD_DEADLINE: Final = 10.0  # s for a request's head to arrive; the proxy sends it in one piece

Clock = Callable[[], datetime]


class AgentApps:
    """Answers the streams of every tunnel."""

    def __init__(
        self,
        *,
        offered: Mapping[str, Offered],
        cache: AuthCache,
        events: EventQueue,
        cluster: str,
        clock: Clock,
    ) -> None:
        self._offered = offered
        self._cache = cache
        self._events = events
        self._cluster = cluster
        self._clock = clock
        self._sessions: dict[str, SessionCredential] = {}
        self._now: Callable[[], float] = trio.current_time  # until `keep` finds a shorter way
        self._idle = trio.Event()  # set, and replaced, when the last request that runs ends
        self._running = 0
        self._live: LiveStreams[str] = LiveStreams()
        self._moments = Moments()
        # By session: what may be opened with which credential, by all that is known now.
        self._allowed: OrderedDict[str, tuple[SessionCredential, Offered]] = OrderedDict()

    async def keep(self) -> NoReturn:
        """Look after what is answered without a task, until cancelled."""
        self._now = trio.lowlevel.current_clock().current_time
        await self._moments.keep()

    @property
    def running(self) -> int:
        """How many requests run now."""
        return self._running

    async def wait_idle(self) -> None:
        """Wait until no request runs."""
        while self._running:
            await self._idle.wait()

    def take(self, stream: MuxStream, nursery: trio.Nursery) -> None:
        """Answer one stream: at once if nothing of it takes waiting, else by a task of `nursery`."""
        stream.on_arrival = None
        if stream.is_cut:  # with all that came of it, in one breath
            stream.reset()
            return
        self._running += 1
        came = stream.receive_nowait() or b""  # nearly always all of the head
        inbox = Inbox(came, limit=MAX_REQUEST_MESSAGE)
        try:
            head = inbox.take(request_decoder)
            passage = self._certain(stream, head) if head is not None else None
            if passage is None or not self._begin(passage, nursery):
                nursery.start_soon(self._serve, stream, inbox, head, None)
        except RemoteProtocolError as nonsense:
            logger.warning("a proxy sent nonsense: %s", nonsense)
            stream.reset()
            self._ended()
        except Exception:
            logger.exception("a request failed in the agent")
            stream.reset()
            self._ended()

    def _begin(self, passage: Passage, nursery: trio.Nursery) -> bool:
        self._moments.add(passage)
        if passage.take(partial(self._over, nursery)):
            return True
        self._moments.discard(passage)
        return False

    def _over(self, nursery: trio.Nursery, passage: Passage, whole: bool) -> None:
        self._moments.discard(passage)
        if whole:
            self._ended()
        else:
            nursery.start_soon(self._serve, passage.stream, Inbox(), passage.head, passage)

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()
            self._idle = trio.Event()

    async def _serve(
        self, stream: MuxStream, inbox: Inbox, head: RequestHead | None, begun: Passage | None
    ) -> None:
        """Answer one stream. What goes wrong in it stays in it; a bug is logged, never silent."""
        try:
            with trio.CancelScope() as scope:
                stream.on_cut = scope.cancel  # it may wait elsewhere when the client goes
                if not stream.is_cut:
                    await self._answer(stream, inbox, head, begun, scope)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the proxy cut it: there is nobody to answer
        except* RemoteProtocolError as errors:
            logger.warning("a proxy sent nonsense: %s", errors.exceptions[0])
        except* Exception:
            logger.exception("a request failed in the agent")
        finally:
            try:
                if begun is not None:
                    begun.forsake()
                stream.reset()  # does nothing after a clean end
            finally:
                self._ended()

    async def _answer(
        self,
        stream: MuxStream,
        inbox: Inbox,
        head: RequestHead | None,
        begun: Passage | None,
        scope: trio.CancelScope,
    ) -> None:
        head = head or await _late_head(stream, inbox)
        if head is None:
            return
        if begun is not None and self._verdict(head.session) is None:
            passage = begun
        else:
            if begun is not None:  # nobody held it while it was nobody's, and no answer has begun
                begun.forsake()
            try:
                credential = await self._credential(head)
                offered = self._check(head, credential)
            except _Unanswerable as why:
                await refuse(stream, why.answer)
                return
            passage = Passage(
                stream, offered, credential, head, inbox.rest(), self._events, self._now
            )
        with self._live.hold(head.session, _Cut(scope)):
            await passage.carry()

    # --- Who, and may they -----------------------------------------------------------------------

    def _certain(self, stream: MuxStream, head: RequestHead) -> Passage | None:
        """Return the passage of a request that is let through by what is known; None: ask.

        Every answer but a plain yes is left to `_credential` and `_check`.
        """
        credential = self._sessions.get(head.session)
        offered = self._offered.get(head.app)
        if credential is None or offered is None or head.credential:
            return None
        now = self._clock()
        if credential.expires <= now or credential.session_expires <= now:
            return None
        if self._cache.age > AUTH_GRACE:
            return None
        if self._cache.epoch(credential.user_key) != credential.epoch:
            return None
        known = self._allowed.get(head.session)
        if known is None or known[0] is not credential or known[1] is not offered:
            if self._refusal(credential, offered) is not None:
                return None
            keep_latest(self._allowed, head.session, (credential, offered), READY_SESSIONS)
        return Passage(stream, offered, credential, head, b"", self._events, self._now)

    async def _credential(self, head: RequestHead) -> SessionCredential:
        """Return who the session is, as auth signed it.

        Raises:
            _Unanswerable: it must be sent (again), or can't be judged.
        """
        if self._cache.age > AUTH_GRACE:
            raise _Unanswerable(
                "stale", "the agent has not heard from the auth service for a minute"
            )
        if head.credential:
            self._remember(head)
        credential = self._sessions.get(head.session)
        if credential is None or credential.expires <= self._clock():
            raise _Unanswerable("unknown-session", "the agent does not know the session")
        if self._cache.epoch(credential.user_key) < credential.epoch:
            await self._cache.wait_for_epoch(credential.user_key, credential.epoch)
        if self._cache.epoch(credential.user_key) != credential.epoch:
            self._sessions.pop(head.session, None)
            raise _Unanswerable("unknown-session", "what the session was granted has changed")
        return credential

    def _remember(self, head: RequestHead) -> None:
        """Verify a credential that came along, and keep it for the requests that name it."""
        try:
            credential = verify_session_credential(
                head.credential,
                jwks=self._cache.authorities.jwks,
                cluster=self._cluster,
                now=self._clock(),
            )
            if credential.sid != head.session:
                raise AccessDenied("not this session's credential")
        except NotSignedIn:
            # The proxy has just got it from auth: it is our clock that is another.
            now = self._clock()
            why = f"the session's credential does not count by this agent's clock, {now:%FT%TZ}"
            raise _Unanswerable("unknown-session", why) from None
        except AccessDenied as denied:
            self._events.put("auth.failed", error=denied.reason, sid=head.session)
            raise _Unanswerable("denied", "the session's credential is not valid") from None
        self._sessions.pop(head.session, None)
        self._make_room()
        self._sessions[head.session] = credential

    def _make_room(self) -> None:
        """Forget the oldest sessions that run nothing; what runs is judged by what is kept here."""
        for _ in range(len(self._sessions)):
            if len(self._sessions) < READY_SESSIONS:
                return
            oldest = next(iter(self._sessions))
            credential = self._sessions.pop(oldest)
            if oldest in self._live:
                self._sessions[oldest] = credential

    def _check(self, head: RequestHead, credential: SessionCredential) -> Offered:
        """Return the application that the request is for, if the session may open it now.

        Raises:
            _Unanswerable: it may not, or there is no such application.
        """
        offered = self._offered.get(head.app)
        if offered is None:
            raise _Unanswerable("unknown-app", f"this agent does not offer {head.app[:63]!r}")
        reason = self._refusal(credential, offered)
        if reason is not None:
            self._events.put(
                "app.access.denied",
                user=credential.user,
                app_name=head.app,
                sid=credential.sid,
                error=reason,
            )
            raise _Unanswerable("denied", "access denied")
        return offered

    def _refusal(self, credential: SessionCredential, offered: Offered) -> str | None:
        """Return why a session may not open an application now; None: it may."""
        if credential.app != offered.app.name:
            return f"the session is for {credential.app!r}"
        if self._cache.is_ended(credential.sid) or credential.session_expires <= self._clock():
            return "the session has ended"
        try:
            # Locks on users come as epochs: an agent learns no names.
            check_person(self._cache.locks, "", credential.roles, self._clock())
            check_app_access(self._cache.roles, credential.roles, credential.traits, offered.labels)
        except AccessDenied as denied:
            return denied.reason
        return None

    def changed(self, change: Change | None) -> None:
        """Cut what a change ends. To be called with every change that the cache tells."""
        self._allowed.clear()
        match change:
            case SessionEnded(id=session):
                self._live.cut(session, "the session has ended")
            case (
                RoleChanged()
                | RoleDeleted()
                | LockChanged()
                | LockDeleted()
                | EpochChanged()
                | None
            ):
                self.judge_again()
            case _:
                pass

    def judge_again(self) -> None:
        """Cut what runs and may run no longer; for changes of labels, and for the clock."""
        self._allowed.clear()
        self._live.judge(self._verdict)

    def _verdict(self, session: str) -> str | None:
        credential = self._sessions.get(session)
        offered = self._offered.get(credential.app) if credential else None
        if credential is None:
            return "no longer known"
        if offered is None:
            return "no longer offered"
        if self._cache.epoch(credential.user_key) != credential.epoch:
            return "what was granted has changed"  # or, when it is -1: the user was deleted
        return self._refusal(credential, offered)


class _Unanswerable(Exception):
    def __init__(self, kind: NoAnswerKind, cause: str) -> None:
        super().__init__(cause)
        self.answer = NoAnswer(kind=kind, hop="agent", cause=cause)


class _Cut:
    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope

    def __call__(self, reason: str) -> None:
        self._scope.cancel()


async def _late_head(stream: MuxStream, inbox: Inbox) -> RequestHead | None:
    """Wait for the rest of a head; None: the proxy ended the stream without one.

    Raises:
        RemoteProtocolError: it makes no sense, or took too long.
    """
    with trio.move_on_after(HEAD_DEADLINE):
        while (head := inbox.take(request_decoder)) is None:
            data = await stream.receive_some(READ_SIZE)
            if not data:
                return None
            inbox.feed(data)
        return head
    raise RemoteProtocolError(f"no head within {HEAD_DEADLINE:.0f} s")


async def refuse(stream: MuxStream, answer: NoAnswer) -> None:
    """Say why there is no answer, and want no more of the request."""
    await stream.send_all(pack(answer))
    await stream.aclose()
