"""The proxy's end of a tunnel: whom it lets in, what it believes of them, and which it chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.engine.api.scripted import ScriptedAuth
from tests.fakes import START, WallClock
from tport import __version__
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import INITIAL_WINDOW, MAX_OFFERS
from tport.engine.errors import AccessDenied, Unavailable
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.tunnel import (
    HIGHEST,
    LOWEST,
    MAX_REASON,
    SPOKEN,
    AgentHello,
    Control,
    Inbox,
    Offers,
    Proxies,
    ProxyHello,
    Verdicts,
    pack,
)
from tport.engine.proxy import tunnels as tunnels_module
from tport.engine.proxy.offer_pauses import OFFERS_PAUSE
from tport.engine.proxy.tunnels import (
    HELLO_DEADLINE,
    ON_THE_WAY,
    Tunnel,
    Tunnels,
    TunnelService,
)
from tport.engine.types.app import App, AppServer
from tport.engine.types.identity import Identity

GRAFANA = App(name="grafana", uri="http://localhost:3000")
JUPYTER = App(name="jupyter", uri="http://localhost:8888")


class JudgingAuth(ScriptedAuth):
    """Accepts every offer but those in `refused`; raises `failure` first."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, str] = {}
        self.judged: list[list[str]] = []
        self.judged_at: dict[str, list[float]] = {}  # by agent

    async def offer(
        self,
        *,
        host_id: str,
        hostname: str,
        version: str,
        apps: tuple[App, ...],
        pinned: tuple[str, ...] | None,
        pinned_uri: str,
    ) -> tuple[AppServer, ...]:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        self.judged.append([app.name for app in apps])
        self.judged_at.setdefault(host_id, []).append(trio.current_time())
        return tuple(
            AppServer(
                app=app, labels=app.labels, host_id=host_id, refused=self.refused.get(app.name, "")
            )
            for app in apps
        )


