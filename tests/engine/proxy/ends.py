"""The two ends around what the proxy forwards: a browser's connection, and agents played by tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import trio
from trio.testing import memory_stream_pair

from tests.engine.api.scripted import ScriptedAuth
from tests.fakes import START, WallClock
from tests.stack import Answer, read_answer
from tport.engine.api.answers import SignedSession
from tport.engine.api.live import LiveStreams
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.sieve import write_lines
from tport.engine.proto.tunnel import (
    Accepted,
    Inbox,
    NoAnswer,
    RequestHead,
    ResponseHead,
    pack,
    request_decoder,
)
from tport.engine.proxy.app_session import Credentials
from tport.engine.proxy.forward import Forwarder
from tport.engine.proxy.tunnels import Tunnel
from tport.engine.proxy.waiting import Waiting
from tport.engine.types.identity import Identity


def signed(credential: str = "jws", *, minutes: float = 5) -> SignedSession:
    return SignedSession(
        credential=credential,
        renew_at=START + timedelta(minutes=minutes - 1),
        expires=START + timedelta(minutes=minutes),
    )


class Request:
    """A request as an agent got it."""

    def __init__(self, stream: MuxStream, head: RequestHead, rest: bytes) -> None:
        self.stream = stream
        self.head = head
        self.rest = rest  # of the body, what came with the head

    async def body(self) -> bytes:
        """Read the body to its end."""
        data = self.rest
        while piece := await self.stream.receive_some():
            data += piece
        return data

    async def read(self, size: int) -> bytes:
        """Read so much of the body, or a little more."""
        data = self.rest
        while len(data) < size:
            data += await self.stream.receive_some()
        self.rest = b""
        return data

    async def answer(
        self, status: int = 200, body: bytes = b"hello", *, length: int | None = None
    ) -> None:
        await self.head_of(status, length=length)
        await self.stream.send_all(body)
        await self.stream.aclose()

    async def head_of(self, status: int = 200, *, length: int | None = None) -> None:
        headers = b"content-type: text/plain\r\n"
        await self.say(ResponseHead(status=status, reason=b"", headers=headers, length=length))

    async def say(self, message: ResponseHead | Accepted | NoAnswer) -> None:
        await self.stream.send_all(pack(message))

    async def refuse(self, problem: NoAnswer) -> None:
        await self.say(problem)
        await self.stream.aclose()


class Agent:
    """A tunnel, and the far end of it in the test's hands."""

    def __init__(self, name: str) -> None:
        ours, theirs = memory_stream_pair()
        self._transport = theirs
        self._near = Mux(ours, client=True, peer_may_open=False)
        self.mux = Mux(theirs, client=False, peer_may_open=True)
        identity = Identity(kind="agent", name=name, cluster="main", hostname=f"{name}-host")
        self.tunnel = Tunnel(self._near, identity, remote="192.0.2.1", since=START)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_quietly, self._near)
            nursery.start_soon(_quietly, self.mux)

    async def next(self, *, deadline: float = 100) -> Request:
        """Wait for a request, so many seconds at most."""
        with trio.fail_after(deadline):
            stream = await self.mux.accept()
            inbox = Inbox()
            while (head := inbox.take(request_decoder)) is None:
                inbox.feed(await stream.receive_some())
        return Request(stream, head, inbox.rest())

    async def die(self) -> None:
        await trio.aclose_forcefully(self._transport)


async def _quietly(mux: Mux) -> None:
    try:
        await mux.run()
    except Exception:
        return


class World:
    """A forwarder, agents that it may choose from, and clients."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.auth = ScriptedAuth()
        self.auth.sign = lambda _: signed()
        self.clock = WallClock()
        self.live: LiveStreams[str] = LiveStreams()
        self.waiting = Waiting()
        self.forwarder = Forwarder(
            credentials=Credentials(self.auth.api, self.clock),
            live=self.live,
            waiting=self.waiting,
        )
        nursery.start_soon(self.waiting.keep)
        self.agents: list[Agent] = []
        self._nursery = nursery

    def agent(self, name: str = "a") -> Agent:
        agent = Agent(name)
        self.agents.append(agent)
        self._nursery.start_soon(agent.run)
        return agent

    def client(self) -> Client:
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(serve_http1, theirs, self._answer)
        return Client(ours)

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        head = RequestHead(
            app="grafana",
            session="s1",
            credential="",
            method=request.method,
            target=request.target,
            headers=write_lines(
                [each for each in request.headers if each[0].startswith(b"sec-websocket-")]
            ),
            length=request.framing.length,
            upgrade=request.upgrade,
            remote="192.0.2.9",
            public="grafana.proxy.test",
            request_id="r1",
        )
        outcome = await self.forwarder.forward(exchange, head, self._tunnels)
        if outcome is not None:
            problem = outcome.problem
            told = {"kind": problem.kind, "hop": problem.hop, "agent": outcome.agent}
            await exchange.respond(502, [], json.dumps(told).encode())

    def _tunnels(self) -> Sequence[Tunnel]:
        return [agent.tunnel for agent in self.agents]


class Client:
    """A browser's connection, in the clear."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def send(self, *lines: str, body: bytes = b"") -> None:
        await self.stream.send_all("\r\n".join([*lines, "", ""]).encode() + body)

    async def get(self, target: str = "/", *, method: str = "GET") -> None:
        await self.send(f"{method} {target} HTTP/1.1", "Host: grafana.proxy.test")

    async def answer(self, *, method: str = "GET") -> Answer:
        with trio.fail_after(100):
            return await read_answer(self.stream, method=method)

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery)
        nursery.cancel_scope.cancel()
