"""One request through the agent: the tunnel on one side, an application on the other, no sockets."""

from __future__ import annotations

from typing import cast

import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from tests.engine.agent.test_rewrite import app, credential
from tests.fakes import START
from tport.engine.agent.passage import Offered, Passage
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.net.mux import Mux
from tport.engine.proto.tunnel import Inbox, RequestHead, ResponseHead, answer_decoder

HEAD = RequestHead(
    app="grafana",
    session="s1",
    credential="",
    method=b"GET",
    target=b"/",
    headers=b"",
    length=0,
    upgrade=b"",
    remote="192.0.2.7",
    public="grafana.tport.localhost:3080",
    request_id="r1",
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def test_an_answer_given_before_the_request_has_ended_arrives_whole(
    autojump_clock: MockClock,
) -> None:
    """The end of a request is a frame of its own: an application may be quicker than that frame.

    The tunnel here takes one write at a time, so that the answer still waits in the agent when
    the request is done with.
    """
    ours, agents = lockstep_stream_pair()
    proxy = Mux(ours, client=True, peer_may_open=False)
    agent = Mux(agents, client=False, peer_may_open=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        await nursery.start(agent.run)
        stream = proxy.open_stream()
        await stream.send_all(b"x")  # its opening; no end follows
        served = await agent.accept()

        async def dial() -> trio.abc.Stream:
            near, far = memory_stream_pair()
            await far.send_all(ANSWER)
            return near

        definition = app()
        offered = Offered(
            definition,
            Upstream(definition, lambda: START, dial=dial),
            Rewriter(definition, hostname="box"),
        )
        events = EventQueue(cast("AuthAPI", None))
        await Passage(served, offered, credential(), HEAD, b"", events).carry()
        served.reset()  # as whoever runs it does

        inbox = Inbox()
        while (answer := inbox.take(answer_decoder)) is None:
            data = await stream.receive_some()
            assert data
            inbox.feed(data)
        body = inbox.rest()
        while data := await stream.receive_some():
            body += data
        nursery.cancel_scope.cancel()

    assert isinstance(answer, ResponseHead)
    assert answer.status == 200
    assert body == b"hello"
