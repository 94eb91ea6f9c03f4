"""What strangers are refused is written down, and never so often that it fills the disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.engine.auth.world import CLUSTER, PROXY, STATE, World
from tport.engine.auth.calls.calls import Calls
from tport.engine.defaults import REFUSAL_BURST, REFUSALS_PER_MINUTE
from tport.engine.errors import AccessDenied
from tport.engine.types.identity import Identity


async def calls(world: World, remote: str) -> None:
    """A call of the API, without a certificate."""
    await world.caller(None, remote=remote).list_users()


async def codes(world: World, remote: str) -> None:
    """A browser at an application's host, with a code that nobody made."""
    await world.proxy.redeem(code="code_none", state=STATE, host=f"grafana.{PROXY}", remote=remote)


@pytest.mark.parametrize("ask", [calls, codes], ids=lambda f: f.__name__)
async def test_one_address_leaves_so_many_lines_a_minute_and_others_none_fewer(
    world: World, ask: Callable[[World, str], Awaitable[None]]
) -> None:
    async def often(remote: str, times: int) -> int:
        before = len(world.audit.events)
        for _ in range(times):
            with pytest.raises(AccessDenied):
                await ask(world, remote)
        return len(world.audit.events) - before

    assert await often("192.0.2.1", 3 * REFUSAL_BURST) == REFUSAL_BURST
    assert await often("198.51.100.1", 1) == 1
    world.pass_time(minutes=1)
    assert await often("192.0.2.1", 3 * REFUSAL_BURST) == REFUSALS_PER_MINUTE


async def test_who_calls_for_nobody_has_no_account_and_no_session(world: World) -> None:
    """A call about oneself that forgot to ask who calls would still learn nothing."""
    calls = Calls(world.service, Identity(kind="proxy", name="p", cluster=CLUSTER), "192.0.2.7")
    with pytest.raises(AccessDenied, match="nobody is signed in"):
        _ = calls.person
    with pytest.raises(AccessDenied, match="nobody is signed in"):
        _ = calls.own_session
