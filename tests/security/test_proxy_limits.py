"""Who sends too slowly, too much or too often is ended; all others are served meanwhile."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio

from tests.figures import BUSY
from tests.stack import Answer, Person, Stack, open_stack, read_answer
from tport.engine.config.model import ConnectionLimits
from tport.engine.defaults import ALPN_AUTH, STRANGER_REQUESTS
from tport.engine.net.seats import Room
from tport.engine.net.tls_stream import TlsStream

ATTACKER, ANOTHER, HONEST = "127.0.0.66", "127.0.0.67", "127.0.0.8"

FEW = ConnectionLimits(
    connections=40, connections_per_address=12, strangers=20, strangers_per_address=8
)


@pytest.fixture
async def narrow(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A cluster whose proxy has room for few connections, which count from their first moment."""
    monkeypatch.setattr("tport.engine.proxy_role.STRANGER_GRACE", 0.0)
    async with open_stack(drain=False, limits=FEW, diagnostics=True) as opened:
        yield opened


async def dial(stack: Stack, address: str) -> trio.SocketStream:
    """Connect to the proxy from this address of loopback."""
    return await trio.open_tcp_stream("127.0.0.1", stack.port, local_address=address)


async def shake(stack: Stack, stream: trio.SocketStream, host: str) -> TlsStream:
    tls = TlsStream(stream, stack.context(), server_side=False, server_name=host, ragged_end=True)
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return tls


async def ask(stack: Stack, address: str, person: Person | None = None) -> Answer:
    """Ask the application from an address, with a person's session or none."""
    host = stack.host("echo")
    cookie = f"Cookie: {person.cookie('echo')}\r\n" if person else ""
    with trio.fail_after(5):
        async with await shake(stack, await dial(stack, address), host) as tls:
            await tls.send_all(f"GET / HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n".encode())
            return await read_answer(tls)


@asynccontextmanager
async def held(
    stack: Stack, address: str, count: int, stage: str
) -> AsyncIterator[list[TlsStream]]:
    """Hold connections from an address, each stuck at a stage; then leave."""
    host = stack.host("echo")
    async with AsyncExitStack() as streams:
        opened: list[TlsStream] = []
        for _ in range(count):
            stream = await streams.enter_async_context(await dial(stack, address))
            if stage == "connected":
                continue
            if stage == "hello":
                await stream.send_all(b"\x16\x03\x01\x02\x00\x01")
                continue
            try:
                tls = await shake(stack, stream, stack.proxy_url[8:].partition(":")[0])
            except trio.BrokenResourceError:
                continue  # ended already, as whoever takes too long is
            opened.append(tls)
            match stage:
                case "head":
                    await tls.send_all(b"GET / HTTP/1.1\r\nHost: ")
                case "body":
                    await tls.send_all(
                        f"POST /web/login HTTP/1.1\r\nHost: {host.partition('.')[2]}\r\n"
                        "Content-Length: 1000\r\n\r\nuser".encode()
                    )
                case _:
                    pass  # idle after its handshake
        await trio.testing.wait_all_tasks_blocked(0.05)
        yield opened


async def shed(stack: Stack, what: str) -> float:
    """Return how often the proxy says that it shed this."""
    text = (await stack.diagnose("/metrics")).body.decode()
    found = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(f'tport_shed_total{{what="{what}"}}')
    ]
    return found[0] if found else 0.0


async def strangers(stack: Stack) -> float:
    """Return how many connections the proxy holds of which it doesn't know whose they are."""
    text = (await stack.diagnose("/metrics")).body.decode()
    [line] = [each for each in text.splitlines() if each.startswith("tport_strangers")]
    return float(line.rpartition(" ")[2])


STAGES = ["connected", "hello", "idle", "head", "body"]


@pytest.mark.parametrize("stage", STAGES)
async def test_dos_01_whoever_holds_connections_only_ends_their_own(
    narrow: Stack, stage: str
) -> None:
    """DOS-01: 40 held where 8 of an address may be; others, strangers or not, are answered at once."""
    alice = await narrow.user("alice")
    await alice.open("echo")

    async with held(narrow, ATTACKER, 40, stage):
        assert (await ask(narrow, HONEST, alice)).status == 200
        assert (await ask(narrow, HONEST)).status == 401
        assert await strangers(narrow) <= FEW.strangers_per_address + 1  # who was just answered
        assert await shed(narrow, "resting") > 0  # some may have ended by being slow before
        assert await shed(narrow, "connections") == 0


