"""What an agent makes of a request it can't send, of an application that is not there, and of odd answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.engine.agent.test_passage import ANSWER, HEAD
from tests.engine.agent.test_rewrite import app, credential
from tests.engine.agent.test_timeouts import Heard, listen, tunnel
from tests.engine.agent.test_without_a_task import OK, quick
from tests.engine.api.scripted import ScriptedAuth
from tests.fakes import START
from tport.engine.agent.passage import Offered, Passage
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import TargetDenied, Upstream
from tport.engine.agent.upstream_tls import WRONG_SCHEME
from tport.engine.api.events import EventQueue
from tport.engine.errors import ConnectionProblem
from tport.engine.net.moments import MOMENT
from tport.engine.proto.sieve import write_lines
from tport.engine.proto.tunnel import SPARE, Accepted, NoAnswer, RequestHead, ResponseHead
from tport.engine.proto.websocket import accept_key
from tport.engine.types.app import App, Timeouts

Script = Callable[[trio.abc.Stream], Awaitable[None]]


class Asked:
    """One request to an application that does what `script` does, or that can't be dialled."""

    def __init__(self, definition: App, *scripts: Script, failure: Exception | None = None) -> None:
        self.definition = definition
        self.scripts = list(scripts)  # one for each connection, the last for all further ones
        self.failure = failure
        self.dialled = 0
        self.events: list[str] = []

    async def ask(self, head: RequestHead = HEAD, rest: bytes = b"", then: bytes = b"") -> Heard:
        """`rest` came with the head; `then` is said once an answer has begun."""
        heard = Heard()
        auth = ScriptedAuth()
        events = EventQueue(auth.api)
        async with tunnel() as (stream, served), trio.open_nursery() as nursery:

            async def dial() -> trio.abc.Stream:
                if self.failure is not None:
                    await trio.lowlevel.checkpoint()
                    raise self.failure
                near, far = memory_stream_pair()
                script = self.scripts[min(self.dialled, len(self.scripts) - 1)]
                self.dialled += 1
                nursery.start_soon(script, far)
                return near

            async def carry() -> None:
                await served.receive_some()  # what opened the stream
                offered = Offered(
                    self.definition,
                    Upstream(self.definition, lambda: START, dial=dial),
                    Rewriter(self.definition, hostname="box"),
                )
                await Passage(served, offered, credential(), head, rest, events).carry()
                served.reset()  # as whoever runs it does

            nursery.start_soon(events.keep)
            nursery.start_soon(carry)
            if then:
                await wait_all_tasks_blocked()
                await stream.send_all(then)
                await stream.send_eof()
            await listen(stream, heard)
            await events.wait_sent()
            nursery.cancel_scope.cancel()
        self.events = [event.type for events in auth.emitted for event in events]
        return heard


def says(*pieces: bytes) -> Script:
    """Answer the first bytes with these, each sent by itself; then hang up."""

    async def script(stream: trio.abc.Stream) -> None:
        try:
            await stream.receive_some()
            for piece in pieces:
                await stream.send_all(piece)
        except trio.BrokenResourceError:
            pass  # the agent has left
        await stream.aclose()

    return script


def refusal(heard: Heard) -> NoAnswer:
    [(_, answer)] = heard.messages
    assert isinstance(answer, NoAnswer)
    assert heard.whole
    return answer


async def test_the_root_of_an_application_below_a_path_is_told_where_it_is() -> None:
    asked = Asked(app(uri="http://localhost:3000/grafana?org=1"))
    heard = await asked.ask()

    [(_, answer)] = heard.messages
    assert isinstance(answer, ResponseHead)
    assert (answer.status, heard.body, heard.whole) == (302, b"", True)
    assert b"/grafana?org=1" in answer.headers
    assert asked.dialled == 0


async def test_a_path_that_climbs_out_of_an_applications_is_refused_before_it_is_dialled() -> None:
    """HTTP-15: which resource that is, two servers see differently."""
    asked = Asked(app(uri="http://localhost:3000/grafana"))
    answer = refusal(await asked.ask(replace(HEAD, target=b"/grafana/..%2f..\\admin")))

    assert (answer.kind, answer.hop) == ("refused", "agent")
    assert "'..'" in answer.cause
    assert asked.dialled == 0


async def test_a_request_that_no_honest_proxy_sends_is_refused() -> None:
    asked = Asked(app(), says(ANSWER))
    answer = refusal(await asked.ask(replace(HEAD, method=b"GET /x HTTP/1.1\r\nx:")))

    assert (answer.kind, answer.hop) == ("refused", "agent")
    assert "can't be sent" in answer.cause


async def test_an_application_that_can_not_be_dialled_is_said_to_be_unreachable() -> None:
    failure = ConnectionProblem("connection refused", hint="start it")
    asked = Asked(app(), failure=failure)
    answer = refusal(await asked.ask())

    assert (answer.kind, answer.hop) == ("unreachable", "app")
    assert answer.cause == "http://localhost:3000 can't be reached: connection refused"
    assert answer.advice == "Start it."
    assert asked.events == []


async def test_an_address_where_agents_do_not_connect_to_is_an_event_for_the_audit_log() -> None:
    """AG-07."""
    asked = Asked(app(), failure=TargetDenied("it leads to 169.254.169.254"))
    answer = refusal(await asked.ask())

    assert answer.kind == "unreachable"
    assert asked.events == ["app.dial.denied"]


