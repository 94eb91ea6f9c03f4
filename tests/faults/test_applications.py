"""Applications that hang, break off, drip, talk nonsense or are not there; and the others beside them."""

from __future__ import annotations

import random
import socket
import struct
from statistics import median
from typing import Any, Final

import pytest
import trio

from tests.faults.places import ask, machine, offering, open_agent, open_teller, until
from tests.figures import Hold
from tests.stack import Person, Stack, open_stack
from tport.engine.types.app import App, Timeouts

LONG = [pytest.mark.torture, pytest.mark.timeout(300)]
AT_ONCE: Final = 1.0  # s in which a failure that is known is told
CUT: Final = (EOFError, OSError, trio.BrokenResourceError)
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset


async def opened(stack: Stack, *apps: str) -> Person:
    """A person with a session for each of these applications."""
    alice = await stack.user("alice")
    for app in apps:
        await alice.open(app)
    return alice


async def durations(person: Person, app: str, times: int) -> list[float]:
    """Ask one after the other, all must be answered; return how long each took, in seconds."""
    took = []
    for _ in range(times):
        began = trio.current_time()
        assert (await ask(person, app)).status == 200
        took.append(trio.current_time() - began)
    return took


def p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


# --- Hangs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stuck", "times"),
    [pytest.param(50, 50, id="50"), pytest.param(1000, 500, id="1000", marks=LONG)],
)
async def test_requests_that_an_application_never_answers_cost_the_others_nothing(
    hold: Hold, stuck: int, times: int
) -> None:
    """R-22: the application beside it answers as it did before."""
    at_once = trio.CapacityLimiter(20)  # strangers: what too many of those do is another test's
    waiting, stood = trio.Semaphore(0), trio.Semaphore(0)
    async with open_stack(debug_app=False, drain=False) as stack:

        async def hang(stream: trio.SocketStream) -> None:
            if await stack.raw_app.take_head(stream):
                waiting.release()
                await trio.sleep_forever()

        async def be_stuck() -> None:
            host = stack.host("raw")
            async with at_once:
                client = await stack.connect(host)
                head = f"GET / HTTP/1.1\r\nHost: {host}:{stack.port}\r\n"
                await client.send_all(f"{head}Cookie: {alice.cookie('raw')}\r\n\r\n".encode())
                await waiting.acquire()
                stood.release()
            try:
                await client.receive_some(1)
            finally:
                await trio.aclose_forcefully(client)

        stack.raw_app.script = hang
        alice = await opened(stack, "raw", "echo")
        alone = await durations(alice, "echo", times)
        async with trio.open_nursery() as nursery:
            for _ in range(stuck):
                nursery.start_soon(be_stuck)
            with trio.fail_after(90):
                for _ in range(stuck):
                    await stood.acquire()
            beside = await durations(alice, "echo", times)
            nursery.cancel_scope.cancel()

    what = f"R-22 an application beside {stuck} stuck requests, its time by that alone:"
    bar = 2 if stuck >= 1000 else None  # what else the machine does decides what few of them take
    hold(f"{what} median", median(beside) / median(alone), at_most=bar)
    hold(f"{what} p99", p99(beside) / p99(alone), at_most=bar)


async def test_an_application_that_hangs_is_given_up_when_its_definition_says_so(
    hold: Hold,
) -> None:
    """R-22: 504 at its limit, and no sooner."""
    limit = 0.5
    [silent] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with silent:
        uri = f"http://127.0.0.1:{silent.socket.getsockname()[1]}"
        hung = App(name="hung", uri=uri, timeouts=Timeouts(response_head=limit))
        async with open_stack(apps=[hung], debug_app=False, drain=False) as stack:
            alice = await opened(stack, "hung")
            began = trio.current_time()
            answer = await ask(alice, "hung")
            took = trio.current_time() - began

    assert answer.status == 504
    assert took >= limit
    hold("R-22 a hung application is given up, past its limit", took - limit, "s", at_most=AT_ONCE)


