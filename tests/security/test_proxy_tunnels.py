"""A tunnel's far end against everybody else: it breaks its own tunnel, and holds up nobody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
import trio

from tests.rogue import RogueAgent, open_rogue_agent, open_rogue_proxy, peek, request_head
from tests.security.test_mux import frame
from tests.stack import DOMAIN, Stack, open_stack, read_all
from tport.engine.agent.approval import join_by_approval
from tport.engine.agent.join import join_cluster
from tport.engine.agent.state import AgentState
from tport.engine.config.address import Address
from tport.engine.defaults import ALPN_AUTH, ALPN_TUNNEL, INITIAL_WINDOW
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)
from tport.engine.net.flow import relay
from tport.engine.net.mux import Mux
from tport.engine.net.tls import connect_tls
from tport.engine.net.tls_stream import TlsStream
from tport.engine.pki.authority import bundle_pin
from tport.engine.pki.contexts import tunnel_client_context
from tport.engine.process import wall_clock
from tport.engine.proto.tunnel import AgentHello, Control, NoAnswer, Proxies, ProxyHello, Verdicts
from tport.engine.proto.yamux import ACK, DATA, FIN, PING, SYN, WINDOW_UPDATE
from tport.engine.proxy.shares import Shares
from tport.engine.types.app import App

ROOM = 12  # streams in a tunnel here, instead of over a thousand
STALLED = 8
SHARE = 6  # of them for one session, in the test about that
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    monkeypatch.setattr("tport.engine.proxy.tunnels.Mux", partial(Mux, max_streams=ROOM))
    async with open_stack(drain=False) as opened:
        yield opened


# --- What breaks the rules ----------------------------------------------------------------------------

BREACHES = {
    "credit beyond 2^32": frame(WINDOW_UPDATE, 0, 1, 0xFFFF0000) * 2,
    "more than its window": frame(DATA, 0, 1, INITIAL_WINDOW + 1),
    "a stream opened with more than its window": frame(DATA, SYN, 2, INITIAL_WINDOW + 1),
    "an id that is taken": frame(WINDOW_UPDATE, SYN, 1),
    "data for a stream that never was": frame(DATA, 0, 77, b"x"),
    "data after the end": frame(DATA, FIN, 1) + frame(DATA, 0, 1, b"x"),
    "a reserved flag": frame(WINDOW_UPDATE, 16, 1),
    "an unknown type": frame(4, 0, 0),
    "a ping that is question and answer": frame(PING, SYN | ACK, 0),
    "pings whose answers it does not read": frame(PING, SYN, 0, 7) * 200_000,
}


async def _say(agent: RogueAgent, words: bytes) -> None:
    """Open a tunnel, say this in it, and wait until the proxy has had enough."""
    context = tunnel_client_context(agent.state.pair, agent.state.authorities.host)
    plain = await trio.open_tcp_stream("127.0.0.1", agent.stack.port)
    async with await connect_tls(plain, context, server_name=None, alpn=ALPN_TUNNEL) as tls:
        await tls.receive_some()  # its hello
        await tls.send_all(words)
        await read_all(tls)


@pytest.mark.parametrize("name", BREACHES)
async def test_ag_10_who_breaks_a_tunnels_rules_ends_that_tunnel_and_no_other(
    stack: Stack, name: str
) -> None:
    """AG-10: genuine certificate, and then arithmetic and ids that an honest agent never sends."""
    alice = await stack.user("alice")
    assert (await alice.get("echo")).status == 200
    async with open_rogue_agent(stack) as agent:
        with trio.move_on_after(10) as waiting:
            try:
                await _say(agent, BREACHES[name])
            except trio.BrokenResourceError:
                pass  # a reset is as good an end of it
        assert not waiting.cancelled_caught, "the tunnel stands"
        await stack.event("tunnel.protocol_error", host_id=agent.state.host_id)
        ended = await stack.events("tunnel.down")

        assert (await alice.get("echo")).status == 200
        assert agent.state.host_id not in {event["host_id"] for event in ended}


@pytest.mark.parametrize(
    "news",
    [
        Proxies(proxies=("rogue", "\u00e9")),
        Proxies(proxies=("rogue", "x" * 300)),
        Proxies(proxies=("rogue", "")),
        Proxies(proxies=("rogue", "a\nb")),
        Proxies(proxies=tuple(map(str, range(5000)))),
        Verdicts(refused={"echo": "\n" * 1000}, hosts={"\0": "\x1b[2J"}),
        ProxyHello(protocol=1, version="0", proxy_id="rogue", cluster="other", proxies=()),
        AgentHello(protocol=1, version="0", agent_id="x", hostname="x", apps=()),
    ],
    ids=lambda news: repr(news)[:40],
)
async def test_ag_10_nothing_that_a_proxy_says_ends_an_agent(
    stack: Stack, news: Control, caplog: pytest.LogCaptureFixture
) -> None:
    """AG-10: its tunnel at most; the others of that agent, and its requests, go on."""
    async with open_rogue_proxy(stack) as proxy:
        proxy.news = news

        def is_said() -> bool:
            return proxy.news is None

        async with proxy.victim(
            [App(name="echo", uri=f"http://127.0.0.1:{stack.echo.port}")]
        ) as ask:
            with trio.fail_after(20):
                if isinstance(news, Verdicts):
                    while not is_said():  # noqa: ASYNC110 - by a task of the rogue's
                        await trio.sleep(0.01)
                    assert isinstance(await ask(request_head("echo", "x", "x")), NoAnswer)
                else:
                    await proxy.next_tunnel()  # dialled anew: it lives

    assert "Traceback" not in caplog.text


# --- Who does not read ----------------------------------------------------------------------------------


async def _pour(stream: trio.SocketStream) -> None:
    """The application `raw`: an answer without an end."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(bytes(65536))


