"""The agent believes no proxy: who is it, may they now, and what runs ends when they may not."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.certs import Cluster
from tests.engine.api.scripted import ScriptedAuth
from tests.fakes import START, WallClock
from tport.engine.agent import apps as apps_module
from tport.engine.agent.apps import HEAD_DEADLINE, AgentApps
from tport.engine.agent.passage import Offered
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream
from tport.engine.api.cache import AuthCache
from tport.engine.api.changes import (
    AuthoritiesChanged,
    Change,
    EpochChanged,
    LockChanged,
    LockDeleted,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
)
from tport.engine.api.events import EventQueue
from tport.engine.defaults import AUTH_GRACE, FRESH, MAX_HEAD, MAX_TARGET
from tport.engine.errors import ConnectionProblem
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.pki.jwt import MAX_TOKEN, sign_session_credential
from tport.engine.proto.tunnel import (
    MAX_REQUEST_MESSAGE,
    Inbox,
    NoAnswer,
    RequestHead,
    ResponseHead,
    answer_decoder,
    pack,
    request_decoder,
)
from tport.engine.types.app import App
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.role import PRESETS, Conditions, Role
from tport.engine.types.session import SessionCredential
from tport.engine.types.user import user_key

ALICE = user_key("id-alice")


class Far:
    """A proxy's end of one request."""

    def __init__(self, stream: MuxStream) -> None:
        self.stream = stream
        self._inbox = Inbox()

    async def answer(self) -> ResponseHead | NoAnswer:
        with trio.fail_after(60):
            while (answer := self._inbox.take(answer_decoder)) is None:
                data = await self.stream.receive_some()
                assert data, "the agent ended the stream without an answer"
                self._inbox.feed(data)
        assert isinstance(answer, ResponseHead | NoAnswer)
        return answer

    async def refusal(self) -> str:
        """Return the kind of refusal, which is whole: the stream ended cleanly behind it."""
        answer = await self.answer()
        assert isinstance(answer, NoAnswer)
        assert await self.stream.receive_some() == b""
        return answer.kind


