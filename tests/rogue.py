"""An agent and a proxy in the enemy's hands: genuine certificates, and nothing else to be trusted.

async with open_rogue_agent(stack) as agent, agent.tunnel(App(...)) as tunnel:
    assert tunnel.verdicts.refused == {...}

async with open_rogue_proxy(stack) as proxy, proxy.victim(apps) as ask:
    answer = await ask(head)
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from tests.figures import BUSY
from tests.stack import Stack
from tport.engine.agent.join import join_cluster
from tport.engine.agent.service import AgentSettings, run_agent
from tport.engine.agent.state import AgentState
from tport.engine.config.address import Address
from tport.engine.defaults import ALPN_TUNNEL
from tport.engine.errors import TportError
from tport.engine.net.control import next_control
from tport.engine.net.flow import relay
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import accept_tls, connect_tls
from tport.engine.pki.contexts import tunnel_client_context, tunnel_server_context
from tport.engine.process import wall_clock
from tport.engine.proto.client_hello import ClientHello, parse_client_hello
from tport.engine.proto.tunnel import (
    HIGHEST,
    AgentHello,
    Answer,
    Control,
    Inbox,
    NoAnswer,
    Offers,
    ProxyHello,
    RequestHead,
    ResponseHead,
    Verdicts,
    answer_decoder,
    pack,
)
from tport.engine.types.app import App

# --- The agent -------------------------------------------------------------------------------------


class Tunnel:
    """The agent's end of a tunnel that is up.

    Attributes:
        verdicts: the proxy's last word on what was offered.
    """

    def __init__(self, mux: Mux, control: MuxStream, inbox: Inbox, verdicts: Verdicts) -> None:
        self.mux = mux
        self.verdicts = verdicts
        self._control = control
        self._inbox = inbox

    async def offer(self, *apps: App) -> Verdicts:
        """Offer something else from now on, and return what the proxy says to it."""
        await self._control.send_all(pack(Offers(apps=apps)))
        self.verdicts = await _verdicts(self._control, self._inbox)
        return self.verdicts


class RogueAgent:
    """A machine that has joined, and now says what it likes."""

    def __init__(self, stack: Stack, state: AgentState) -> None:
        self.stack = stack
        self.state = state

    @asynccontextmanager
    async def tunnel(self, *apps: App, agent_id: str = "") -> AsyncIterator[Tunnel]:
        """Open a tunnel, offer these, and leave the requests that come unanswered."""
        context = tunnel_client_context(self.state.pair, self.state.authorities.host)
        stream = await trio.open_tcp_stream("127.0.0.1", self.stack.port)
        tls = await connect_tls(stream, context, server_name=None, alpn=ALPN_TUNNEL)
        mux = Mux(tls, client=False, peer_may_open=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_to_the_end, mux)
            with trio.fail_after(5 * BUSY):
                control = await mux.accept()
                inbox = Inbox()
                assert isinstance(await next_control(control, inbox), ProxyHello)
                hello = AgentHello(
                    protocol=HIGHEST,
                    version="0",
                    agent_id=agent_id or self.state.host_id,
                    hostname="rogue",
                    apps=apps,
                )
                await control.send_all(pack(hello))
                verdicts = await _verdicts(control, inbox)
            yield Tunnel(mux, control, inbox, verdicts)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_rogue_agent(
    stack: Stack, *, pinned: str = "", uri: str = "http://127.0.0.1:1"
) -> AsyncIterator[RogueAgent]:
    """Join with a token; `pinned`: with one that is for this application alone, at `uri`."""
    made = await stack.admin.create_token(
        roles=("app",),
        ttl=600,
        app_name=pinned,
        app_uri=uri if pinned else "",
        max_uses=1,
    )
    state = await join_cluster(
        Address("127.0.0.1", stack.port),
        made.token,
        hostname="rogue",
        pins=(),
        insecure=False,
        clock=wall_clock,
    )
    yield RogueAgent(stack, state)


async def _verdicts(control: MuxStream, inbox: Inbox) -> Verdicts:
    while True:
        message = await next_control(control, inbox)
        if isinstance(message, Verdicts):
            return message
        if message is None:
            raise EOFError("the proxy ended the tunnel")


async def _run_to_the_end(mux: Mux) -> None:
    try:
        await mux.run()
    except TportError:
        pass  # the other side had enough: the tests ask `mux.closed`


# --- The proxy -------------------------------------------------------------------------------------

Ask = Callable[[RequestHead], Awaitable[NoAnswer | ResponseHead]]


async def peek(stream: trio.SocketStream) -> tuple[ClientHello, PrefixedStream] | None:
    """Read the ClientHello, and return it with a stream that still begins with it; None: the client left."""
    data = b""
    while (hello := parse_client_hello(data)) is None:
        more = await stream.receive_some()
        if not more:
            return None
        data += more
    return hello, PrefixedStream(data, stream)


class RogueProxy:
    """A proxy that asks nobody and checks nothing; all but tunnels it passes to the real one."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._pair = stack.auth.issue_own_identity("proxy", "rogue")
        self._tunnels, self._opened = trio.open_memory_channel[Mux](8)
        self.port = 0
        self.news: Control | None = None  # what the first tunnel is told, once it stands

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        if (came := await peek(stream)) is None:
            return  # who dials has deadlines, and time may run fast
        hello, peeked = came
        if hello.alpn == (ALPN_TUNNEL,):
            await self._tunnel(peeked)
        else:
            await relay(peeked, await trio.open_tcp_stream("127.0.0.1", self._stack.port))

    async def _tunnel(self, peeked: PrefixedStream) -> None:
        authorities = self._stack.auth.authorities
        tls = await accept_tls(peeked, tunnel_server_context(self._pair, authorities.host))
        mux = Mux(tls, client=True, peer_may_open=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_to_the_end, mux)
            control = mux.open_stream()
            hello = ProxyHello(
                protocol=HIGHEST,
                version="0",
                proxy_id="rogue",
                cluster=authorities.cluster,
                proxies=("rogue",),
            )
            await control.send_all(pack(hello))
            assert isinstance(await next_control(control, Inbox()), AgentHello)
            await control.send_all(pack(Verdicts(refused={}, hosts={})))
            await self._tunnels.send(mux)
            if self.news is not None:
                news, self.news = self.news, None
                await control.send_all(pack(news))
            await mux.wait_closed()

    @asynccontextmanager
    async def victim(self, apps: Sequence[App]) -> AsyncIterator[Ask]:
        """Run an honest agent whose proxy this is; what is yielded asks it."""
        made = await self._stack.admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
        )

        async def token() -> str:
            return made.token

        stop = trio.Event()
        with tempfile.TemporaryDirectory(prefix="tport-") as folder:
            settings = AgentSettings(
                folder=Path(folder),
                proxy=Address("127.0.0.1", self.port),
                hostname="victim",
                apps=apps,
                debug_app=False,
                token=token,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(run_agent, settings, wall_clock, stop)
                mux = await self._opened.receive()

                async def ask(head: RequestHead) -> NoAnswer | ResponseHead:
                    return await _ask(mux, head)

                yield ask
                nursery.cancel_scope.cancel()

    async def next_tunnel(self) -> None:
        """Wait until an agent has opened a further tunnel here."""
        await self._opened.receive()


@asynccontextmanager
async def open_rogue_proxy(stack: Stack) -> AsyncIterator[RogueProxy]:
    proxy = RogueProxy(stack)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()


async def _ask(mux: Mux, head: RequestHead) -> NoAnswer | ResponseHead:
    """Send a request without a body on a stream of its own, and return the answer's head."""
    stream, inbox = mux.open_stream(), Inbox()
    await stream.send_all(pack(head))
    await stream.send_eof()
    with trio.fail_after(10):
        while True:
            answer: Answer | None = inbox.take(answer_decoder)
            if isinstance(answer, NoAnswer | ResponseHead):
                stream.reset()
                return answer
            if answer is None:
                data = await stream.receive_some(65536)
                assert data, "no answer"
                inbox.feed(data)


def request_head(app: str, session: str, credential: str, **fields: object) -> RequestHead:
    """Make the head of a GET for an application, with whatever `fields` make of it."""
    head = RequestHead(
        app=app,
        session=session,
        credential=credential,
        method=b"GET",
        target=b"/",
        headers=b"",
        length=0,
        upgrade=b"",
        remote="127.0.0.1",
        public="echo.tport.localhost",
        request_id="0",
    )
    return msgspec.structs.replace(head, **fields)