class Side:
    """A proxy's tunnel service, and the agent's end of one tunnel in the test's hands."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.auth = JudgingAuth()
        self.clock = WallClock()
        self.tunnels = Tunnels(lambda: START)
        self.events = EventQueue(self.auth.api)
        self.live: tuple[str, ...] = ("p1",)
        self.service = TunnelService(
            auth=cast("AuthAPI", self.auth),
            events=self.events,
            tunnels=self.tunnels,
            proxy_id="p1",
            cluster="main",
            public_address=lambda app: f"{app.name}.proxy.test",
            live_proxies=lambda: self.live,
            check_host=lambda _: None,
            clock=self.clock,
        )
        self._nursery = nursery
        nursery.start_soon(self.events.keep)

    def connect(self, name: str = "a1", *, life: timedelta = timedelta(hours=24)) -> Far:
        ours, theirs = memory_stream_pair()
        identity = Identity(kind="agent", name=name, cluster="main")

        async def serve() -> None:
            await self.service.serve(
                ours, identity, remote="192.0.2.1", not_after=self.clock() + life
            )

        self._nursery.start_soon(serve)
        far = Far(theirs, name)
        self._nursery.start_soon(far.run)
        return far

    async def event_types(self) -> list[str]:
        await self.events.wait_sent()
        return [event.type for batch in self.auth.emitted for event in batch]


class Far:
    def __init__(self, transport: trio.abc.Stream, name: str) -> None:
        self.transport = transport
        self.name = name
        self.mux = Mux(transport, client=False, peer_may_open=True)
        self.control: MuxStream
        self.inbox = Inbox()

    async def run(self) -> None:
        try:
            await self.mux.run()
        except Exception:
            return

    async def hear(self) -> Control | None:
        with trio.fail_after(60):
            return await next_control(self.control, self.inbox)

    async def say(self, message: Control) -> None:
        await self.control.send_all(pack(message))

    async def greet(
        self, *apps: App, hostname: str = "host", agent_id: str = "", protocol: int = HIGHEST
    ) -> Control | None:
        """Exchange hellos; return what comes after them."""
        self.control = await self.mux.accept()
        hello = await self.hear()
        assert isinstance(hello, ProxyHello)
        await self.say(
            AgentHello(
                protocol=protocol,
                version="1.0",
                agent_id=agent_id or self.name,
                hostname=hostname,
                apps=apps,
            )
        )
        return await self.hear()


@pytest.fixture
async def side(nursery: trio.Nursery) -> Side:
    return Side(nursery)


async def test_an_agent_that_says_hello_serves_what_auth_accepts(side: Side) -> None:
    side.auth.refused["jupyter"] = "the name is taken"
    verdicts = await side.connect().greet(GRAFANA, JUPYTER)
    await wait_all_tasks_blocked()

    assert verdicts == Verdicts(
        refused={"jupyter": "the name is taken"}, hosts={"grafana": "grafana.proxy.test"}
    )
    [tunnel] = side.tunnels.candidates("grafana", "s1")
    assert (tunnel.agent_id, tunnel.hostname, tunnel.version) == ("a1", "host", "1.0")
    assert side.tunnels.candidates("jupyter", "s1") == []
    [report] = side.tunnels.reports()
    assert [server.refused for server in report.servers] == ["", "the name is taken"]
    assert await side.event_types() == ["tunnel.up"]


async def test_a_tunnel_without_an_accepted_offer_comes_and_goes_in_the_log_too(
    side: Side,
) -> None:
    side.auth.refused["grafana"] = "the name is taken"
    far = side.connect()
    await far.greet(GRAFANA)
    await wait_all_tasks_blocked()
    await trio.aclose_forcefully(far.transport)
    await wait_all_tasks_blocked()

    assert await side.event_types() == ["tunnel.up", "tunnel.down"]


@pytest.mark.parametrize(
    "greet",
    [
        lambda far: far.greet(agent_id="another"),
        lambda far: far.greet(protocol=HIGHEST + 1),
        lambda far: far.greet(*[GRAFANA] * (MAX_OFFERS + 1)),
    ],
    ids=["another's name", "another protocol", "too many offers"],
)
async def test_a_wrong_hello_ends_the_tunnel(side: Side, greet: Callable[[Far], object]) -> None:
    """R-35: another protocol is refused whole, never half understood."""
    far = side.connect()
    with pytest.raises(trio.BrokenResourceError):
        await greet(far)  # type: ignore[misc]
    await wait_all_tasks_blocked()

    assert len(side.tunnels) == 0
    assert await side.event_types() == ["tunnel.protocol_error"]


async def test_an_agent_too_far_away_is_refused_with_both_versions_and_which_to_upgrade(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await side.connect().greet(protocol=LOWEST - 1)
    await wait_all_tasks_blocked()

    said = (
        f"the agent (tport 1.0) speaks tunnel protocol {LOWEST - 1}, this proxy (tport {__version__})"
        f" {SPOKEN}: they are more than one minor version apart; upgrade the agent (tport 1.0)"
    )
    await side.events.wait_sent()
    [refused] = [event for batch in side.auth.emitted for event in batch]
    assert refused.fields["error"] == said
    assert said in caplog.text


async def test_a_proxy_says_which_protocols_it_speaks_so_that_0_1_takes_the_lowest(
    side: Side,
) -> None:
    far = side.connect()
    far.control = await far.mux.accept()
    hello = await far.hear()

    assert isinstance(hello, ProxyHello)
    assert (hello.protocol, hello.highest) == (LOWEST, HIGHEST)


async def test_an_agent_that_auth_refuses_gets_no_tunnel(side: Side) -> None:
    side.auth.failure = AccessDenied("this agent was removed")
    far = side.connect()
    with pytest.raises(trio.BrokenResourceError):
        await far.greet(GRAFANA)
    await wait_all_tasks_blocked()

    assert len(side.tunnels) == 0


async def test_an_agent_that_says_nothing_is_dropped(autojump_clock: MockClock, side: Side) -> None:
    far = side.connect()
    await far.mux.wait_closed()

    assert trio.current_time() == pytest.approx(HELLO_DEADLINE, abs=0.1)
    assert len(side.tunnels) == 0


@pytest.mark.parametrize("at", ["first", "later"])
async def test_an_agent_that_says_what_only_a_proxy_says_loses_its_tunnel(
    side: Side, at: str
) -> None:
    far = side.connect()
    if at == "later":
        await far.greet(GRAFANA)
    else:
        far.control = await far.mux.accept()
        await far.hear()
    await far.say(Proxies(proxies=("evil",)))
    with trio.fail_after(5):
        await far.mux.wait_closed()

    assert side.tunnels.candidates("grafana", "s1") == []


async def test_changed_offers_count_once_they_are_judged(
    autojump_clock: MockClock, side: Side
) -> None:
    far = side.connect()
    await far.greet(GRAFANA)
    await far.say(Offers(apps=(JUPYTER,)))

    assert isinstance(await far.hear(), Verdicts)
    await wait_all_tasks_blocked()
    assert side.tunnels.candidates("grafana", "s1") == []
    assert len(side.tunnels.candidates("jupyter", "s1")) == 1


async def test_an_agent_that_offers_again_and_again_is_judged_once_a_while_by_the_last(
    autojump_clock: MockClock, side: Side
) -> None:
    """AG-10: to judge a thousand applications takes auth longer than to say them takes an agent."""
    far = side.connect()
    await far.greet(GRAFANA)
    for _ in range(200):
        await far.say(Offers(apps=(GRAFANA,)))
    await far.say(Offers(apps=(JUPYTER,)))
    await trio.sleep(2 * OFFERS_PAUSE)

    assert len(side.auth.judged) <= 4
    assert side.auth.judged[-1] == ["jupyter"]
    assert len(side.tunnels.candidates("jupyter", "s1")) == 1


async def greet_at_once(*fars: Far) -> None:
    async with trio.open_nursery() as greeting:
        for far in fars:
            greeting.start_soon(far.greet, GRAFANA)


async def test_an_agent_is_judged_once_a_while_however_many_tunnels_it_opens_at_once(
    autojump_clock: MockClock, side: Side
) -> None:
    """AG-10: by what they offer then, too."""
    fars = [side.connect() for _ in range(5)]
    await greet_at_once(*fars)
    for far in fars:
        await far.say(Offers(apps=(JUPYTER,)))
    await trio.sleep(6 * OFFERS_PAUSE)

    times = side.auth.judged_at["a1"]
    assert len(times) == 10
    assert all(later - sooner >= OFFERS_PAUSE for sooner, later in pairwise(times))


async def test_an_agent_that_dials_again_and_again_is_judged_once_a_while(
    autojump_clock: MockClock, side: Side
) -> None:
    """AG-10: also when the tunnel that was judged last is gone."""
    for _ in range(4):
        far = side.connect()
        await far.greet(GRAFANA)
        await trio.aclose_forcefully(far.transport)
        await wait_all_tasks_blocked()
        assert len(side.tunnels) == 0

    times = side.auth.judged_at["a1"]
    assert all(later - sooner >= OFFERS_PAUSE for sooner, later in pairwise(times))


async def test_agents_that_come_back_all_at_once_wait_for_nothing_nor_for_one_that_comes_too_often(
    autojump_clock: MockClock, side: Side
) -> None:
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(side.connect("greedy").greet, GRAFANA)
        await wait_all_tasks_blocked()
        await greet_at_once(*(side.connect(f"a{number}") for number in range(100)))
        assert trio.current_time() == before

    assert len(side.tunnels) == 105


@pytest.mark.parametrize(
    ("offers", "times"),
    [
        (Offers(apps=()), 40_000),
        (Offers(apps=tuple(App(name=f"a{n}", uri="http://a" * 20) for n in range(MAX_OFFERS))), 20),
    ],
    ids=["small", "large"],
)
async def test_an_agent_that_offers_on_and_on_is_held_back_until_it_may_be_judged(
    autojump_clock: MockClock, side: Side, offers: Offers, times: int
) -> None:
    """AG-10: to read them all as they come would take the proxy's time from everybody else."""
    far = side.connect()
    await far.greet(GRAFANA)
    with trio.move_on_after(0.9 * OFFERS_PAUSE) as waiting:
        await far.control.send_all(pack(offers) * times)

    assert waiting.cancelled_caught