# --- Breaks off, drips, talks nonsense -----------------------------------------------------------------


@pytest.mark.parametrize(
    "cuts", [pytest.param(60, id="60"), pytest.param(1000, id="1000", marks=LONG)]
)
async def test_an_answer_that_is_reset_at_any_byte_never_looks_whole(hold: Hold, cuts: int) -> None:
    """R-23: by length or by chunks; what comes is a part of what was sent, and an error after it."""
    chance = random.Random(23)
    whole = 0
    body = chance.randbytes(50_000)
    length = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + body
    pieces = [body[at : at + 7000] for at in range(0, len(body), 7000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    async with open_stack(debug_app=False, drain=False) as stack:
        alice = await opened(stack, "raw", "echo")
        for number in range(cuts):
            sent = chunked if number % 2 else length
            # At each border, too: all of the head and nothing more, all but the last byte.
            at = chance.choice((chance.randrange(len(sent)), len(sent) - 1, sent.find(b"\r\n\r\n")))

            async def script(stream: trio.SocketStream, part: bytes = sent[:at]) -> None:
                if await stack.raw_app.take_head(stream):
                    await stream.send_all(part)
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

            stack.raw_app.script = script
            try:
                answer = await ask(alice, "raw")
            except CUT:
                continue
            whole += answer.status != 502  # a page of the proxy's own, where nothing had come
        assert (await ask(alice, "echo")).body == b"hello"

    hold(f"R-23 answers cut at any byte and taken for whole, of {cuts}", whole, at_most=0)


async def test_an_answer_that_drips_comes_as_it_drips_and_a_client_that_drips_holds_it_up() -> None:
    """R-24: a byte is here before the next is sent; what nobody reads isn't asked for."""
    sent = 0
    async with open_stack(debug_app=False, drain=False) as stack:
        alice = await opened(stack, "raw")
        host = stack.host("raw")
        go_on = trio.Semaphore(0)

        async def drip(stream: trio.SocketStream) -> None:
            nonlocal sent
            if not await stack.raw_app.take_head(stream):
                return
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(20):
                await go_on.acquire()
                await stream.send_all(b".")
            while True:
                await stream.send_all(bytes(65536))
                sent += 65536

        stack.raw_app.script = drip
        client = await stack.connect(host)
        asked = f"GET / HTTP/1.1\r\nHost: {host}:{stack.port}\r\nCookie: {alice.cookie('raw')}"
        await client.send_all(f"{asked}\r\n\r\n".encode())
        head, body = b"", b""
        with trio.fail_after(10):
            while not head.endswith(b"\r\n\r\n"):
                head += await client.receive_some(1)
            for number in range(20):
                assert body.count(b".") == number
                go_on.release()
                while body.count(b".") == number:
                    body += await client.receive_some(1000)

        async def stands() -> bool:
            before = sent
            await trio.sleep(0.3)
            return sent == before > 0

        await until(stands, "the application can send no more", 20)
        await trio.aclose_forcefully(client)

    # Of this machine's sockets (4 MiB each way at most), and a stream's window.
    assert sent < 32 * 1024 * 1024


@pytest.mark.parametrize(
    "answers", [pytest.param(120, id="120"), pytest.param(2000, id="2000", marks=LONG)]
)
async def test_nonsense_for_an_answer_is_told_as_that_and_costs_the_agent_nothing(
    hold: Hold, answers: int
) -> None:
    """R-26: any bytes, or an answer with bytes turned over; never a tunnel, never another application.

    The parser alone is fuzzed by tests/fuzz.
    """
    chance = random.Random(26)
    good = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=b; Path=/\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    statuses: dict[int, int] = {}
    async with open_stack(debug_app=False, drain=False) as stack:
        alice = await opened(stack, "raw", "echo")
        [before] = (await stack.admin.status()).agents
        host, cookie = stack.host("raw"), alice.cookie("raw")
        request = (
            f"GET / HTTP/1.1\r\nHost: {host}:{stack.port}\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        client = None
        for number in range(answers):
            if number % 3 == 0:
                junk = chance.randbytes(chance.randrange(200))
            elif number % 3 == 1:
                broken = bytearray(good)
                for _ in range(chance.randrange(1, 4)):
                    broken[chance.randrange(len(good))] = chance.randrange(256)
                junk = bytes(broken)
            else:
                junk = b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"a" * chance.randrange(200_000)
            stack.raw_app.answers(junk)
            client = client or await stack.connect(host)
            with trio.fail_after(20):
                try:
                    await client.send_all(request)
                    status = int((await client.receive_some(12)).split()[1])
                except (*CUT, IndexError):
                    status = 0
            await trio.aclose_forcefully(client)
            client = None
            statuses[status] = statuses.get(status, 0) + 1
        assert (await ask(alice, "echo")).body == b"hello"
        [after] = (await stack.admin.status()).agents

    assert after == before, "the tunnel is the one it was"
    assert statuses[502] > answers / 2
    hold(
        f"R-26 answers of the proxy to {answers} of nonsense that are its own failure",
        statuses.get(500, 0),
        at_most=0,
    )


# --- Not there --------------------------------------------------------------------------------------


class Names(trio.abc.HostnameResolver):
    """Names as each agent's machine knows them: `app.test` is a dead host for the one called `bad`."""

    def __init__(self) -> None:
        self.asked = 0

    async def getaddrinfo(
        self, host: bytes | None, port: Any, family: int = 0, *_: int
    ) -> list[tuple[Any, ...]]:
        if host != b"app.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked += machine() == "bad"
        address = "127.0.0.9" if machine() == "bad" else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such address")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "http://nowhere.test:80"])
async def test_an_application_that_is_not_there_is_told_as_that_at_once(
    hold: Hold, uri: str
) -> None:
    """R-25: nothing listens, or its name can't be found."""
    trio.socket.set_custom_hostname_resolver(Names())
    gone = App(name="gone", uri=uri)
    async with open_stack(apps=[gone], debug_app=False, drain=False) as stack:
        alice = await opened(stack, "gone")
        began = trio.current_time()
        answer = await ask(alice, "gone")
        took = trio.current_time() - began

    assert answer.status == 502
    assert b'"hop":"app"' in answer.body
    hold(f"R-25 {uri} told as not there", took, "s", at_most=AT_ONCE)


async def test_of_two_agents_one_that_does_not_reach_the_application_costs_no_request(
    hold: Hold,
) -> None:
    """R-25, R-37: what wasn't begun is asked of the other, a POST too; and soon the bad one comes last."""
    names = Names()
    trio.socket.set_custom_hostname_resolver(names)
    async with open_stack(debug_app=False, drain=False) as stack, open_teller() as teller:
        app = App(name="shared", uri=f"http://app.test:{teller.port}")
        async with open_agent(stack, "good", [app]), open_agent(stack, "bad", [app]):
            alice = await stack.user("alice")
            failed = 0
            for number in range(60):
                if number % 10 == 0:
                    await alice.open("shared")  # each session has its own order of agents
                body = b"x" * 100 if number % 2 else b""
                answer = await ask(alice, "shared", method="POST" if body else "GET", body=body)
                failed += (answer.status, answer.body) != (200, b"good")
            assert names.asked > 0, "the bad one was never asked"

            async def is_avoided() -> bool:
                before = names.asked
                for _ in range(10):
                    await alice.open("shared")
                    assert (await ask(alice, "shared")).body == b"good"
                return names.asked == before

            await until(is_avoided, "the bad one is asked last", 30)
            assert await offering(stack, "shared") == {"good", "bad"}

    hold("R-37 requests that failed because one of two agents is bad, of 60", failed, at_most=0)
