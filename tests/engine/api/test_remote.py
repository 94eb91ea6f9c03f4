"""AuthAPI from afar: who asks while auth is silent is told soon."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tport.engine.api import wire
from tport.engine.api.protocol import AuthAPI
from tport.engine.api.remote import CALL_DEADLINE, QUICK, SILENCE, open_remote_auth
from tport.engine.errors import Unavailable
from tport.engine.net.http1 import Exchange, serve_http1


class SilentAuth:
    """What answers `list_roles` with none, while it is not silent; a watch hears of it each second."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.silent = False
        self._nursery = nursery

    async def dial(self) -> trio.abc.Stream:
        near, far = memory_stream_pair()
        self._nursery.start_soon(serve_http1, far, self._answer)
        return near

    async def _answer(self, exchange: Exchange) -> None:
        if self.silent:
            await trio.sleep_forever()
        await exchange.respond(200, [], wire.encode_answer(()))


@pytest.fixture
async def auth(nursery: trio.Nursery) -> SilentAuth:
    return SilentAuth(nursery)


@pytest.fixture
async def remote(auth: SilentAuth) -> AsyncIterator[AuthAPI]:
    async with open_remote_auth(auth.dial) as remote:
        yield remote


async def refused_after(remote: AuthAPI) -> float:
    began = trio.current_time()
    with pytest.raises(Unavailable, match="auth did not answer within"):
        await remote.list_roles()
    return trio.current_time() - began


async def test_r_10_the_first_call_without_an_answer_waits_and_those_after_it_are_told_at_once(
    auth: SilentAuth, remote: AuthAPI, autojump_clock: MockClock
) -> None:
    """R-10: until something comes of auth again."""
    assert await remote.list_roles() == ()
    auth.silent = True
    assert await refused_after(remote) == pytest.approx(CALL_DEADLINE, abs=1.1)
    for _ in range(3):
        assert await refused_after(remote) == pytest.approx(QUICK, abs=1.1)

    auth.silent = False
    assert await remote.list_roles() == ()
    auth.silent = True
    assert await refused_after(remote) == pytest.approx(CALL_DEADLINE, abs=1.1)
    assert SILENCE >= CALL_DEADLINE, "else a watch would be lost before a call is given up"