class Side:
    """An agent that offers grafana and jupyter to who has `access`, a proxy, and auth."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.clock = WallClock()
        self.cluster = Cluster(now=START)
        self.auth = ScriptedAuth()
        self.auth.first = [
            RoleChanged(role=PRESETS["access"]),
            EpochChanged(user_key=ALICE, epoch=1),
            AuthoritiesChanged(authorities=self.cluster.authorities),
        ]
        self.cache = AuthCache(self.auth.api, self.clock)
        self.events = EventQueue(self.auth.api)
        self.reached: list[bytes] = []
        self.reply: Callable[[Exchange], Awaitable[None]] = self._hello
        self.offered = {name: self._offer(name) for name in ("grafana", "jupyter")}
        self.apps = AgentApps(
            offered=self.offered,
            cache=self.cache,
            events=self.events,
            cluster=self.cluster.name,
            clock=self.clock,
        )
        self.cache.on_change = self.apps.changed
        ours, theirs = memory_stream_pair()
        self.proxy = Mux(ours, client=True, peer_may_open=False)
        self.agent = Mux(theirs, client=False, peer_may_open=True)
        self._nursery = nursery

    def _offer(self, name: str) -> Offered:
        app = App(name=name, uri="http://localhost:3000")
        upstream = Upstream(app, self.clock, dial=self._dial)
        return Offered(app, upstream, Rewriter(app, hostname="box"))

    async def _dial(self) -> trio.abc.Stream:
        ours, its = memory_stream_pair()
        self._nursery.start_soon(serve_http1, its, self._application)
        return ours

    async def _application(self, exchange: Exchange) -> None:
        self.reached.append(exchange.request.target)
        await self.reply(exchange)

    async def _hello(self, exchange: Exchange) -> None:
        await exchange.respond(200, [], b"hello")

    async def endless(self, exchange: Exchange) -> None:
        await exchange.send_head(200, [])
        await exchange.send_body(b"begun")
        await trio.sleep_forever()

    async def run(self) -> None:
        self._nursery.start_soon(self.proxy.run)
        self._nursery.start_soon(self.agent.run)
        self._nursery.start_soon(self.events.keep)
        await self._nursery.start(self.cache.keep)
        self._nursery.start_soon(self.apps.keep)
        self.agent.take_streams(lambda stream: self.apps.take(stream, self._nursery))

    def credential(
        self,
        sid: str = "s1",
        *,
        app: str = "grafana",
        epoch: int = 1,
        roles: tuple[str, ...] = ("access",),
        cluster: Cluster | None = None,
        life: timedelta = timedelta(minutes=5),
        session_life: timedelta = timedelta(hours=1),
    ) -> str:
        by = cluster or self.cluster
        return sign_session_credential(
            by.jwt,
            SessionCredential(
                sid=sid,
                user="alice",
                user_key=ALICE,
                roles=roles,
                traits={},
                app=app,
                host=f"{app}.proxy.test",
                cluster=by.name,
                epoch=epoch,
                issued=self.clock(),
                expires=self.clock() + life,
                session_expires=self.clock() + session_life,
                jwt="eyJ.a.b",
            ),
        )

    async def ask(
        self,
        credential: str = "",
        *,
        app: str = "grafana",
        session: str = "s1",
        method: bytes = b"GET",
        length: int = 0,
    ) -> Far:
        """Ask, with the request's end behind the head; with a `length`, the body is the caller's."""
        stream = self.proxy.open_stream()
        await stream.send_all(
            self.packed(credential, app=app, session=session, method=method, length=length)
        )
        if not length:
            await stream.send_eof()
        return Far(stream)

    def packed(
        self,
        credential: str,
        *,
        app: str = "grafana",
        session: str = "s1",
        method: bytes = b"GET",
        length: int = 0,
    ) -> bytes:
        return pack(
            RequestHead(
                app=app,
                session=session,
                credential=credential,
                method=method,
                target=b"/",
                headers=b"",
                length=length,
                upgrade=b"",
                remote="192.0.2.9",
                public="grafana.proxy.test",
                request_id="r1",
            )
        )

    async def status(
        self, credential: str = "", *, app: str = "grafana", session: str = "s1"
    ) -> int | str:
        """Ask, and return the status of the answer or the kind of refusal."""
        far = await self.ask(credential, app=app, session=session)
        answer = await far.answer()
        return answer.kind if isinstance(answer, NoAnswer) else answer.status

    async def running(self) -> Far:
        """Return a download that has begun and never ends by itself."""
        self.reply = self.endless
        far = await self.ask(self.credential())
        answer = await far.answer()
        assert isinstance(answer, ResponseHead)
        await wait_all_tasks_blocked()
        return far


@pytest.fixture
async def side(nursery: trio.Nursery) -> Side:
    made = Side(nursery)
    await made.run()
    return made


async def is_cut(far: Far) -> bool:
    """Tell whether what runs was cut, and never ended cleanly."""
    await wait_all_tasks_blocked()
    try:
        while await far.stream.receive_some():
            pass
    except trio.BrokenResourceError:
        return True
    return False


# --- Who -------------------------------------------------------------------------------------------


async def test_a_credential_is_sent_once_and_named_after_that(side: Side) -> None:
    assert await side.status() == "unknown-session"
    assert await side.status(side.credential()) == 200
    assert await side.status() == 200
    assert side.reached == [b"/", b"/"]


@pytest.mark.parametrize(
    "make",
    [
        lambda side: "nonsense",
        lambda side: side.credential("s2"),
        lambda side: side.credential(cluster=Cluster(now=START)),
        lambda side: side.credential(cluster=Cluster(now=START, name="other")),
        lambda side: side.credential()[:-2] + "AA",
    ],
    ids=["nonsense", "another session's", "another key's", "another cluster's", "changed"],
)
async def test_a_credential_that_auth_did_not_sign_for_this_session_is_denied(
    side: Side, make: Callable[[Side], str]
) -> None:
    assert await side.status(make(side)) == "denied"
    assert await side.status() == "unknown-session"
    assert side.reached == []
    await side.events.wait_sent()
    assert [event.type for batch in side.auth.emitted for event in batch] == ["auth.failed"]


async def test_a_credential_for_another_application_opens_none_here(side: Side) -> None:
    """A proxy that replays alice's session for grafana at jupyter (AG-12)."""
    assert await side.status(side.credential(), app="jupyter") == "denied"
    assert await side.status(side.credential(app="jupyter")) == "denied"
    assert side.reached == []