async def test_ag_11_who_does_not_read_holds_up_nobody_and_a_full_tunnel_says_so(
    stack: Stack,
) -> None:
    """AG-11: stalled downloads in the tunnel that answers others; then one stream too many is a 503."""
    alice = await stack.user("alice")
    await alice.open("raw")
    await alice.open("echo")
    stack.raw_app.script = _pour
    host = stack.host("raw")
    ask = f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {alice.cookie('raw')}\r\n\r\n".encode()
    stalled: list[TlsStream] = []
    said = b""
    with trio.fail_after(30):
        while len(stalled) <= ROOM:
            stalled.append(await stack.connect(host))
            await stalled[-1].send_all(ask)
            said = bytes(await stalled[-1].receive_some(1024))
            if not said.startswith(b"HTTP/1.1 200 "):
                break
            if len(stalled) == STALLED:
                for _ in range(50):
                    assert (await alice.get("echo")).status == 200
        answer = await alice.get("echo", Accept="application/json")
        for each in stalled:
            await trio.aclose_forcefully(each)
        while (await alice.get("echo")).status != 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.05)

    assert STALLED < len(stalled) <= ROOM
    assert said.startswith(b"HTTP/1.1 503 ")
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert json.loads(answer.body)["error"] == "agent-busy"


@pytest.fixture
async def shared(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A stack that gives one session `SHARE` streams."""
    monkeypatch.setattr("tport.engine.proxy.forward.Shares", partial(Shares, SHARE))
    async with open_stack(drain=False, diagnostics=True) as opened:
        yield opened


@pytest.mark.parametrize("look", [0.05, 3], ids=["carried by tasks", "in their first moments"])
async def test_ag_11_one_session_takes_its_share_of_a_tunnel_and_leaves_the_rest_to_others(
    shared: Stack, monkeypatch: pytest.MonkeyPatch, look: float
) -> None:
    """AG-11: and has it back when what it asked for is over."""
    monkeypatch.setattr("tport.engine.net.moments.LOOK", look)
    stack, app = shared, shared.raw_app
    alice, bob = [await stack.user(name) for name in ("alice", "bob")]
    await alice.open("raw")
    await bob.open("echo")
    app.answers(OK)
    assert (await alice.get("raw")).status == 200

    async def never(stream: trio.SocketStream) -> None:
        await app.take_head(stream)
        await trio.sleep_forever()

    app.script = never
    host = stack.host("raw")
    ask = f"GET /wait HTTP/1.1\r\nHost: {host}\r\nCookie: {alice.cookie('raw')}\r\n\r\n".encode()
    waiting: list[TlsStream] = []
    with trio.fail_after(30):
        for _ in range(SHARE):
            waiting.append(await stack.connect(host))
            await waiting[-1].send_all(ask)
        while sum(b" /wait " in head for head in app.heads) < SHARE:  # noqa: ASYNC110
            await trio.sleep(0.05)  # over a network
        refused = await alice.get("raw", Accept="application/json")
        others = await bob.get("echo")
        for each in waiting:
            await trio.aclose_forcefully(each)
        app.answers(OK)
        while (await alice.get("raw")).status != 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.05)

    assert (refused.status, refused.header("retry-after")) == (503, "5")
    assert json.loads(refused.body)["error"] == "session-busy"
    assert others.status == 200
    text = (await stack.diagnose("/metrics")).body.decode()
    assert 'tport_unanswered_total{why="session-busy"}' in text


# --- Machines that may not join ------------------------------------------------------------------------


async def test_ag_13_what_strangers_try_takes_nothing_from_who_is_signed_in(stack: Stack) -> None:
    """AG-13: guesses at join tokens and pings from the address that people come from, too."""
    alice = await stack.user("alice")
    await alice.open("echo")
    refused = 0

    async def join(number: int) -> None:
        nonlocal refused
        with pytest.raises((AccessDenied, LimitExceeded)):
            await join_cluster(
                Address("127.0.0.1", stack.port),
                f"{number:032x}.{stack.auth.pin}",
                hostname="rogue",
                pins=(),
                insecure=False,
                clock=wall_clock,
            )
        refused += 1

    async def ping() -> None:
        assert (await stack.request(DOMAIN, "/webapi/ping")).status in (200, 429)

    statuses: list[int] = []
    with trio.fail_after(60):
        for number in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(join, number)
                for _ in range(5):
                    nursery.start_soon(ping)
                statuses.append((await alice.get("echo")).status)
        bob = await stack.user("bob")  # signs in from there

    assert statuses == [200] * 20
    assert refused == 20
    assert (await bob.get("echo")).status == 200


# --- Joining for the first time ---------------------------------------------------------------------------


async def _join(stack: Stack, token: str, *, port: int, pins: Sequence[str] = ()) -> None:
    await join_cluster(
        Address("127.0.0.1", port),
        token,
        hostname="box",
        pins=pins,
        insecure=False,
        clock=wall_clock,
    )


@pytest.mark.parametrize("shows", ["its own authorities", "the right ones"])
async def test_ag_16_who_stands_in_the_proxys_place_gets_no_token(stack: Stack, shows: str) -> None:
    """AG-16: another cluster's auth, its certificate for the same name; the pin is the right one's."""
    made = await stack.admin.create_token(
        roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
    )
    async with open_stack(drain=False) as other, trio.open_nursery() as nursery:

        async def stand_between(stream: trio.SocketStream) -> None:
            came = await peek(stream)
            if came is None:
                return
            hello, peeked = came
            is_call = hello.alpn == (ALPN_AUTH,)
            port = stack.port if shows == "the right ones" and not is_call else other.port
            await relay(peeked, await trio.open_tcp_stream("127.0.0.1", port))

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, stand_between, [listener])
        port = listener.socket.getsockname()[1]
        before = await other.events("instance.join")
        with pytest.raises((AccessDenied, ConnectionProblem)):
            await _join(stack, made.token, port=port)
        assert await other.events("instance.join") == before, "somebody there was shown the token"
        nursery.cancel_scope.cancel()

    await _join(stack, made.token, port=stack.port)  # it is as good as new


@pytest.mark.parametrize("pin", ["x", "0" * 63, "sha256:" + "0" * 63, ""])
async def test_ag_16_a_pin_that_is_none_vouches_for_nobody(stack: Stack, pin: str) -> None:
    """AG-16: never taken for no pin at all, with which the own authority would vouch for nothing."""
    before = await stack.events("instance.join")
    with pytest.raises((AccessDenied, InvalidRequest)):
        await _join(stack, "0" * 32 + f".{stack.auth.pin}", port=stack.port, pins=(pin,))
    assert await stack.events("instance.join") == before


async def _join_by_approval(
    asked: Stack, typed_at: Stack, *, pins: Sequence[str] = ()
) -> AgentState:
    """Join by approval at one cluster, whose administrator lets in whatever asks.

    The code is typed at another, or the same, and so is the word that is shown there, if any.
    """
    codes: list[str] = []
    is_shown = trio.Event()

    def show(code: str) -> None:
        codes.append(code)
        is_shown.set()

    async def let_in() -> None:
        await is_shown.wait()
        found = await asked.admin.find_join(code=codes[0])
        await asked.admin.decide_join(code=codes[0], host_id=found.host_id, approve=True)

    async def ask_word(_tries: int) -> str | None:
        try:
            return (await typed_at.admin.find_join(code=codes[0])).word
        except NotFound:
            return None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_in)
        try:
            state = await join_by_approval(
                Address("127.0.0.1", asked.port),
                app="grafana",
                uri="http://localhost:3000",
                title="",
                hostname="box",
                pins=pins,
                clock=wall_clock,
                show=show,
                ask_word=ask_word,
            )
        finally:
            nursery.cancel_scope.cancel()
    return state


async def test_ag_16_who_stands_in_the_proxys_place_lets_no_machine_in(stack: Stack) -> None:
    """AG-16: another cluster answers at once, before anybody typed a code; nobody saw its word."""
    kept, refused = [], 0
    async with open_stack(drain=False) as other:
        for pins in ((), (stack.auth.pin,)):
            try:
                kept.append(await _join_by_approval(other, stack, pins=pins))
            except* AccessDenied:
                refused += 1
    assert (kept, refused) == ([], 2)

    for pins in ((), (stack.auth.pin,)):
        state = await _join_by_approval(stack, stack, pins=pins)
        assert bundle_pin(state.authorities.host, state.authorities.web) == stack.auth.pin
