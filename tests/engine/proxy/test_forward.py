"""One request through a tunnel: what is repeated, what never is, and how each end hears of the other's."""

from __future__ import annotations

import itertools
import json
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.proxy.ends import Client, open_world, signed
from tests.stack import Answer
from tport.engine.defaults import ANSWER_DEADLINE
from tport.engine.proto.tunnel import (
    SPARE,
    Accepted,
    NoAnswer,
    NoAnswerKind,
    ResponseHead,
    pack,
)
from tport.engine.proxy.waiting import LOOK


def no_answer(kind: NoAnswerKind, hop: Literal["agent", "app"] = "app") -> NoAnswer:
    return NoAnswer(kind=kind, hop=hop, cause="because")


def told(answer: Answer) -> dict[str, str]:
    assert answer.status == 502
    words: dict[str, str] = json.loads(answer.body)
    return words


async def post(client: Client, body: bytes, *, length: int | None = None) -> None:
    size = len(body) if length is None else length
    await client.send(
        "POST / HTTP/1.1", "Host: grafana.proxy.test", f"Content-Length: {size}", body=body
    )


# --- What gets through ------------------------------------------------------------------------


async def test_a_request_and_its_answer_pass_with_the_credential_once() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        for credential in ("jws", ""):
            await client.get("/a?b=1")
            request = await agent.next()
            await request.answer(200, b"hello")
            answer = await client.answer()

            assert (answer.status, answer.body) == (200, b"hello")
            assert (request.head.target, request.head.credential) == (b"/a?b=1", credential)


async def test_an_agent_that_forgot_the_session_is_told_again() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        await (await agent.next()).answer()
        await client.answer()

        await post(client, b"the body")
        forgot = await agent.next()
        await forgot.refuse(no_answer("unknown-session", "agent"))
        again = await agent.next()

        assert (forgot.head.credential, again.head.credential) == ("", "jws")
        assert await again.body() == b"the body"
        await again.answer()
        assert (await client.answer()).status == 200


async def test_an_agent_that_refuses_a_credential_gets_what_auth_signs_now() -> None:
    """It knows of a change of the user before the proxy does."""
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        await (await agent.next()).answer()
        await client.answer()
        world.auth.sign = lambda _: signed("newer")

        await post(client, b"the body")
        sent = []
        for _ in range(2):
            request = await agent.next()
            sent.append(request.head.credential)
            await request.refuse(no_answer("unknown-session", "agent"))
        last = await agent.next()

        assert [*sent, last.head.credential] == ["", "jws", "newer"]
        assert await last.body() == b"the body"
        await last.answer()
        assert (await client.answer()).status == 200


async def test_an_agent_that_refuses_every_credential_is_not_asked_for_ever() -> None:
    async with open_world() as world:
        agent, client, count = world.agent(), world.client(), itertools.count()
        world.auth.sign = lambda _: signed(f"jws {next(count)}")
        await client.get()
        for _ in range(2):
            await (await agent.next()).refuse(no_answer("unknown-session", "agent"))

        assert told(await client.answer())["kind"] == "unknown-session"
        assert agent.mux.streams == 0


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=str)
async def test_answers_without_a_body_leave_the_connection_usable(method: str, status: int) -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        for _ in range(2):
            await client.get(method=method)
            request = await agent.next()
            await request.answer(status, b"", length=0 if status == 204 else 12)
            answer = await client.answer(method=method)

            assert (answer.status, answer.body) == (status, b"")


async def test_a_client_of_http_1_0_gets_an_answer_of_unknown_length_until_close() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.send("GET / HTTP/1.0", "Host: grafana.proxy.test")
        await (await agent.next()).answer(200, b"hello")
        answer = await client.answer()

        assert (answer.body, answer.closed) == (b"hello", True)
        assert answer.header("transfer-encoding") == ""


async def test_a_chunked_body_of_unknown_length_passes_as_it_comes() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.send(
            "POST / HTTP/1.1",
            "Host: grafana.proxy.test",
            "Transfer-Encoding: chunked",
            body=b"3\r\nabc\r\n",
        )
        request = await agent.next()
        assert request.head.length is None
        assert await request.read(3) == b"abc"  # before the rest was sent
        await client.stream.send_all(b"3\r\ndef\r\n0\r\n\r\n")
        assert await request.body() == b"def"
        await request.answer()

        assert (await client.answer()).status == 200


@pytest.mark.parametrize("size", [SPARE - 1, SPARE, SPARE + 1, 5 * SPARE])
async def test_a_body_of_any_size_ends(size: int) -> None:
    """An agent says Accepted for bodies over SPARE only: no other may wait for it."""
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, client, b"x" * size)
            request = await agent.next()
            if size > SPARE:
                await request.say(Accepted())
            assert len(await request.body()) == size
        await request.answer()

        assert (await client.answer()).status == 200