@pytest.mark.parametrize("stage", STAGES)
async def test_dos_01_many_addresses_together_hold_no_more_than_the_room_of_strangers(
    narrow: Stack, stage: str
) -> None:
    """DOS-01: six addresses that hold eight each, where strangers have room for 20."""
    alice = await narrow.user("alice")
    await alice.open("echo")

    async with AsyncExitStack() as attack:
        for number in range(6):
            await attack.enter_async_context(held(narrow, f"127.0.1.{number}", 8, stage))
        for _ in range(3):
            assert (await ask(narrow, HONEST, alice)).status == 200
        assert await strangers(narrow) <= FEW.strangers
        assert await shed(narrow, "resting") > 0  # some may have ended by being slow before


async def test_dos_01_who_is_known_is_no_stranger_and_keeps_the_connection(narrow: Stack) -> None:
    """DOS-01: more than the strangers' share of one address, once each has shown a session."""
    alice = await narrow.user("alice")
    await alice.open("echo")
    host = narrow.host("echo")
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {alice.cookie('echo')}\r\n\r\n".encode()

    async with AsyncExitStack() as streams:
        kept = []
        for _ in range(FEW.connections_per_address - 1):
            tls = await shake(narrow, await dial(narrow, HONEST), host)
            kept.append(await streams.enter_async_context(tls))
            await tls.send_all(request)
            assert (await read_answer(tls)).status == 200
        async with held(narrow, ANOTHER, 30, "idle"):
            for tls in kept:
                await tls.send_all(request)
                assert (await read_answer(tls)).status == 200


async def test_dos_01_where_all_are_at_work_one_more_is_closed_and_none_is_cut(
    narrow: Stack,
) -> None:
    """DOS-01: downloads go on; who comes too late finds the door closed, and comes in later."""
    alice = await narrow.user("alice")
    await alice.open("raw")
    host = narrow.host("raw")

    async def endless(stream: trio.SocketStream) -> None:
        await narrow.raw_app.take_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndrip\r\n")
        await trio.sleep_forever()

    narrow.raw_app.script = endless
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {alice.cookie('raw')}\r\n\r\n".encode()
    async with AsyncExitStack() as streams:
        downloads = []
        for _ in range(FEW.connections_per_address):
            tls = await shake(narrow, await dial(narrow, HONEST), host)
            downloads.append(await streams.enter_async_context(tls))
            await tls.send_all(request)
            assert b"200 OK" in await tls.receive_some()

        with pytest.raises((trio.BrokenResourceError, OSError, ssl.SSLError)):
            await shake(narrow, await dial(narrow, HONEST), host)
        assert await shed(narrow, "address") == 1
        assert (await ask(narrow, ANOTHER)).status == 401  # there is room, and not for this address
        await downloads.pop().aclose()
        with trio.fail_after(5):
            while True:
                try:
                    await trio.aclose_forcefully(
                        await shake(narrow, await dial(narrow, HONEST), host)
                    )
                    break
                except (trio.BrokenResourceError, OSError, ssl.SSLError):
                    await trio.sleep(0.05)  # its end is on its way, in real time


async def test_dos_01_agents_keep_their_tunnels_and_calls_while_strangers_knock(
    narrow: Stack,
) -> None:
    """DOS-01, DOS-08: a tunnel is never ended to make room."""
    alice = await narrow.user("alice")
    await alice.open("echo")

    for stage in STAGES:
        async with held(narrow, "127.0.0.1", 30, stage):  # the agent's own address
            assert (await ask(narrow, HONEST, alice)).status == 200
    assert len(await narrow.events("tunnel.down")) == 0


