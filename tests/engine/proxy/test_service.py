"""The proxy put together: what a change ends, what a lost watch does not, and credentials in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.figures import BUSY
from tests.stack import Person, Stack, open_stack
from tport.engine.net.tls_stream import TlsStream
from tport.engine.types.session import session_id


@asynccontextmanager
async def downloading(stack: Stack, person: Person) -> AsyncIterator[TlsStream]:
    """Run a download that never ends by itself."""

    async def drip(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"4\r\ndrip\r\n")
            await trio.sleep(0.02)

    await person.open("raw")
    stack.raw_app.script = drip
    host = stack.host("raw")
    client = await stack.connect(host)
    head = f"GET / HTTP/1.1\r\nHost: {host}:{stack.port}\r\nCookie: {person.cookie('raw')}\r\n\r\n"
    await client.send_all(head.encode())
    try:
        await read_more(client)
        yield client
    finally:
        await trio.aclose_forcefully(client)


async def read_more(client: TlsStream, *, times: int = 3) -> None:
    with trio.fail_after(5 * BUSY):
        for _ in range(times):
            assert await client.receive_some()


async def is_cut(client: TlsStream, *, within: float) -> bool:
    """Read until the end; tell whether it came in time, and not as a clean one."""
    data = b""
    with trio.move_on_after(within):
        try:
            while piece := await client.receive_some():
                data = (data + piece)[-100:]
        except (trio.BrokenResourceError, EOFError):
            pass
        return not data.endswith(b"0\r\n\r\n")
    return False


def lose_watches(stack: Stack) -> None:
    """Do what auth does to followers that are too slow."""
    for feed in list(stack.auth.watches._feeds):
        feed.end()


async def test_a_lost_watch_ends_nothing_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_stack() as stack:
        alice = await stack.user("alice")
        async with downloading(stack, alice) as client:
            lose_watches(stack)
            await trio.sleep(1.2)  # until the next watch, and the question about the session

            await read_more(client, times=20)
            assert (await alice.get("echo")).status == 200


async def test_what_ended_while_the_watch_was_lost_is_cut_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No event tells of it: what runs is asked for again."""
    async with open_stack() as stack:
        alice = await stack.user("alice")
        async with downloading(stack, alice) as client:
            lose_watches(stack)
            await stack.api.end_app_session(id=session_id(alice.apps[stack.host("raw")]))

            assert await is_cut(client, within=5 * BUSY)


async def test_signing_out_cuts_what_runs_at_once() -> None:
    async with open_stack() as stack:
        alice, bob = await stack.user("alice"), await stack.user("bob")
        async with downloading(stack, alice) as hers, downloading(stack, bob) as his:
            await stack.api.sign_out(id=session_id(alice.web))

            assert await is_cut(hers, within=2 * BUSY)
            await read_more(his)


async def test_a_change_of_one_user_makes_no_other_sign_anew() -> None:
    async with open_stack() as stack:
        alice, bob = await stack.user("alice"), await stack.user("bob")
        assert (await alice.get("echo")).status == 200
        asked: list[str] = []
        sign = stack.auth.launcher.sign_session

        async def counting(id_: str) -> object:
            asked.append(id_)
            return await sign(id_)

        stack.auth.launcher.sign_session = counting  # type: ignore[method-assign, assignment]
        await stack.admin.update_user(name="bob", roles=(), traits=None)
        await trio.sleep(0.1)

        assert (await alice.get("echo")).status == 200
        assert asked == []
        assert bob.name == "bob"


async def test_garbage_at_the_end_of_a_launch_is_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Too many fields, twice the same, other alphabets: a new launch, and no traceback."""
    queries = (
        "&".join(f"a{n}=1" for n in range(20)),
        "code=a&code=b&state=c",
        "code=%ff&state=%ff",
    )
    async with open_stack() as stack:
        for query in queries:
            answer = await stack.request(stack.host("echo"), f"/.tport/auth?{query}")
            assert answer.status == 302
            assert "/web/launch?state=" in answer.header("location")
    assert not [record for record in caplog.records if record.exc_info]