async def test_expect_100_continue_is_answered_when_the_body_is_wanted() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.send(
            "POST / HTTP/1.1",
            "Host: grafana.proxy.test",
            "Content-Length: 4",
            "Expect: 100-continue",
        )
        assert (await client.answer()).status == 100
        await client.stream.send_all(b"body")
        request = await agent.next()
        assert await request.body() == b"body"
        await request.answer()

        assert (await client.answer()).status == 200


async def test_informational_answers_come_before_the_last() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        request = await agent.next()
        await request.head_of(103, length=0)
        assert (await client.answer()).status == 103
        await request.answer()

        assert (await client.answer()).status == 200


async def test_an_early_answer_to_an_upload_comes_whole() -> None:
    """413, with a page, while most of the body is still at the client."""
    page = b"too large" * 10_000
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await post(client, b"x" * 2 * SPARE, length=10_000_000)
        request = await agent.next()
        await request.say(Accepted())
        await request.read(SPARE)
        await request.answer(413, page)
        answer = await client.answer()

        assert (answer.status, answer.body) == (413, page)


# --- Once, and elsewhere -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unreachable", "stale", "unknown-app"])
async def test_while_nothing_reached_the_application_the_next_agent_is_asked(
    kind: NoAnswerKind,
) -> None:
    async with open_world() as world:
        first, second, client = world.agent("a"), world.agent("b"), world.client()
        await post(client, b"the body")
        await (await first.next()).refuse(no_answer(kind))
        request = await second.next()
        assert await request.body() == b"the body"
        await request.answer()

        assert (await client.answer()).status == 200


@pytest.mark.parametrize("kind", ["broken", "timeout", "refused", "denied"])
async def test_what_may_have_reached_the_application_is_not_repeated(kind: NoAnswerKind) -> None:
    async with open_world() as world:
        first, second, client = world.agent("a"), world.agent("b"), world.client()
        await client.get()
        await (await first.next()).refuse(no_answer(kind))

        assert told(await client.answer()) == {"kind": kind, "hop": "app", "agent": "a-host"}
        assert second.mux.streams == 0


async def test_a_body_beyond_what_is_kept_is_not_repeated() -> None:
    async with open_world() as world:
        first, second, client = world.agent("a"), world.agent("b"), world.client()
        await post(client, b"x" * 2 * SPARE, length=4 * SPARE)
        request = await first.next()
        await request.say(Accepted())
        await wait_all_tasks_blocked()
        await request.refuse(no_answer("unreachable"))

        assert told(await client.answer())["kind"] == "unreachable"
        assert second.mux.streams == 0


async def test_when_nobody_can_the_last_reason_is_told() -> None:
    async with open_world() as world:
        first, second, client = world.agent("a"), world.agent("b"), world.client()
        await client.get()
        await (await first.next()).refuse(no_answer("stale", "agent"))
        await (await second.next()).refuse(no_answer("unreachable"))

        answer = told(await client.answer())
        assert answer == {"kind": "unreachable", "hop": "app", "agent": "b-host"}


async def test_fifty_requests_at_once_to_agents_that_all_die_are_each_told() -> None:
    async with open_world() as world:
        agents, heard = [world.agent("a"), world.agent("b")], []

        async def ask() -> None:
            client = world.client()
            await post(client, b"x")
            heard.append(told(await client.answer())["kind"])

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            for agent in agents:
                await agent.die()

        assert heard == ["broken"] * 50


async def test_without_an_agent_that_is_said() -> None:
    async with open_world() as world:
        client = world.client()
        await client.get()

        answer = told(await client.answer())
        assert answer == {"kind": "unreachable", "hop": "agent", "agent": ""}


