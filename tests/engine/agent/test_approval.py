"""A machine that joins by approval shows a code, waits, and outlives a proxy that is away for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tests.certs import Cluster
from tests.engine.api.scripted import AUTHORITIES
from tests.fakes import START, WallClock
from tport.engine.agent import approval as approval_module
from tport.engine.agent.approval import PATIENCE, RETRY, join_by_approval
from tport.engine.agent.join import Bundle
from tport.engine.agent.state import AgentState
from tport.engine.api.answers import Joined
from tport.engine.api.protocol import AuthAPI
from tport.engine.config.address import Address
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    RemoteProtocolError,
    TportError,
    Unavailable,
)

JOINED = Joined(
    certificate="pem",
    host_id="h1",
    authorities=AUTHORITIES,
    renew_at=START + timedelta(days=1),
    expires=START + timedelta(days=2),
)


class Auth:
    """What is asked, and answers in order; the last for ever."""

    def __init__(self, *answers: TportError | Joined | None) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[float, str]] = []
        self.code = ""

    async def ask_to_join(self, *, csr: str, hostname: str, app: str, uri: str, title: str) -> str:
        await trio.lowlevel.checkpoint()
        assert (hostname, app, uri, title) == ("box", "grafana", "http://localhost:3000", "Grafana")
        return "ask-1"

    async def join_answer(self, *, id: str) -> Joined | None:
        await trio.sleep(1)
        self.asked.append((trio.current_time(), id))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, TportError):
            raise answer
        return answer

    async def join(self, monkeypatch: pytest.MonkeyPatch) -> AgentState:
        """Join by approval, with this in the place of what a proxy relays to."""

        async def shown(proxy: Address, clock: object) -> Bundle:
            await trio.lowlevel.checkpoint()
            cluster = Cluster()
            return Bundle(cluster=cluster.name, host=cluster.host.trusted, web=cluster.web.trusted)

        @asynccontextmanager
        async def opened(dial: object) -> AsyncIterator[AuthAPI]:
            await trio.lowlevel.checkpoint()
            yield cast("AuthAPI", self)

        def show(code: str) -> None:
            self.code = code

        monkeypatch.setattr(approval_module, "shown_authorities", shown)
        monkeypatch.setattr(approval_module, "open_remote_auth", opened)
        return await join_by_approval(
            Address("proxy.test", 3080),
            app="grafana",
            uri="http://localhost:3000",
            title="Grafana",
            hostname="box",
            clock=WallClock(),
            show=show,
        )


async def test_it_waits_until_somebody_has_typed_the_code(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(None, None, JOINED)
    state = await auth.join(monkeypatch)

    assert auth.asked == [(1, "ask-1"), (2, "ask-1"), (3, "ask-1")]
    assert auth.code
    assert (state.host_id, state.certificate, state.proxy) == ("h1", "pem", "proxy.test:3080")


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionProblem("no route"),
        Unavailable("starting"),
        RemoteProtocolError("what is this"),
    ],
)
async def test_a_proxy_that_is_away_for_a_while_loses_nobody_their_code(
    problem: TportError, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(problem, problem, JOINED)
    await auth.join(monkeypatch)

    assert [at for at, _ in auth.asked] == [1, 2 + RETRY, 3 + 2 * RETRY]


async def test_a_proxy_that_stays_away_is_given_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(None, ConnectionProblem("no route"))
    with pytest.raises(ConnectionProblem, match="no route"):
        await auth.join(monkeypatch)

    away = auth.asked[1][0]
    assert PATIENCE < trio.current_time() - away <= PATIENCE + RETRY + 1


async def test_who_is_refused_asks_no_further(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(AccessDenied("refused", reason="by a person"))
    with pytest.raises(AccessDenied):
        await auth.join(monkeypatch)

    assert len(auth.asked) == 1
