"""What a passage makes of what came before a task took it over."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from tests.engine.agent.test_passage import HEAD
from tests.engine.proxy.ends import Agent
from tport.engine.net.http1 import Exchange
from tport.engine.proto.tunnel import NoAnswer, ResponseHead, pack
from tport.engine.proxy.passage import LOST_UNHEARD, Begun, Body, Cut, Passage

ANSWER = pack(ResponseHead(status=200, reason=b"", headers=b"", length=0))


class _Nobody:
    began = 0.0


NOBODY = cast("Exchange", _Nobody())  # whose answer it would be: it comes to none


@pytest.mark.parametrize("came", [b"", ANSWER[:3], ANSWER[:9]], ids=["nothing", "3", "9"])
async def test_only_what_was_lost_before_a_byte_of_its_answer_may_be_asked_again(
    came: bytes,
) -> None:
    agent = Agent("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.run)
        stream = agent.tunnel.mux.open_stream()
        stream.on_arrival = lambda: None  # it is nobody's turn: what comes waits
        await stream.send_all(b"x")
        far = await agent.mux.accept()
        await far.send_all(came)
        await wait_all_tasks_blocked()
        begun = Begun(NOBODY, stream, agent.tunnel, lambda: None)
        assert not begun.pass_on()
        stream.on_arrival = None
        far.reset()
        passage = Passage(NOBODY, stream, Body(NOBODY), Cut(), begun)
        problem = await passage.carry(replace(HEAD, upgrade=b"websocket"))
        nursery.cancel_scope.cancel()

    assert isinstance(problem, NoAnswer)
    assert (problem is LOST_UNHEARD) == (came == b"")