async def test_a_session_that_is_known_for_one_application_opens_no_other(side: Side) -> None:
    """A proxy that names alice's session at grafana for a request to jupyter (AG-12)."""
    assert await side.status(side.credential()) == 200
    assert await side.status(app="jupyter") == "denied"
    assert side.reached == [b"/"]


async def test_what_is_remembered_of_who_was_let_through_is_bounded(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sid in ("s1", "s2", "s3"):
        assert await side.status(side.credential(sid), session=sid) == 200
    monkeypatch.setattr(apps_module, "READY_SESSIONS", 2)
    for sid in ("s1", "s2", "s3", "s1"):
        assert await side.status(session=sid) == 200
        assert len(side.apps._allowed) <= 2


async def test_a_head_that_comes_in_pieces_is_one(side: Side) -> None:
    whole = side.packed(side.credential())
    stream = side.proxy.open_stream()
    for piece in (whole[:1], whole[1:100]):
        await stream.send_all(piece)
        await wait_all_tasks_blocked()
    await stream.send_all(whole[100:])
    await stream.send_eof()
    answer = await Far(stream).answer()

    assert isinstance(answer, ResponseHead)
    assert answer.status == 200


async def test_an_expired_credential_is_asked_for_again(side: Side) -> None:
    old = side.credential()
    assert await side.status(old) == 200
    side.clock.now += timedelta(minutes=7)  # beyond what clocks may differ by
    assert await side.status() == "unknown-session"
    assert await side.status(old) == "unknown-session"
    assert await side.status(side.credential()) == 200


async def test_an_application_it_does_not_offer_is_unknown(side: Side) -> None:
    """AG-06: a name is looked up, never dialled."""
    for name in ("../../etc", "http://169.254.169.254", "GRAFANA", ""):
        assert await side.status(side.credential(), app=name) == "unknown-app"
    assert side.reached == []


async def test_a_grant_of_before_a_change_is_void(side: Side) -> None:
    assert await side.status(side.credential()) == 200
    await side.auth.tell(EpochChanged(user_key=ALICE, epoch=2))
    assert await side.status() == "unknown-session"
    assert await side.status(side.credential()) == "unknown-session"
    assert await side.status(side.credential(epoch=2)) == 200


async def test_a_grant_newer_than_the_agents_news_waits_for_them(
    autojump_clock: MockClock, side: Side, nursery: trio.Nursery
) -> None:
    async def tell() -> None:
        await trio.sleep(2)
        await side.auth.tell(EpochChanged(user_key=ALICE, epoch=2))

    nursery.start_soon(tell)
    assert await side.status(side.credential(epoch=2)) == 200
    assert trio.current_time() >= 2


async def test_a_grant_that_auth_never_tells_of_is_refused_in_time(
    autojump_clock: MockClock, side: Side
) -> None:
    assert await side.status(side.credential(epoch=9)) == "unknown-session"
    assert trio.current_time() <= FRESH + 0.1


async def test_without_news_from_auth_for_a_minute_it_judges_nobody(
    autojump_clock: MockClock, side: Side
) -> None:
    assert await side.status(side.credential()) == 200
    side.auth.refuse_watch = ConnectionProblem("down")
    await side.auth.lose_watch()
    await trio.sleep(AUTH_GRACE - 1)
    assert await side.status() == 200
    await trio.sleep(2)
    assert await side.status() == "stale"
    side.auth.refuse_watch = None
    await trio.sleep(FRESH)
    assert await side.status() == 200


# --- May they ----------------------------------------------------------------------------------------


async def test_a_role_that_allows_nothing_is_denied_and_written_down(side: Side) -> None:
    assert await side.status(side.credential(roles=("editor",))) == "denied"
    await side.events.wait_sent()
    [[event]] = side.auth.emitted
    assert (event.type, event.fields["app_name"]) == ("app.access.denied", "grafana")


async def test_labels_as_they_are_now_decide(side: Side) -> None:
    only_dev = Role(name="access", allow=Conditions(app_labels={"env": ("dev",)}))
    await side.auth.tell(RoleChanged(role=only_dev))
    assert await side.status(side.credential()) == "denied"
    side.offered["grafana"].labels = {"env": "dev"}
    assert await side.status() == 200


async def test_a_session_that_ended_is_denied_whatever_credential_comes(side: Side) -> None:
    await side.auth.tell(SessionEnded(id="s1"))
    assert await side.status(side.credential()) == "denied"


async def test_a_locked_role_is_denied_until_the_lock_is_lifted_or_over(side: Side) -> None:
    target = LockTarget(role="access")
    lock = Lock(name="l", target=target, expires=START + timedelta(minutes=1))
    await side.auth.tell(LockChanged(lock=lock))
    assert await side.status(side.credential()) == "denied"
    await side.auth.tell(LockDeleted(name="l"))
    assert await side.status() == 200
    await side.auth.tell(LockChanged(lock=lock))
    side.clock.now += timedelta(minutes=1)
    assert await side.status() == 200


async def test_a_session_past_its_own_end_is_denied(side: Side) -> None:
    assert await side.status(side.credential(session_life=timedelta(minutes=1))) == 200
    side.clock.now += timedelta(minutes=1)
    assert await side.status() == "denied"


async def test_a_refusal_is_whole_though_a_body_is_coming(side: Side) -> None:
    far = await side.ask(side.credential(roles=()))
    assert await far.refusal() == "denied"


# --- What runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        EpochChanged(user_key=ALICE, epoch=2),
        EpochChanged(user_key=ALICE, epoch=-1),
        SessionEnded(id="s1"),
        RoleDeleted(name="access"),
        LockChanged(lock=Lock(name="l", target=LockTarget(role="access"))),
        RoleChanged(role=Role(name="access")),
    ],
    ids=[
        "user changed",
        "user deleted",
        "session ended",
        "role deleted",
        "role locked",
        "role changed",
    ],
)
async def test_what_runs_is_cut_when_a_change_ends_it(side: Side, change: Change) -> None:
    far = await side.running()
    await side.auth.tell(change)
    assert await is_cut(far)