@pytest.mark.parametrize(
    ("method", "repeated"), [("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)]
)
async def test_on_a_tunnel_that_dies_unheard_only_what_changes_nothing_is_repeated(
    method: str, repeated: bool
) -> None:
    async with open_world() as world:
        first, second, client = world.agent("a"), world.agent("b"), world.client()
        await client.get(method=method)
        await first.next()
        await first.die()
        if repeated:
            await (await second.next()).answer(200, b"", length=0)
            assert (await client.answer(method=method)).status == 200
        else:
            assert told(await client.answer())["kind"] == "broken"
            assert second.mux.streams == 0


async def test_it_is_repeated_once_not_until_nobody_is_left() -> None:
    async with open_world() as world:
        agents, client = [world.agent(name) for name in "abc"], world.client()
        await client.get()
        for agent in agents[:2]:
            await agent.next()
            await agent.die()

        assert told(await client.answer())["agent"] == "b-host"
        assert agents[2].mux.streams == 0


async def test_a_replaced_tunnel_of_the_same_agent_is_tried() -> None:
    """The old one goes away in the instant in which a request chose it."""
    async with open_world() as world:
        old, client = world.agent(), world.client()
        old.mux.go_away()
        old.tunnel.mux.go_away()
        new = world.agent()
        await post(client, b"the body")
        await (await new.next()).answer()

        assert (await client.answer()).status == 200


# --- Ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 1000])
async def test_an_answer_cut_by_the_agent_is_cut_for_the_client(length: int | None) -> None:
    """Never a clean end: not the last chunk, not a full length (R-23)."""
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        request = await agent.next()
        await request.head_of(200, length=length)
        await request.stream.send_all(b"half")
        await wait_all_tasks_blocked()
        request.stream.reset()

        with pytest.raises(EOFError):
            await client.answer()


async def test_an_answer_shorter_than_it_said_is_cut_for_the_client() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        await (await agent.next()).answer(200, b"half", length=1000)

        with pytest.raises(EOFError):
            await client.answer()


async def test_a_tunnel_lost_before_the_head_is_told_as_the_agents() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await post(client, b"x")
        await agent.next()
        await agent.die()

        answer = told(await client.answer())
        assert answer == {"kind": "broken", "hop": "agent", "agent": "a-host"}


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\0\0\3abc",
        pack(ResponseHead(status=42, reason=b"", headers=b"", length=0)),
        pack(ResponseHead(status=101, reason=b"", headers=b"", length=0)),
        b"",
    ],
    ids=["no message", "no status", "switching unasked", "nothing"],
)
async def test_nonsense_of_an_agent_is_the_agents_fault(
    nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        request = await agent.next()
        await request.stream.send_all(nonsense)
        await request.stream.aclose()

        assert told(await client.answer())["hop"] == "agent"
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_client_that_breaks_its_own_framing_is_told_so() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.send(
            "POST / HTTP/1.1",
            "Host: grafana.proxy.test",
            "Transfer-Encoding: chunked",
            body=b"3\r\nabc\r\n",
        )
        request = await agent.next()
        await client.stream.send_all(b"nonsense\r\n")

        assert (await client.answer()).status == 400
        with pytest.raises(trio.BrokenResourceError):
            await request.body()


async def test_an_agent_that_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        request = await agent.next()

        answer = told(await client.answer())
        assert (answer["kind"], answer["hop"]) == ("timeout", "agent")
        assert trio.current_time() == ANSWER_DEADLINE
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await request.stream.send_all(b"late")


async def test_an_agent_that_never_accepts_a_long_body_is_given_up(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        world.agent()
        client = world.client()
        await post(client, b"x" * 2 * SPARE, length=4 * SPARE)

        assert told(await client.answer())["kind"] == "timeout"
        assert trio.current_time() == ANSWER_DEADLINE


async def test_a_slow_upload_is_no_silence_of_the_agent(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        pieces = 10
        await post(client, b"", length=pieces * 30_000)
        request = await agent.next()
        await request.say(Accepted())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.body)
            for _ in range(pieces):
                await trio.sleep(20)
                await client.stream.send_all(b"x" * 30_000)
        assert trio.current_time() > ANSWER_DEADLINE
        await request.answer()

        assert (await client.answer()).status == 200


async def test_when_the_client_leaves_the_agent_hears_of_it(autojump_clock: MockClock) -> None:
    """Within a second, whether it waits for the head, or is in the middle of the body."""
    for begun in (False, True):
        async with open_world() as world:
            agent, client = world.agent(), world.client()
            await client.get()
            request = await agent.next()
            if begun:
                await request.head_of(200)
            await client.close()
            await trio.sleep(2 * LOOK + 0.001)

            with pytest.raises(trio.BrokenResourceError):
                await request.stream.send_all(b"x")


async def test_a_client_that_is_watched_may_ask_again(autojump_clock: MockClock) -> None:
    """What watches for its going reads from it, and must not when the next request comes."""
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        for _ in range(3):
            await client.get()
            request = await agent.next()
            await trio.sleep(3 * LOOK)
            assert len(world.waiting) == 1
            await request.answer(200, b"late")
            assert (await client.answer()).body == b"late"
            await wait_all_tasks_blocked()
            assert len(world.waiting) == 0


async def test_a_pipelined_request_is_no_leaving() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get("/1")
        first = await agent.next()
        await client.get("/2")
        await wait_all_tasks_blocked()
        await first.answer(200, b"one")
        second = await agent.next()
        await second.answer(200, b"two")

        # Both may arrive in one read: read the bytes, not an answer.
        data = b""
        while b"two" not in data:
            data += await client.stream.receive_some()
        assert b"one" in data
        assert (first.head.target, second.head.target) == (b"/1", b"/2")


async def test_an_ended_session_cuts_what_runs() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        request = await agent.next()
        await request.head_of(200)
        await wait_all_tasks_blocked()

        assert world.live.cut("s1", "session ended") == 1
        with pytest.raises(EOFError):
            await client.answer()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await request.stream.send_all(b"x")
        assert len(world.live) == 0


async def test_nothing_is_held_after_a_request() -> None:
    async with open_world() as world:
        agent, client = world.agent(), world.client()
        await client.get()
        await (await agent.next()).answer()
        await client.answer()
        await wait_all_tasks_blocked()

        assert (len(world.live), agent.mux.streams, agent.tunnel.mux.streams) == (0, 0, 0)
