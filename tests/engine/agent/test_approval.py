"""A machine that joins by approval shows a code, waits, and keeps nothing of who can't prove to be the cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.certs import Cluster
from tests.fakes import START, WallClock
from tport.engine.agent import approval as approval_module
from tport.engine.agent.approval import PATIENCE, RETRY, TRIES, join_by_approval
from tport.engine.agent.join import Bundle
from tport.engine.agent.state import AgentState
from tport.engine.api.answers import Authorities, Joined
from tport.engine.api.protocol import AuthAPI
from tport.engine.config.address import Address
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    RemoteProtocolError,
    TportError,
    Unavailable,
)
from tport.engine.pki.authority import bundle_pin
from tport.engine.pki.keys import public_key_id, public_key_of_csr
from tport.engine.types.approval import join_word

RIGHT = "the right one"
OURS, OTHERS = Cluster(), Cluster()
PIN = bundle_pin(OURS.host.trusted, OURS.web.trusted)
JOINED = Joined(
    certificate="pem",
    host_id="h1",
    authorities=OURS.authorities,
    renew_at=START + timedelta(days=1),
    expires=START + timedelta(days=2),
)


class Auth:
    """What is asked, and answers in order; the last for ever.

    Attributes:
        vouched: whether a public authority, or a pin, vouches for what is shown.
        typed: what the person at the machine types, in order; None is the end of it.
        word: what a cluster of the authorities that are shown would tell them.
    """

    def __init__(self, *answers: TportError | Joined | None, vouched: bool = True) -> None:
        self._answers = list(answers)
        self._vouched = vouched
        self.asked: list[tuple[float, str]] = []
        self.code = self.word = ""
        self.typed: list[str | None] = []
        self.tries: list[int] = []

    async def ask_to_join(self, *, csr: str, hostname: str, app: str, uri: str, title: str) -> str:
        await trio.lowlevel.checkpoint()
        assert (hostname, app, uri, title) == ("box", "grafana", "http://localhost:3000", "Grafana")
        self.word = join_word(public_key_id(public_key_of_csr(csr)), PIN)
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

        async def found(proxy: Address, pins: Sequence[str], clock: object) -> tuple[Bundle, bool]:
            await trio.lowlevel.checkpoint()
            bundle = Bundle(cluster=OURS.name, host=OURS.host.trusted, web=OURS.web.trusted)
            return bundle, self._vouched

        @asynccontextmanager
        async def opened(dial: object) -> AsyncIterator[AuthAPI]:
            await trio.lowlevel.checkpoint()
            yield cast("AuthAPI", self)

        def show(code: str) -> None:
            self.code = code

        async def ask_word(tries: int) -> str | None:
            await trio.lowlevel.checkpoint()
            self.tries.append(tries)
            typed = self.typed.pop(0)
            return self.word if typed == RIGHT else typed

        monkeypatch.setattr(approval_module, "found_authorities", found)
        monkeypatch.setattr(approval_module, "open_remote_auth", opened)
        return await join_by_approval(
            Address("proxy.test", 3080),
            app="grafana",
            uri="http://localhost:3000",
            title="Grafana",
            hostname="box",
            pins=(),
            clock=WallClock(),
            show=show,
            ask_word=ask_word,
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


# --- Who answers ---------------------------------------------------------------------------------------


async def test_whom_a_public_authority_or_a_pin_vouches_for_needs_no_word(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(JOINED)
    await auth.join(monkeypatch)

    assert auth.tries == []


@pytest.mark.parametrize(
    "typed",
    [[RIGHT], ["K7Q4XM", RIGHT], ["what?", "", RIGHT]],
)
async def test_whom_nobody_vouches_for_must_have_shown_the_word(
    typed: list[str | None], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(None, JOINED, vouched=False)
    auth.typed = list(typed)

    assert (await auth.join(monkeypatch)).host_id == "h1"
    assert auth.tries == [TRIES, TRIES - 1, TRIES - 2][: len(typed)]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([None], "no word"),
        (["K7Q4XM", None], "no word"),
        (["K7Q4XM"] * TRIES + [RIGHT], "not the word"),
    ],
)
async def test_ag_16_without_the_word_nothing_is_kept_and_it_is_said_what_to_do(
    typed: list[str | None],
    said: str,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """AG-16: whoever sits between lets the machine in at once; their cluster's word no person has seen."""
    auth = Auth(JOINED, vouched=False)
    auth.typed = list(typed)

    with pytest.raises(AccessDenied, match=said) as told:
        await auth.join(monkeypatch)

    assert "nothing was kept" in str(told.value)
    for way_out in ("sits between", "page", "--ca-pin", "tport tokens add"):
        assert way_out in told.value.hint


@pytest.mark.parametrize("vouched", [True, False])
@pytest.mark.parametrize(
    "authorities",
    [
        OTHERS.authorities,
        replace(OURS.authorities, host=(*OURS.host.trusted, *OTHERS.host.trusted)),
        replace(OURS.authorities, web=OTHERS.web.trusted),
        replace(OURS.authorities, host=()),
        replace(OURS.authorities, host=("no certificate",)),
    ],
)
async def test_ag_16_other_authorities_than_those_of_the_code_are_not_kept(
    authorities: Authorities,
    vouched: bool,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """AG-16: the code says nothing of them, and the agent would believe them from then on."""
    auth = Auth(replace(JOINED, authorities=authorities), vouched=vouched)
    auth.typed = [RIGHT]

    with pytest.raises(AccessDenied, match="other authorities"):
        await auth.join(monkeypatch)
    assert auth.tries == []