@pytest.mark.parametrize(
    "change",
    [
        EpochChanged(user_key=user_key("id-bob"), epoch=7),
        SessionEnded(id="s2"),
        RoleDeleted(name="editor"),
    ],
    ids=["another user", "another session", "another role"],
)
async def test_what_runs_goes_on_when_it_is_about_others(side: Side, change: Change) -> None:
    far = await side.running()
    await side.auth.tell(change)
    with trio.move_on_after(0.05) as waiting:
        await is_cut(far)
    assert waiting.cancelled_caught


async def test_what_runs_is_cut_when_its_application_is_no_longer_offered(side: Side) -> None:
    far = await side.running()
    del side.offered["grafana"]
    side.apps.judge_again()

    assert await is_cut(far)


async def test_what_runs_is_cut_by_the_clock(side: Side) -> None:
    far = await side.running()
    side.clock.now += timedelta(minutes=59)
    side.apps.judge_again()
    side.clock.now += timedelta(minutes=1)
    side.apps.judge_again()
    assert await is_cut(far)


async def test_what_runs_survives_its_sessions_credential_and_a_lost_watch(
    autojump_clock: MockClock, side: Side
) -> None:
    far = await side.running()
    side.clock.now += timedelta(minutes=7)
    await side.auth.lose_watch()
    await trio.sleep(FRESH)
    side.apps.judge_again()
    with trio.move_on_after(0.05) as waiting:
        await is_cut(far)
    assert waiting.cancelled_caught


