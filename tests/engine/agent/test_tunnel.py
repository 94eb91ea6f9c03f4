"""An agent holds a tunnel to each proxy, replaces it without a loss, and dials with patience."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import tport
from tport.engine.agent.tunnel import QUICK, SLOW, Dialled, TunnelKeeper, redial_delays
from tport.engine.errors import ConnectionProblem
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.tunnel import (
    HIGHEST,
    LOWEST,
    AgentHello,
    Control,
    Inbox,
    Offers,
    Proxies,
    ProxyHello,
    Verdicts,
    pack,
)
from tport.engine.types.app import App

GRAFANA = App(name="grafana", uri="http://localhost:3000")


class FarProxy:
    """The proxy's end of one tunnel."""

    def __init__(self, proxy_id: str, transport: trio.abc.Stream) -> None:
        self.proxy_id = proxy_id
        self.transport = transport
        self.mux = Mux(transport, client=True, peer_may_open=False)
        self.control: MuxStream
        self.inbox = Inbox()
        self.hello: Control | None = None

    async def hear(self) -> Control | None:
        with trio.fail_after(60):
            return await next_control(self.control, self.inbox)

    async def say(self, message: Control) -> None:
        await self.control.send_all(pack(message))

    async def die(self) -> None:
        await trio.aclose_forcefully(self.transport)


class Address:
    """What stands behind the one address: proxies, taken in turn; and how dialling fails."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.proxies: list[str] = ["p1"]
        self.known: tuple[str, ...] = ()  # what proxies say of who lives; () all of `proxies`
        self.cluster = "main"
        self.protocol = HIGHEST
        self.highest = 0  # 0: as versions before 0.2, which don't say it
        self.failure: Exception | None = None
        self.silent = False
        self.first: Control | None = None  # what is said instead of hello
        self.verdict: Control = Verdicts(refused={}, hosts={})
        self.dialled: list[float] = []
        self.meant: list[str] = []  # by each dial
        self.heeds = False  # who was meant
        self.calls_itself = ""  # what proxies call themselves; "": as their certificates do
        self.tunnels: list[FarProxy] = []
        self.hellos: list[AgentHello] = []
        self.served: list[MuxStream] = []
        self.apps: tuple[App, ...] = (GRAFANA,)
        self.verdicts: list[Verdicts] = []
        self._nursery = nursery
        self.keeper = TunnelKeeper(
            agent_id="a1",
            hostname="host",
            cluster="main",
            dial=self.dial,
            take=self.take,
            offers=lambda: Offers(apps=self.apps),
            on_verdicts=self.verdicts.append,
            delays=lambda: redial_delays(lambda: 1.0),
        )

    async def dial(self, proxy_id: str) -> Dialled:
        self.dialled.append(trio.current_time())
        self.meant.append(proxy_id)
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        ours, theirs = memory_stream_pair()
        met = self.proxies[(len(self.dialled) - 1) % len(self.proxies)]
        if self.heeds and proxy_id in self.proxies:
            met = proxy_id
        far = FarProxy(met, theirs)
        self._nursery.start_soon(self._run, far)
        self._nursery.start_soon(self._greet, far)
        return Dialled(ours, met)

    async def _run(self, far: FarProxy) -> None:
        try:
            await far.mux.run()
        except Exception:
            return

    async def _greet(self, far: FarProxy) -> None:
        far.control = far.mux.open_stream()
        if self.silent:
            return
        try:
            await far.say(
                self.first
                or ProxyHello(
                    protocol=self.protocol,
                    highest=self.highest,
                    version=tport.__version__,
                    proxy_id=self.calls_itself or far.proxy_id,
                    cluster=self.cluster,
                    proxies=self.known or tuple(self.proxies),
                )
            )
            far.hello = await far.hear()
            if far.hello is None:
                return
            assert isinstance(far.hello, AgentHello)
            self.hellos.append(far.hello)
            if far.hello.protocol != self.protocol and not self.highest:
                await far.die()  # as a proxy that speaks none of the agent's
                return
            await far.say(self.verdict)
        except trio.BrokenResourceError:
            return
        self.tunnels.append(far)

    def take(self, stream: MuxStream, nursery: trio.Nursery) -> None:
        stream.on_arrival = None
        nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: MuxStream) -> None:
        self.served.append(stream)
        while await stream.receive_some():
            pass
        await stream.send_all(b"answer")
        await stream.aclose()

    def live(self) -> list[str]:
        return sorted(far.proxy_id for far in self.tunnels if not far.mux.closed)


@pytest.fixture
async def address(nursery: trio.Nursery) -> Address:
    return Address(nursery)


def test_the_waits_double_to_a_few_seconds_and_after_five_minutes_to_a_minute() -> None:
    waits = list(islice(redial_delays(lambda: 1.0), 60))

    assert waits[:5] == [1, 2, 4, 8, QUICK]
    quick = [wait for wait in waits if wait == QUICK]
    assert 300 - QUICK <= 15 + QUICK * len(quick) <= 300 + QUICK
    assert waits[-1] == SLOW
    assert all(a <= b for a, b in pairwise(waits))


def test_the_waits_are_spread_from_nothing_to_the_whole() -> None:
    assert set(islice(redial_delays(lambda: 0.0), 10)) == {0}


async def test_it_says_who_it_is_and_what_it_offers(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()

    [far] = address.tunnels
    assert far.hello == AgentHello(
        protocol=HIGHEST,
        version=tport.__version__,
        agent_id="a1",
        hostname="host",
        apps=(GRAFANA,),
    )
    assert address.keeper.connected
    assert address.verdicts == [Verdicts(refused={}, hosts={})]


async def test_streams_are_served(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    stream = address.tunnels[0].mux.open_stream()
    await stream.send_all(b"request")
    await stream.send_eof()

    assert await stream.receive_some() == b"answer"


async def test_a_proxy_that_is_not_there_yet_is_waited_for(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.failure = ConnectionProblem("connection refused")

    async def come_up() -> None:
        await trio.sleep(6)
        assert address.keeper.problem == "connection refused"
        address.failure = None

    nursery.start_soon(come_up)
    await nursery.start(address.keeper.keep)

    assert address.dialled == [0, 1, 3, 7]
    assert address.keeper.problem == ""


async def test_a_lost_tunnel_is_dialled_again_after_a_wait(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A restarted proxy loses all its agents in one instant: they don't come back in one."""
    await nursery.start(address.keeper.keep)
    await trio.sleep(100)
    await address.tunnels[0].die()
    await wait_all_tasks_blocked()
    assert not address.keeper.connected
    await trio.sleep(10)

    assert address.dialled == [0, 101]
    assert address.keeper.connected


