"""Who owns a socket is told its news, and nobody else is."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.engine.net.test_tcp import pair
from tport.engine.net.ready import HAS_EPOLL, READABLE, Ready, ready

pytestmark = pytest.mark.skipif(not HAS_EPOLL, reason="trio waits for each socket here")


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


async def settled() -> None:
    await wait_all_tasks_blocked(0.001)


async def test_news_are_told_once_and_each_of_them(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    here, there = sockets
    news: list[int] = []
    ready().add(here, news.append)
    await settled()
    news.clear()
    there.send(b"a")
    await settled()
    there.send(b"b")  # though the first is not read yet
    await settled()

    assert len(news) == 2
    assert all(events & READABLE for events in news)
    await settled()
    assert len(news) == 2
    ready().forget(here)


async def test_a_bug_in_who_is_told_keeps_no_other_from_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = pair()
    with socket.socket() as lone:

        def bug(_: int) -> None:
            raise RuntimeError("a bug, put there by a test")

        ready().add(lone, bug)
        async with a, b:
            await a.send_all(b"hello")
            with trio.fail_after(20):
                assert await b.receive_some() == b"hello"
        await settled()
        ready().forget(lone)

    assert "a bug, put there by a test" in caplog.text


async def test_a_socket_that_can_not_be_watched_is_refused_and_leaves_nothing() -> None:
    with socket.socket() as closed:
        number = closed.fileno()
    here = ready()
    with pytest.raises((OSError, ValueError)):
        here.add(closed, lambda _: None)

    assert number not in here._told
    assert -1 not in here._told


async def test_many_sockets_with_news_at_once_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tport.engine.net.ready.BATCH", 2)
    pairs = [pair() for _ in range(10)]
    with trio.fail_after(20):
        for a, _ in pairs:
            await a.send_all(b"x")
        for _, b in pairs:
            assert await b.receive_some() == b"x"
    for a, b in pairs:
        a.close()
        b.close()


async def test_each_run_of_trio_has_its_own() -> None:
    mine = ready()
    others: list[Ready] = []

    async def run() -> None:
        others.append(ready())

    await trio.to_thread.run_sync(trio.run, run)
    assert mine is ready()
    assert others[0] is not mine


async def test_what_is_due_at_the_end_comes_behind_all_who_are_told_in_the_same_breath() -> None:
    """And only then: outside of a pass nobody would call it."""
    order: list[str] = []
    a, b = socket.socketpair(), socket.socketpair()
    with a[0], a[1], b[0], b[1]:
        for name, (here, _) in (("a", a), ("b", b)):

            def told(_: int, name: str = name) -> None:
                order.append(name)
                assert ready().at_end(lambda: order.append(f"end of {name}"))

            ready().add(here, told)
        await settled()
        order.clear()
        assert not ready().at_end(lambda: order.append("never"))
        a[1].send(b"x")
        b[1].send(b"x")
        await settled()
        for here, _ in (a, b):
            ready().forget(here)

    assert sorted(order[:2]) == ["a", "b"]
    assert sorted(order[2:]) == ["end of a", "end of b"]