async def test_dos_01_an_address_of_strangers_begins_so_many_connections_a_second_and_no_more() -> (
    None
):
    """DOS-01: what costs CPU. Others are served at once, and theirs too once somebody signed in there."""
    slow = ConnectionLimits(strangers_per_address=4, new_per_address=1)
    async with open_stack(drain=False, limits=slow, diagnostics=True) as stack:
        alice = await stack.user("alice")
        await alice.open("echo")

        async def ended(count: int, seconds: float) -> int:
            """Return how many of so many handshakes are over within this time."""
            over = 0

            async def knock() -> None:
                nonlocal over
                with suppress(trio.BrokenResourceError):  # it is one too many
                    await trio.aclose_forcefully(
                        await shake(stack, await dial(stack, ATTACKER), stack.host("echo"))
                    )
                    over += 1

            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    for _ in range(count):
                        nursery.start_soon(knock)
            return over

        began = trio.current_time()
        over = await ended(8, 0.5)
        assert over <= 4 + 1 + (trio.current_time() - began)
        assert (await ask(stack, HONEST)).status == 401
        for _ in range(8):
            assert (await ask(stack, HONEST, alice)).status == 200
        with trio.fail_after(10 * BUSY):
            while await shed(stack, "pace") == 0:
                await ended(10, 0.5)
        assert (await ask(stack, HONEST, alice)).status == 200

        with trio.fail_after(10 * BUSY):  # her first connection from there waits like theirs
            while True:
                with suppress(trio.BrokenResourceError, trio.TooSlowError):
                    assert (await ask(stack, ATTACKER, alice)).status == 200
                    break
        assert await ended(12, 10 * BUSY) == 12, "somebody is known there by now"


async def test_dos_01_who_asks_for_auth_has_shown_nothing_and_waits_like_others() -> None:
    """DOS-01: else one such connection would have all others of its address served at once."""
    slow = ConnectionLimits(strangers_per_address=4, new_per_address=1)
    async with open_stack(drain=False, limits=slow, diagnostics=True) as stack:
        context = stack.context(alpn=[ALPN_AUTH], verify=False)
        stream = await dial(stack, ATTACKER)
        tls = TlsStream(stream, context, server_side=False, server_name=None)
        await tls.do_handshake()  # by auth, to which it was given
        for _ in range(20):
            with suppress(trio.BrokenResourceError), trio.move_on_after(0.1):
                await trio.aclose_forcefully(
                    await shake(stack, await dial(stack, ATTACKER), stack.host("echo"))
                )
        assert await shed(stack, "pace") > 0
        await trio.aclose_forcefully(tls)


async def test_dos_01_a_strangers_connection_brings_so_many_requests_and_ends(stack: Stack) -> None:
    """DOS-01: else one connection would ask as often as a thousand that wait for their turn."""
    alice = await stack.user("alice")
    await alice.open("echo")
    host = stack.host("echo")

    async def asked(cookie: str) -> int:
        """Return how many requests were answered before the proxy ended the connection, or 40."""
        answered, closed = 0, False
        async with await stack.connect(host) as tls:
            while answered < 40 and not closed:
                await tls.send_all(f"GET / HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n".encode())
                closed = (await read_answer(tls)).closed
                answered += 1
        return answered

    assert await asked("") == STRANGER_REQUESTS
    assert await asked(f"Cookie: {alice.cookie('echo')}\r\n") == 40


async def test_dos_01_strangers_at_auth_keep_no_machine_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DOS-01: auth is reached by the public port, too, and has a room of its own for who shows no certificate."""
    room = Room(connections=20, per_address=20, strangers=6, strangers_per_address=4)
    monkeypatch.setattr("tport.engine.auth.server._ROOM", room)
    async with open_stack(drain=False, diagnostics=True) as stack, AsyncExitStack() as attack:
        context = stack.context(alpn=[ALPN_AUTH], verify=False)

        async def knock(address: str) -> TlsStream:
            stream = await dial(stack, address)
            tls = TlsStream(stream, context, server_side=False, server_name=None)
            await tls.do_handshake()
            return await attack.enter_async_context(tls)

        for number in range(5):
            for _ in range(6):
                with suppress(trio.BrokenResourceError, OSError):
                    await knock(f"127.0.1.{number}")
        with trio.fail_after(5):
            tls = await knock(HONEST)
            await tls.send_all(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert (await read_answer(tls)).status == 404
        assert await shed(stack, "auth-resting") >= 24
        assert await shed(stack, "auth-connections") == 0
        alice = await stack.user("alice")
        await alice.open("echo")
        assert (await ask(stack, HONEST, alice)).status == 200
        assert len(await stack.events("tunnel.down")) == 0