async def test_a_header_whose_template_gives_nothing_is_left_out_and_noted() -> None:
    asked = Asked(app("X-Team: {{external.team}}"), says(ANSWER))
    heard = await asked.ask()

    assert heard.body == b"hello"
    assert asked.events == ["header.rewrite.skipped"]


async def test_an_application_that_hangs_up_at_once_gave_no_answer() -> None:
    asked = Asked(app(), says())
    answer = refusal(await asked.ask())

    assert (answer.kind, answer.hop) == ("broken", "app")
    assert asked.dialled == 2, "once for the request, once to see whether it wants TLS"


async def test_an_answer_that_makes_no_sense_is_said_to_make_none() -> None:
    answer = refusal(await Asked(app(), says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")).ask())

    assert answer.kind == "broken"
    assert "makes no sense" in answer.cause


async def test_an_answer_cut_short_is_cut_for_the_proxy_too() -> None:
    """Nobody may take half of it for the whole."""
    heard = await Asked(app(), says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")).ask()

    [(_, answer)] = heard.messages
    assert isinstance(answer, ResponseHead)
    assert (heard.body, heard.whole) == (b"half", False)


async def test_a_large_request_is_told_to_be_accepted_before_all_of_it_has_come() -> None:
    """So that the proxy knows: it can't be sent anew elsewhere."""
    head = replace(HEAD, method=b"POST", length=SPARE + 1)
    heard = await Asked(app(), says(ANSWER)).ask(head)

    assert [type(message) for _, message in heard.messages] == [Accepted, ResponseHead]
    assert heard.body == b"hello"


async def test_after_a_switch_no_byte_of_either_side_is_lost() -> None:
    """What came with the request's head, what came with the answer's, and what came later."""
    received, key = bytearray(), b"A" * 22 + b"=="

    async def switches(stream: trio.abc.Stream) -> None:
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some()
            assert data, "the agent left in the middle of the request"
            received.extend(data)
        received.clear()
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\nwelcome"
        )
        while data := await stream.receive_some():
            received.extend(data)
        await stream.aclose()

    asked = Asked(app(), switches)
    handshake = [(b"sec-websocket-key", key), (b"sec-websocket-version", b"13")]
    head = replace(HEAD, upgrade=b"websocket", headers=write_lines(handshake))
    heard = await asked.ask(head, rest=b"early ", then=b"late")

    [(_, answer)] = [each for each in heard.messages if isinstance(each[1], ResponseHead)]
    assert isinstance(answer, ResponseHead)
    assert answer.status == 101
    assert bytes(received) == b"early late"
    assert heard.body == b"welcome"


async def test_an_application_that_refuses_plain_http_is_said_to_want_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some servers answer 400 to what is not TLS: that 400 would help nobody."""

    async def speaks_tls(_: Upstream) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    monkeypatch.setattr(Upstream, "_probe", speaks_tls)
    refused = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    answer = refusal(await Asked(app(), refused).ask())

    assert answer.kind == "unreachable"
    assert WRONG_SCHEME in answer.cause


# --- Without a task --------------------------------------------------------------------------------


async def test_a_request_with_a_body_takes_a_task_and_the_connection_that_is_kept() -> None:
    async with quick() as side:
        far = await side.ask(method=b"POST", length=3)
        await far.stream.send_all(b"abc")
        assert (await side.heard()).startswith(b"POST / ")
        assert side.in_a_moment == 0
        await side.say(OK)

        assert isinstance(await far.answer(), ResponseHead)
        assert len(side.dialled) == 1


async def test_who_wants_no_answer_any_more_has_the_application_left() -> None:
    async with quick() as side:
        far = await side.asked()
        far.stream.reset()

        assert await side.heard() == b""
        await wait_all_tasks_blocked(0.001)
        assert side.in_a_moment == side.apps.running == 0


async def test_who_is_away_when_the_answer_comes_has_the_application_left() -> None:
    async with quick() as side:
        far = await side.asked()
        served = side.agent._streams[far.stream.id]
        served.on_arrival = None  # the reset is not noticed before the answer is here
        far.stream.reset()
        await wait_all_tasks_blocked(0.001)
        await side.say(OK)

        assert await side.heard() == b""
        assert side.in_a_moment == side.apps.running == 0


async def test_nonsense_by_a_kept_connection_is_told_as_nonsense() -> None:
    async with quick() as side:
        far = await side.asked()
        await side.say(b"nonsense\r\n\r\n")
        answer = await far.answer()

        assert isinstance(answer, NoAnswer)
        assert "makes no sense" in answer.cause
        assert await side.heard() == b""


async def test_an_answer_too_large_for_a_moment_arrives_whole() -> None:
    async with quick() as side:
        far = await side.asked()
        size = 2_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                side.say, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
            )
            assert isinstance(await far.answer(), ResponseHead)
            received = len(far._inbox.rest())
            while data := await far.stream.receive_some():
                received += len(data)

        assert received == size


@pytest.mark.parametrize("limit", [MOMENT / 2, 5.0])
async def test_the_time_to_answer_counts_without_a_task_too(
    limit: float, autojump_clock: MockClock
) -> None:
    async with quick() as side:
        side.offered["grafana"].app = replace(
            side.offered["grafana"].app, timeouts=Timeouts(response_head=limit)
        )
        far = await side.asked()
        began = trio.current_time()
        answer = await far.answer()

        assert isinstance(answer, NoAnswer)
        assert answer.kind == "timeout"
        assert trio.current_time() - began == pytest.approx(limit, abs=0.05)
