"""AG-15: an agent's data directory that was copied, while the agent runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from msgspec.structs import replace

from tests.stack import Stack, open_stack
from tport.engine.agent.join import renew_identity
from tport.engine.agent.state import AgentState, load_state
from tport.engine.config.address import Address
from tport.engine.errors import Locked
from tport.engine.pki.keys import make_key
from tport.engine.process import wall_clock


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


async def _copy(stack: Stack) -> AgentState:
    """Read what the running agent keeps, as who has copied its disk does."""
    state = await trio.to_thread.run_sync(load_state, stack.running.config.data_dir / "agent")
    assert state is not None
    return state


async def _renew(stack: Stack, state: AgentState, key: str) -> AgentState:
    asking = replace(state, next_key=key)
    return await renew_identity(asking, Address("127.0.0.1", stack.port), wall_clock)


async def test_ag_15_of_an_agent_and_its_copy_the_second_to_renew_locks_both(stack: Stack) -> None:
    """The tunnel is gone within 5 s, nothing of either comes back, and people are told what to do."""
    alice = await stack.user("alice")
    await alice.open("echo")
    [agent] = (await stack.admin.status()).agents
    copied = await _copy(stack)

    thief = await _renew(stack, copied, make_key())
    assert (await alice.get("echo")).status == 200
    with pytest.raises(Locked, match="start it with a new token"):
        await _renew(stack, copied, make_key())

    with trio.fail_after(5):
        while (await stack.admin.status()).agents:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)
    assert (await alice.get("echo", Accept="application/json")).status == 503
    with pytest.raises(Locked):
        await _renew(stack, thief, make_key())
    down = await stack.event("tunnel.down", host_id=agent.host_id)
    assert down["reason"] == "the agent is locked"
    seen = await stack.event("instance.copied", host_id=agent.host_id)
    assert (seen["generation"], seen["newest_generation"]) == (1, 2)
    [told] = (await stack.admin.status()).copied
    assert told.target.server_id == agent.host_id
    assert agent.hostname in told.message


async def test_ag_15_an_answer_that_was_lost_locks_nobody(stack: Stack) -> None:
    """As after a crash between receiving the next certificate and writing it down."""
    state, key = await _copy(stack), make_key()
    await _renew(stack, state, key)

    again = await _renew(stack, state, key)

    assert (await _renew(stack, again, make_key())).host_id == state.host_id
    assert (await stack.admin.status()).copied == ()