async def test_what_is_offered_no_more_is_found_no_more_though_the_agent_reads_no_verdict(
    autojump_clock: MockClock, side: Side
) -> None:
    """Who is given a tunnel looks for the application in it, and some remember the tunnel."""
    far = side.connect()
    await far.greet(GRAFANA)
    await trio.sleep(OFFERS_PAUSE)
    [tunnel] = side.tunnels.candidates("grafana", "s1")
    before = side.tunnels.changed
    side.auth.refused["jupyter"] = (
        "x" * 2 * INITIAL_WINDOW
    )  # more than may be sent to who doesn't read
    await far.say(Offers(apps=(JUPYTER,)))
    await wait_all_tasks_blocked()

    assert tunnel.servers == {}
    assert side.tunnels.candidates("grafana", "s1") == []
    assert before.is_set()


async def test_what_an_agent_can_not_offer_is_shown_in_its_words_made_plain(
    autojump_clock: MockClock, side: Side
) -> None:
    far = side.connect()
    await far.greet(GRAFANA)
    faulty = (("gra fana\x1b[2J" + "a" * 100, "t.yaml:7:1:\nuri: is missing"), ("b", "c" * 5000))
    await far.say(Offers(apps=(GRAFANA,), faulty=faulty))

    assert await far.hear() == Verdicts(refused={}, hosts={"grafana": "grafana.proxy.test"})
    await wait_all_tasks_blocked()
    assert side.auth.judged[-1] == ["grafana"], "auth judges what is offered, and no more"
    [report] = side.tunnels.reports()
    [up, red, long] = report.servers
    assert (up.app.name, up.refused) == ("grafana", "")
    assert red.app.name.startswith("gra fana?[2Ja")
    assert len(red.app.name) == 63
    assert red.refused == "t.yaml:7:1:?uri: is missing"
    assert len(long.refused) == MAX_REASON
    assert side.tunnels.candidates("b", "s1") == []


