"""What takes no waiting is answered by an agent without a task, and ends as everything else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.agent.test_apps import ALICE, Far, Side
from tests.engine.net.test_tcp import pair
from tport.engine.api.changes import Change, EpochChanged, RoleDeleted, SessionEnded
from tport.engine.net.moments import MOMENT
from tport.engine.net.mux_stream import MuxStream
from tport.engine.net.tcp import TcpStream
from tport.engine.proto.tunnel import ResponseHead

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class QuickSide(Side):
    """An agent whose application is spoken to by TCP, in the test's hands, and was asked once."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.dialled: list[TcpStream] = []  # the application's ends
        self._dialled_one = trio.Event()

    async def _dial(self) -> trio.abc.Stream:
        ours, its = pair()
        self.dialled.append(its)
        self._dialled_one.set()
        self._dialled_one = trio.Event()
        return ours

    async def heard(self, number: int = -1) -> bytes:
        """Return what the application is asked on a connection, or is left with."""
        with trio.fail_after(20):
            if not self.dialled:
                await self.next_dialled()
            return await self.dialled[number].receive_some()

    async def next_dialled(self) -> None:
        with trio.fail_after(20):
            await self._dialled_one.wait()

    async def say(self, data: bytes, number: int = -1) -> None:
        await self.dialled[number].send_all(data)

    async def warm(self) -> None:
        """Have a connection kept."""
        far = await self.ask(self.credential())
        assert (await self.heard()).startswith(b"GET / ")
        await self.say(OK)
        answer = await far.answer()
        assert isinstance(answer, ResponseHead)
        await wait_all_tasks_blocked(0.001)

    async def asked(self) -> Far:
        """Ask once more, by the connection that is kept."""
        far = await self.ask()
        assert (await self.heard()).startswith(b"GET / ")
        assert len(self.dialled) == 1
        return far

    @property
    def in_a_moment(self) -> int:
        return len(self.apps._moments)


@asynccontextmanager
async def quick() -> AsyncIterator[QuickSide]:
    async with trio.open_nursery() as nursery:
        side = QuickSide(nursery)
        await side.run()
        await side.warm()
        yield side
        await side.offered["grafana"].upstream.retire()
        nursery.cancel_scope.cancel()
        for stream in side.dialled:
            stream.close()


async def test_a_request_by_a_kept_connection_is_answered_without_a_task() -> None:
    async with quick() as side:
        far = await side.asked()
        assert side.in_a_moment == side.apps.running == 1
        await side.say(OK)
        answer = await far.answer()

        assert isinstance(answer, ResponseHead)
        assert answer.status == 200
        assert side.in_a_moment == side.apps.running == 0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (SessionEnded(id="s1"), "denied"),
        (RoleDeleted(name="access"), "denied"),
        (EpochChanged(user_key=ALICE, epoch=2), "unknown-session"),
        (EpochChanged(user_key=ALICE, epoch=-1), "unknown-session"),
    ],
    ids=["signed out", "without a role", "changed", "deleted"],
)
async def test_who_may_no_longer_when_a_task_takes_over_is_told_and_the_application_is_left(
    autojump_clock: MockClock, change: Change, kind: str
) -> None:
    """In between nobody holds the request, so that no change cuts it; the refusal is as for a new one."""
    async with quick() as side:
        far = await side.asked()
        await side.auth.tell(change)
        began = trio.current_time()

        assert await far.refusal() == kind
        assert trio.current_time() - began <= MOMENT + 0.1
        assert await side.heard() == b"", "a connection nobody uses is closed"
        await wait_all_tasks_blocked()
        assert side.apps.running == 0


async def test_who_is_cut_while_a_task_takes_over_leaves_no_connection_behind(
    autojump_clock: MockClock,
) -> None:
    async with quick() as side:
        far = await side.asked()
        [passage] = side.apps._moments._new | side.apps._moments._older
        passage.late()
        side.agent._streams[far.stream.id]._break()

        assert await side.heard() == b""
        await wait_all_tasks_blocked()
        assert side.apps.running == 0


async def test_a_stream_that_is_cut_when_it_comes_reaches_no_application() -> None:
    async with quick() as side:

        def cut_in_the_same_breath(stream: MuxStream) -> None:
            stream._ended = True
            stream._break()
            side.apps.take(stream, side._nursery)

        side.agent.take_streams(cut_in_the_same_breath)
        await side.ask()
        await wait_all_tasks_blocked(0.001)

        assert side.dialled[0].receive_nowait() is None
        assert side.in_a_moment == side.apps.running == 0
        assert side.agent.streams == 0


async def test_a_bug_in_a_request_is_told_and_ends_neither_the_agent_nor_the_tunnel(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quick() as side:
        rewriter = side.offered["grafana"].rewriter

        def bug(*_: object, **__: object) -> None:
            raise RuntimeError("a bug, put there by a test")

        with monkeypatch.context() as patch:
            patch.setattr(rewriter, "request", bug)
            far = await side.ask()
            with pytest.raises(trio.BrokenResourceError):
                await far.answer()
            await trio.sleep(2 * MOMENT)
        assert "a request failed in the agent" in caplog.text
        assert side.in_a_moment == side.apps.running == 0
        assert await side.heard(0) == b""
        caplog.clear()

        further = await side.ask()
        await wait_all_tasks_blocked(0.001)
        assert (await side.heard(-1)).startswith(b"GET / ")
        await side.say(OK)
        assert isinstance(await further.answer(), ResponseHead)


async def test_an_application_that_hangs_up_is_asked_again_by_a_new_connection() -> None:
    async with quick() as side:
        far = await side.asked()
        side.dialled[0].close()
        await side.next_dialled()
        assert (await side.heard()).startswith(b"GET / ")
        await side.say(OK)

        assert isinstance(await far.answer(), ResponseHead)


async def test_what_nobody_asked_for_is_no_answer_to_the_next_request() -> None:
    async with quick() as side:
        await side.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
        await wait_all_tasks_blocked(0.001)
        far = await side.ask()
        await wait_all_tasks_blocked(0.001)
        assert len(side.dialled) == 2
        assert (await side.heard()).startswith(b"GET / ")
        await side.say(OK)

        assert isinstance(await far.answer(), ResponseHead)
        assert far._inbox.rest() + await far.stream.receive_some() == b"hello"


async def test_an_answer_with_more_behind_it_gives_the_connection_to_nobody_else() -> None:
    async with quick() as side:
        far = await side.asked()
        await side.say(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
        assert isinstance(await far.answer(), ResponseHead)
        await wait_all_tasks_blocked(0.001)

        assert await side.heard() == b"", "it was closed"


async def test_informational_answers_and_late_bodies_are_passed_on_by_a_task() -> None:
    async with quick() as side:
        far = await side.asked()
        await side.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        first = await far.answer()
        await side.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        second = await far.answer()
        await side.say(b"llo")

        assert isinstance(first, ResponseHead)
        assert isinstance(second, ResponseHead)
        assert (first.status, second.status) == (103, 200)
        body = far._inbox.rest()
        while data := await far.stream.receive_some():
            body += data
        assert body == b"hello"
        await wait_all_tasks_blocked(0.001)
        assert side.apps.running == 0
