"""The network between agent and proxy: hosts that vanish, lines that lie, names that move.

Time is the cluster's own and runs faster than the wall's: what is measured is what its timers do.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from tests.fault_proxy import FaultProxy, open_fault_proxy
from tests.faults.places import (
    ask,
    offering,
    open_agent,
    open_teller,
    prefers,
    until,
    wanted,
)
from tests.figures import Hold
from tests.stack import Person, Stack, open_stack
from tport.engine.api.answers import AgentInfo
from tport.engine.types.app import App

# How much faster than the wall's the cluster's time runs once it is set up: until then each change waits for
# the disk, which is no faster.
RATE: Final = 4.0
NOTICED: Final = 15.0  # s in which a tunnel without signs of life is given up
REROUTED: Final = 1.0  # s more for the request to be answered through the other agent
BACK: Final = 10.0  # s in which an agent is back whose proxy can be reached again

OFTEN = [pytest.mark.torture, pytest.mark.timeout(300)]

# How a connection ends for a client of which bytes were changed; the last: it waits for bytes that
# a length that was changed promises.
BROKEN: Final = (EOFError, OSError, trio.BrokenResourceError, trio.TooSlowError)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1)


@dataclass
class Two:
    """A cluster with two agents that offer `shared`: `near`, and `far`, behind the line."""

    stack: Stack
    line: FaultProxy
    person: Person  # whose session prefers `far`


@asynccontextmanager
async def open_two(clock: MockClock) -> AsyncIterator[Two]:
    async with open_stack(debug_app=False, drain=False) as stack, open_teller() as teller:
        app = App(name="shared", uri=f"http://127.0.0.1:{teller.port}")
        async with (
            open_fault_proxy(stack.port, seed=1) as line,
            open_agent(stack, "near", [app]),
            open_agent(stack, "far", [app], port=line.port),
        ):
            person = await stack.user("alice")
            await prefers(person, "shared", "far")
            clock.rate = RATE
            yield Two(stack, line, person)


async def agents(stack: Stack, name: str) -> list[AgentInfo]:
    status = await stack.admin.status()
    return [each for each in status.agents if each.hostname == name]


async def lost_and_back(
    two: Two, break_: Callable[[], None], away: float
) -> tuple[float, float, float]:
    """Break the line while a request runs, and mend it `away` seconds after auth knows of it.

    Returns seconds: until the request was answered, until auth knew, from mending until `far` was back.
    """
    told: list[float] = []

    async def in_flight() -> None:
        answer = await ask(two.person, "shared")
        told.append(trio.current_time() - began)
        assert (answer.status, answer.body) == (200, b"near")

    async def is_known() -> bool:
        return await offering(two.stack, "shared") == {"near"}

    async def is_back() -> bool:
        return await offering(two.stack, "shared") == {"near", "far"}

    break_()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_flight)
        known = await until(is_known, "the lost agent's offer is gone", 60)
    await trio.sleep(away)
    two.line.heal()
    return told[0], known, await until(is_back, "the agent is back", 60)


def p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


@pytest.mark.parametrize(
    ("id_", "ways", "times"),
    [
        pytest.param("R-04", "both", 1, id="both"),
        pytest.param("R-06", "up", 1, id="up"),
        pytest.param("R-06", "down", 1, id="down"),
        pytest.param("R-04", "both", 20, id="both-often", marks=OFTEN),
    ],
)
async def test_a_host_that_vanishes_is_noticed_what_ran_is_asked_elsewhere_and_it_comes_back(
    clock: MockClock, hold: Hold, id_: str, ways: str, times: int
) -> None:
    """R-04, R-06: nothing is told, not even an end; both ways, or one alone."""
    async with open_two(clock) as two:

        def break_() -> None:
            if ways in ("both", "up"):
                two.line.up.hold()
            if ways in ("both", "down"):
                two.line.down.hold()

        rounds = []
        for number in range(times):
            rounds.append(await lost_and_back(two, break_, away=7.0 * (number % 4)))
            await prefers(two.person, "shared", "far")

    answered, known, back = zip(*rounds, strict=True)
    what = f"{id_} {ways} held, {times} times:"
    hold(f"{what} known", max(known), "s", at_most=NOTICED)
    hold(f"{what} answered by the other", max(answered), "s", at_most=NOTICED + REROUTED)
    hold(f"{what} back (p95)", p95(back), "s", at_most=BACK)


async def test_a_tunnel_whose_other_end_has_forgotten_it_is_dialled_anew_and_shown_once(
    clock: MockClock, hold: Hold
) -> None:
    """R-05: a line that lost its table carries what is new; nobody is told of what was."""
    async with open_two(clock) as two:
        [old] = await agents(two.stack, "far")
        two.line.forget()
        began = trio.current_time()

        async def is_new() -> bool:
            found = await agents(two.stack, "far")
            assert len(found) <= 1
            return bool(found) and found[0].since != old.since

        await until(is_new, "a new tunnel", 60)
        took = trio.current_time() - began
        await prefers(two.person, "shared", "far")

    hold("R-05 forgotten tunnel dialled anew", took, "s", at_most=NOTICED + BACK)


async def test_a_slow_line_that_shakes_loses_no_tunnel_and_no_byte(clock: MockClock) -> None:
    """R-07: 200 ms each way, 200 more by chance; downloads are what they were."""
    async with open_two(clock) as two:
        before = await agents(two.stack, "far")
        for way in (two.line.up, two.line.down):
            way.delay, way.jitter = 0.2, 0.2
        bodies: list[bytes] = []

        async def download(size: int) -> None:
            bodies.append((await ask(two.person, "shared", f"/sized/{size}")).body)

        async with trio.open_nursery() as nursery:
            for size in (1, 1000, 100_000, 400_000):
                nursery.start_soon(download, size)

        assert sorted(map(len, bodies)) == [1, 1000, 100_000, 400_000]
        assert all(body == wanted(len(body)) for body in bodies)
        assert await agents(two.stack, "far") == before, "the tunnel is the one it was"


@pytest.mark.parametrize(
    "downloads",
    [
        pytest.param(60, id="60"),
        pytest.param(1000, id="1000", marks=OFTEN),
    ],
)
@pytest.mark.parametrize("where", ["client", "agent"])
async def test_a_line_that_turns_bits_over_breaks_connections_and_no_answer(
    clock: MockClock, hold: Hold, where: str, downloads: int
) -> None:
    """R-07: an answer is right or broken off, never wrong; between client and proxy, or proxy and agent."""
    right = 0
    async with open_two(clock) as two, open_fault_proxy(two.stack.port, seed=2) as front:
        line = two.line
        if where == "client":
            line, two.stack.port = front, front.port
        for way in (line.up, line.down):
            way.flips = 0.02
        for number in range(downloads):
            size = 1000 * (number % 50)
            try:
                answer = await ask(two.person, "shared", f"/sized/{size}", patience=15)
            except BROKEN:
                continue
            if answer.status == 200:
                assert answer.body == wanted(size)
                right += 1
            else:
                assert answer.status in (502, 503, 504)
        flipped = line.up.flipped + line.down.flipped

    assert flipped > 0
    what = f"R-07 answers that were right, the line to the {where} lying"
    hold(f"{what} ({flipped} bits in {downloads} downloads)", right, at_least=downloads / 2)


async def test_a_line_that_flaps_is_not_dialled_without_end(clock: MockClock, hold: Hold) -> None:
    """R-08: 3 s up, 3 s down. All dials: tunnels, the watch of auth, calls to it.

    tests/engine/agent/test_tunnel.py holds the tunnel's alone to 30 in five minutes.
    """
    async with open_two(clock) as two:
        before = two.line.dials
        for _ in range(5):
            two.line.refuses = True
            two.line.reset()
            await trio.sleep(3)
            two.line.refuses = False
            await trio.sleep(3)
        dials = two.line.dials - before

        async def is_back() -> bool:
            return "far" in await offering(two.stack, "shared")

        back = await until(is_back, "the agent is back", 60)

    hold("R-08 dials of all kinds in 30 s of flapping", dials, at_most=30)
    hold("R-08 back after 30 s of flapping", back, "s", at_most=BACK)


class Names(trio.abc.HostnameResolver):
    """Knows where `proxy.test` is now, and nothing else."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def getaddrinfo(
        self, host: bytes | None, port: Any, family: int = 0, *_: int
    ) -> list[tuple[Any, ...]]:
        if host != b"proxy.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, socket.IPPROTO_TCP, "", (self.address, port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such address")


async def test_a_proxy_that_moves_to_another_address_is_found_by_its_name(
    clock: MockClock, hold: Hold
) -> None:
    """R-36: the name is asked for at each dial."""
    names = Names("127.0.0.1")
    trio.socket.set_custom_hostname_resolver(names)
    app = App(name="shared", uri="http://127.0.0.1:1")
    async with (
        open_stack(debug_app=False, drain=False, domain="proxy.test") as stack,
        open_fault_proxy(stack.port, host="127.0.0.1") as old,
        open_fault_proxy(stack.port, host="127.0.0.2", at=old.port) as new,
        open_agent(stack, "far", [app], host="proxy.test", port=old.port),
    ):
        assert new.dials == 0
        clock.rate = RATE
        names.address = "127.0.0.2"
        old.refuses = True
        old.reset()

        async def has_moved() -> bool:
            return new.dials >= 1 and await offering(stack, "shared") == {"far"}

        took = await until(has_moved, "the agent is back", 60)

    hold("R-36 back after the proxy's name moved", took, "s", at_most=60)