async def test_while_auth_is_away_tunnels_stay_and_serve_what_was_accepted(
    autojump_clock: MockClock, side: Side
) -> None:
    far = side.connect()
    await far.greet(GRAFANA)
    side.auth.failure = Unavailable("down")
    await far.say(Offers(apps=(JUPYTER,)))
    await trio.sleep(60)
    assert len(side.tunnels.candidates("grafana", "s1")) == 1

    side.auth.failure = None
    assert isinstance(await far.hear(), Verdicts)
    await wait_all_tasks_blocked()
    assert len(side.tunnels.candidates("jupyter", "s1")) == 1


async def test_an_agent_hears_which_proxies_live_while_it_offers_anew(
    autojump_clock: MockClock, side: Side
) -> None:
    """Both are said on one stream, by two tasks."""
    far = side.connect()
    await far.greet(GRAFANA)
    await trio.sleep(OFFERS_PAUSE)
    for number in range(20):
        side.live = ("p1", f"q{number}")
        side.service.proxies_changed()
        await wait_all_tasks_blocked()
        await far.say(Offers(apps=(GRAFANA,)))
        await trio.sleep(OFFERS_PAUSE)
    heard: list[Control | None] = [await far.hear() for _ in range(40)]

    assert sum(isinstance(message, Proxies) for message in heard) == 20
    assert sum(isinstance(message, Verdicts) for message in heard) == 20
    assert len(side.tunnels) == 1


async def test_a_proxy_that_comes_is_told_at_once(autojump_clock: MockClock, side: Side) -> None:
    far = side.connect()
    await far.greet(GRAFANA)
    await wait_all_tasks_blocked()
    side.live = ("p1", "p2")
    before = trio.current_time()
    side.service.proxies_changed()

    assert await far.hear() == Proxies(proxies=("p1", "p2"))
    assert trio.current_time() == before