async def test_what_runs_survives_ten_thousand_other_sessions(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest session is forgotten first, but not while something runs by it."""
    monkeypatch.setattr(apps_module, "READY_SESSIONS", 3)
    far = await side.running()
    side.reply = side._hello
    for number in range(5):
        sid = f"other-{number}"
        assert await side.status(side.credential(sid), session=sid) == 200
    assert await side.status(session="other-0") == "unknown-session"
    side.apps.judge_again()
    with trio.move_on_after(0.05) as waiting:
        await is_cut(far)
    assert waiting.cancelled_caught


async def test_when_the_client_goes_nobody_waits_for_the_application(side: Side) -> None:
    async def never(_: Exchange) -> None:
        await trio.sleep_forever()

    side.reply = never
    far = await side.ask(side.credential())
    await wait_all_tasks_blocked()
    assert side.reached == [b"/"]
    far.stream.reset()
    with trio.fail_after(5):
        await side.apps.wait_idle()


async def test_when_the_client_goes_while_its_grant_is_waited_for_nothing_is_asked(
    autojump_clock: MockClock, side: Side
) -> None:
    far = await side.ask(side.credential(epoch=2))
    await wait_all_tasks_blocked()
    far.stream.reset()
    await wait_all_tasks_blocked()
    await side.auth.tell(EpochChanged(user_key=ALICE, epoch=2))
    await side.apps.wait_idle()

    assert side.reached == []


async def test_wait_idle_waits_for_the_last(side: Side, nursery: trio.Nursery) -> None:
    far = await side.running()
    idle = trio.Event()

    async def wait() -> None:
        await side.apps.wait_idle()
        idle.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not idle.is_set()
    far.stream.reset()
    with trio.fail_after(5):
        await idle.wait()


# --- Nonsense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc0", b"\0\0"])
async def test_a_stream_of_nonsense_costs_only_itself(
    side: Side, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stream = side.proxy.open_stream()
    await stream.send_all(data)
    await stream.send_eof()
    with pytest.raises(trio.BrokenResourceError):
        await Far(stream).answer()

    assert await side.status(side.credential()) == 200
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_a_head_longer_than_any_honest_one_is_not_waited_for(side: Side) -> None:
    """AG-10: over a thousand streams may bring one at a time."""
    stream = side.proxy.open_stream()
    await stream.send_all((MAX_REQUEST_MESSAGE + 1).to_bytes(4, "big") + b"some of it")
    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


def test_the_longest_honest_head_fits() -> None:
    head = RequestHead(
        app="a" * 63,
        session="s" * 64,
        credential="c" * MAX_TOKEN,
        method=b"GET",
        target=b"/" * MAX_TARGET,
        headers=b"h" * MAX_HEAD,
        length=None,
        upgrade=b"",
        remote="192.0.2.1",
        public="p" * 260,
        request_id="r" * 16,
    )
    inbox = Inbox(pack(head), limit=MAX_REQUEST_MESSAGE)
    assert inbox.take(request_decoder) == head


async def test_a_stream_without_a_head_is_dropped(autojump_clock: MockClock, side: Side) -> None:
    stream = side.proxy.open_stream()
    await stream.send_all(b"\0\0")
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert trio.current_time() == pytest.approx(HEAD_DEADLINE, abs=0.1)