async def test_a_flapping_link_is_dialled_less_and_less(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """R-08: 3 s up, again and again: at most 30 dials in five minutes."""
    await nursery.start(address.keeper.keep)
    while trio.current_time() < 300:
        await trio.sleep(3)
        if address.keeper.connected:
            await address.tunnels[-1].die()

    assert len(address.dialled) <= 31


async def test_behind_one_address_it_finds_every_proxy(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.proxies = ["p1", "p2", "p3"]
    await nursery.start(address.keeper.keep)
    await trio.sleep(60)

    assert address.live() == ["p1", "p2", "p3"]
    settled = len(address.dialled)
    await trio.sleep(600)
    assert len(address.dialled) == settled


async def test_proxies_that_share_a_port_are_each_named_and_found_at_once(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.proxies, address.heeds = ["p1", "p2", "p3"], True
    await nursery.start(address.keeper.keep)
    await trio.sleep(1)

    assert address.live() == ["p1", "p2", "p3"]
    assert address.dialled == [0, 0, 0]
    assert address.meant[0] == ""
    assert sorted(address.meant[1:]) == ["p2", "p3"]


async def test_one_proxy_alone_is_never_named(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It may be older than the name, and refuse it."""
    await nursery.start(address.keeper.keep)
    address.keeper.renewed()
    await trio.sleep(10)
    await address.tunnels[-1].die()
    await trio.sleep(10)

    assert address.meant == ["", "", ""]


async def test_a_proxy_that_can_not_be_had_does_not_keep_the_agent_from_the_others(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.proxies, address.heeds = ["p1", "p2", "p3"], True
    address.known = ("gone", "p1", "p2", "p3")
    await nursery.start(address.keeper.keep)
    await trio.sleep(60)

    assert address.live() == ["p1", "p2", "p3"]


async def test_a_second_tunnel_to_the_same_proxy_is_not_kept(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The balancer sends every dial to p1, though p2 lives: patience, and never two."""
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    address.known = ("p1", "p2")
    await address.tunnels[0].say(Proxies(proxies=address.known))
    await trio.sleep(600)

    assert address.live() == ["p1"]
    assert len(address.dialled) < 60
    address.proxies = ["p2"]
    await trio.sleep(2 * SLOW)
    assert address.live() == ["p1", "p2"]


async def test_while_it_looks_for_another_proxy_the_loss_of_the_last_is_no_long_wait(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    address.known = ("p1", "gone")
    await address.tunnels[0].say(Proxies(proxies=address.known))
    await trio.sleep(1000)  # by now it looks once a minute
    address.proxies, address.known = ["p3"], ()
    await address.tunnels[0].die()
    await trio.sleep(5)

    assert address.live() == ["p3"]


async def test_after_a_renewal_a_new_tunnel_takes_over_and_the_old_ends_with_its_last_stream(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    [old] = address.tunnels
    running = old.mux.open_stream()
    await running.send_all(b"request")
    await wait_all_tasks_blocked()

    address.keeper.renewed()
    await trio.sleep(5)
    assert [far.proxy_id for far in address.tunnels] == ["p1", "p1"]
    assert await old.hear() is None  # the proxy hears that it's over, and says the same
    await old.control.aclose()
    await running.send_eof()
    assert await running.receive_some() == b"answer"
    await running.aclose()
    with trio.fail_after(5):
        await old.mux.wait_closed()
    assert not address.tunnels[1].mux.closed


async def test_a_stream_that_crossed_the_farewell_is_served(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The proxy opened it before it heard: nothing is refused until it has answered."""
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    [far] = address.tunnels
    retired = trio.Event()

    async def retire() -> None:
        await address.keeper.retire()
        retired.set()

    nursery.start_soon(retire)
    await wait_all_tasks_blocked()
    crossed = far.mux.open_stream()
    await crossed.send_all(b"request")
    await crossed.send_eof()
    assert await crossed.receive_some() == b"answer"
    await crossed.aclose()
    assert not retired.is_set()
    assert await far.hear() is None
    await far.control.aclose()

    with trio.fail_after(5):
        await retired.wait()
    assert address.dialled == [0]  # and none is opened any more


async def test_changed_offers_are_told_to_every_proxy(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.proxies = ["p1", "p2"]
    await nursery.start(address.keeper.keep)
    await trio.sleep(60)
    address.apps = ()
    address.keeper.offer_again()

    assert [await far.hear() for far in address.tunnels] == [Offers(apps=())] * 2


async def test_a_proxy_that_says_it_is_of_another_cluster_costs_no_other_its_tunnel(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """AG-10. Its certificate is of ours: so it lies, and must not end the agent for all."""
    address.known, address.heeds = ("p1", "p2"), True
    await nursery.start(address.keeper.keep)
    address.cluster, address.proxies = "other", ["p2"]
    await trio.sleep(120)

    assert address.keeper.connected
    assert "p2" in address.meant
    assert len(address.tunnels) == 1


async def test_what_another_proxy_is_refused_for_is_said_while_a_tunnel_is_held_and_once(
    address: Address,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All seems well else, and half of the people find no application."""
    address.known, address.heeds = ("p1", "p2"), True
    await nursery.start(address.keeper.keep)
    address.cluster, address.proxies = "other", ["p2"]
    await trio.sleep(120)
    assert caplog.text.count("the proxy is of cluster 'other'") == 1

    address.cluster = "a third"
    await trio.sleep(120)
    assert caplog.text.count("the proxy is of cluster 'other'") == 1
    assert caplog.text.count("the proxy is of cluster 'a third'") == 1

    address.cluster = "main"
    await trio.sleep(120)
    assert address.live() == ["p1", "p2"]
    [second] = [far for far in address.tunnels if far.proxy_id == "p2"]
    address.cluster = "other"
    await second.die()
    await trio.sleep(120)
    assert caplog.text.count("the proxy is of cluster 'other'") == 2
    assert "no tunnel:" not in caplog.text


async def test_a_proxy_gets_the_tunnel_to_no_other_by_calling_itself_so(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.proxies, address.known, address.calls_itself = ["p1"], ("p1", "p2"), "p2"
    nursery.start_soon(address.keeper.keep)
    await trio.sleep(30)
    assert not address.keeper.connected
    assert "otherwise than its certificate" in address.keeper.problem

    address.proxies, address.calls_itself = ["p2"], ""
    await trio.sleep(2 * QUICK)
    assert [far.proxy_id for far in address.tunnels] == ["p2"]


async def test_a_message_that_can_not_be_read_ends_its_tunnel_and_not_the_agent(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """AG-10."""
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    body = b"\x82\xa4type\xa7proxies\xa5later" + b"\x91" * 5_000 + b"\xc0"
    await address.tunnels[0].control.send_all(len(body).to_bytes(4, "big") + body)
    await trio.sleep(2 * QUICK)

    assert address.keeper.connected
    assert len(address.tunnels) == 2


@pytest.mark.parametrize(
    ("lowest", "highest"),
    [(LOWEST, 0), (LOWEST, HIGHEST), (LOWEST, HIGHEST + 1), (LOWEST - 1, HIGHEST)],
    ids=["0.1, which says one", "ours", "a newer one", "an older one"],
)
async def test_of_the_protocols_that_a_proxy_speaks_the_agent_takes_one_that_both_do(
    lowest: int, highest: int, address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    address.protocol, address.highest = lowest, highest
    await nursery.start(address.keeper.keep)

    hello = address.tunnels[0].hello
    assert isinstance(hello, AgentHello)
    assert hello.protocol == HIGHEST
    assert hello.apps == (GRAFANA,)


@pytest.mark.parametrize(
    ("lowest", "says", "upgrade"),
    [(HIGHEST + 1, HIGHEST, "this agent"), (LOWEST - 1, LOWEST, "the proxy")],
)
async def test_an_agent_too_far_from_its_proxy_tells_it_so_and_says_which_to_upgrade(
    lowest: int,
    says: int,
    upgrade: str,
    address: Address,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    """The proxy hears the agent's protocol, and says the same on its side; it learns of no offers."""
    address.protocol = lowest
    nursery.start_soon(address.keeper.keep)
    await trio.sleep(5)

    assert f"upgrade {upgrade}" in address.keeper.problem
    assert address.hellos
    assert {(hello.protocol, hello.apps) for hello in address.hellos} == {(says, ())}


@pytest.mark.parametrize("fault", ["silent", "protocol"])
async def test_a_proxy_that_can_not_be_talked_to_is_tried_again(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock, fault: str
) -> None:
    """R-35: the agent says which versions both sides speak, and comes once the proxy is another."""
    address.silent = fault == "silent"
    address.protocol = HIGHEST if address.silent else HIGHEST + 1
    nursery.start_soon(address.keeper.keep)
    await trio.sleep(30)
    assert not address.keeper.connected
    assert ("hello" if address.silent else "protocol") in address.keeper.problem
    address.silent, address.protocol = False, HIGHEST
    await trio.sleep(2 * QUICK)

    assert address.keeper.connected


@pytest.mark.parametrize(
    ("first", "verdict", "problem"),
    [
        (Proxies(proxies=("p1",)), Verdicts(refused={}, hosts={}), "first message is no hello"),
        (None, Proxies(proxies=("p1",)), "no verdict"),
    ],
)
async def test_a_proxy_that_does_not_keep_to_the_order_of_hellos_gets_no_tunnel(
    first: Control | None,
    verdict: Control,
    problem: str,
    address: Address,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    address.first, address.verdict = first, verdict
    nursery.start_soon(address.keeper.keep)
    await trio.sleep(10)

    assert not address.keeper.connected
    assert problem in address.keeper.problem


@pytest.mark.parametrize("says", ["hello again", "goodbye"])
async def test_a_tunnel_whose_proxy_ends_it_or_greets_again_is_dialled_anew(
    says: str,
    address: Address,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    [far] = address.tunnels
    if says == "goodbye":
        await far.control.send_eof()
        problem = "the proxy ended the tunnel"
    else:
        again = ProxyHello(
            protocol=HIGHEST, version="1", proxy_id="p1", cluster="main", proxies=("p1",)
        )
        await far.say(again)
        problem = "the proxy said hello twice"
    await trio.sleep(10)

    assert f"tunnel to the proxy lost: {problem}" in caplog.text
    assert len(address.dialled) == 2
    assert address.keeper.connected


async def test_a_dead_proxy_is_noticed_though_nothing_breaks(
    address: Address, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """R-04: no FIN, no RST, only silence: 15 s."""
    await nursery.start(address.keeper.keep)
    await wait_all_tasks_blocked()
    [far] = address.tunnels
    address.failure = ConnectionProblem("no route")

    async def drop() -> None:
        await trio.sleep_forever()

    stapled = far.transport
    assert isinstance(stapled, trio.StapledStream)
    stapled.send_stream.send_all_hook = drop
    began = trio.current_time()
    await far.mux.wait_closed()
    await trio.sleep(1)

    assert not address.keeper.connected
    assert trio.current_time() - began <= 21