async def test_a_proxy_that_comes_while_an_agent_says_hello_is_told_at_once_too(
    autojump_clock: MockClock, side: Side
) -> None:
    far = side.connect()
    judge = side.auth.offer

    async def offer(**asked: Any) -> tuple[AppServer, ...]:
        side.live = ("p1", "p2")
        side.service.proxies_changed()
        return await judge(**asked)

    side.auth.offer = offer  # type: ignore[method-assign]  # one proxy comes meanwhile
    before = trio.current_time()
    await far.greet(GRAFANA)

    assert await far.hear() == Proxies(proxies=("p1", "p2"))
    assert trio.current_time() == before


async def test_a_request_waits_for_a_tunnel_that_another_process_has_already(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    elsewhere = {"grafana", "lonely"}
    tunnels = Tunnels(lambda: START, elsewhere=elsewhere.__contains__)

    async def waited(app: str) -> float:
        began = trio.current_time()
        await tunnels.wait_for_offer(app)
        return trio.current_time() - began

    assert await waited("nowhere") == 0
    assert await waited("lonely") == ON_THE_WAY

    async def come() -> None:
        await trio.sleep(1)
        some_tunnels(["a"], tunnels)

    nursery.start_soon(come)
    assert await waited("grafana") == 1
    assert await waited("grafana") == 0

    async def go() -> None:
        await trio.sleep(0.5)
        elsewhere.clear()

    nursery.start_soon(go)
    assert await waited("lonely") < 1, "its agent has gone there, too"


async def test_what_an_agent_calls_itself_fits_on_one_line(side: Side) -> None:
    await side.connect().greet(GRAFANA, hostname="evil\ntport: error: all is lost\x1b[2J")
    await wait_all_tasks_blocked()

    [tunnel] = side.tunnels.candidates("grafana", "s1")
    assert tunnel.hostname.isprintable()


async def test_an_agent_that_leaves_gets_no_new_streams_and_those_in_flight_go_on(
    side: Side,
) -> None:
    far = side.connect()
    await far.greet(GRAFANA)
    await wait_all_tasks_blocked()
    [tunnel] = side.tunnels.candidates("grafana", "s1")
    running = tunnel.mux.open_stream()
    await running.send_all(b"request")
    there = await far.mux.accept()

    await far.control.send_eof()
    assert await far.hear() is None  # the word that no more will come
    assert side.tunnels.candidates("grafana", "s1") == []

    far.mux.go_away()
    await far.control.aclose()
    await there.send_all(b"answer")
    await there.aclose()
    assert await running.receive_some() == b"answer"
    await running.aclose()
    with trio.fail_after(5):
        await far.mux.wait_closed()  # behind the last stream, by the proxy


async def test_a_leaving_agents_streams_survive_a_change_of_proxies(
    autojump_clock: MockClock, side: Side
) -> None:
    """Nobody tells it any more which proxies live: nothing may break by trying to."""
    far = side.connect()
    await far.greet(GRAFANA)
    await wait_all_tasks_blocked()
    [tunnel] = side.tunnels.candidates("grafana", "s1")
    running = tunnel.mux.open_stream()
    await running.send_all(b"request")
    there = await far.mux.accept()
    await far.control.send_eof()
    side.live = ("p1", "p2")
    await trio.sleep(12)

    await there.send_all(b"answer")
    assert await running.receive_some() == b"answer"


async def test_a_tunnel_ends_with_its_certificate(autojump_clock: MockClock, side: Side) -> None:
    """TLS-09. By the wall clock, at the next look that the proxy has at it."""
    far = side.connect(life=timedelta(minutes=1))
    await far.greet(GRAFANA)
    side.clock.now += timedelta(seconds=59)
    side.service.judge()
    await wait_all_tasks_blocked()
    assert len(side.tunnels) == 1

    side.clock.now += timedelta(seconds=1)
    side.service.judge()
    await far.mux.wait_closed()

    assert trio.current_time() <= 1
    assert len(side.tunnels) == 0


# --- Which one -----------------------------------------------------------------------------------


def some_tunnels(names: Sequence[str], tunnels: Tunnels) -> dict[str, Tunnel]:
    made = {}
    for name in names:
        ours, _ = memory_stream_pair()
        mux = Mux(ours, client=True, peer_may_open=False)
        identity = Identity(kind="agent", name=name, cluster="main")
        tunnel = Tunnel(mux, identity, remote="", since=START)
        tunnel.servers = {"grafana": AppServer(app=GRAFANA, labels={}, host_id=name)}
        tunnels.add(tunnel)
        made[name] = tunnel
    return made


async def test_a_session_keeps_its_agent_as_others_come_and_go() -> None:
    tunnels = Tunnels(lambda: START)
    made = some_tunnels(["a", "b", "c"], tunnels)
    sessions = [f"s{number}" for number in range(300)]
    before = {s: tunnels.candidates("grafana", s) for s in sessions}
    firsts = {name: sum(c[0] is t for c in before.values()) for name, t in made.items()}
    assert min(firsts.values()) > 60  # spread over all of them

    tunnels.remove(made["b"])
    for session, order in before.items():
        assert tunnels.candidates("grafana", session) == [t for t in order if t is not made["b"]]

    tunnels.add(made["b"])
    assert {s: tunnels.candidates("grafana", s) for s in sessions} == before


async def test_an_agent_whom_the_application_does_not_answer_comes_last_and_is_still_asked() -> (
    None
):
    down: set[tuple[str, str]] = set()
    tunnels = Tunnels(lambda: START, lambda: down)
    made = some_tunnels(["a", "b", "c"], tunnels)
    sessions = [f"s{number}" for number in range(50)]
    before = {s: tunnels.candidates("grafana", s) for s in sessions}

    down |= {("grafana", "b"), ("wiki", "a")}
    for session, order in before.items():
        others = [tunnel for tunnel in order if tunnel is not made["b"]]
        assert tunnels.candidates("grafana", session) == [*others, made["b"]]

    down |= {("grafana", "a"), ("grafana", "c")}
    assert {s: tunnels.candidates("grafana", s) for s in sessions} == before


async def test_since_when_no_tunnel_offers_an_application_is_remembered_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tunnels_module, "REMEMBERED_APPS", 1)
    clock = WallClock()
    tunnels = Tunnels(clock)
    made = some_tunnels(["a", "b"], tunnels)
    assert tunnels.left_at("grafana") is None

    tunnels.remove(made["a"])
    assert tunnels.left_at("grafana") is None
    clock.now += timedelta(minutes=1)
    tunnels.remove(made["b"])
    assert tunnels.left_at("grafana") == clock.now
    since = clock.now
    clock.now += timedelta(minutes=1)
    tunnels.touch()
    assert tunnels.left_at("grafana") == since

    tunnels.add(made["a"])
    assert tunnels.left_at("grafana") is None
    made["b"].servers = {"wiki": made["b"].servers["grafana"]}
    tunnels.add(made["b"])
    for name in ("a", "b"):
        tunnels.remove(made[name])
    assert tunnels.left_at("grafana") is None, "the newest is kept"
    assert tunnels.left_at("wiki") == clock.now


async def test_only_the_newest_tunnel_of_an_agent_is_chosen() -> None:
    tunnels = Tunnels(lambda: START)
    old = some_tunnels(["a"], tunnels)["a"]
    new = some_tunnels(["a"], tunnels)["a"]

    assert tunnels.candidates("grafana", "s1") == [new]
    assert len(tunnels.reports()) == 1
    tunnels.remove(new)
    assert tunnels.candidates("grafana", "s1") == [old]


async def test_what_an_agent_was_told_is_remembered_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tunnels_module, "READY_SESSIONS", 2)
    tunnel = some_tunnels(["a"], Tunnels(lambda: START))["a"]
    for session in ("s1", "s2", "s3"):
        tunnel.told(session, "jws")

    assert [tunnel.has_credential(s, "jws") for s in ("s1", "s2", "s3")] == [False, True, True]
    assert not tunnel.has_credential("s3", "a newer one")
