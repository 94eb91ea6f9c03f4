"""Hashes run beside everything else, and give way to it."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from tport.engine.api.remote import CALL_DEADLINE
from tport.engine.auth.signin.hashing import GIVES_WAY, Hasher
from tport.engine.defaults import HASH_QUEUE, HASH_WAIT
from tport.engine.errors import LimitExceeded


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
async def test_r_33_a_hash_gives_way_and_leaves_other_threads_as_they_are() -> None:
    hasher = Hasher(threads=1)
    priority = partial(os.getpriority, os.PRIO_PROCESS, 0)  # of the thread that asks
    usual = priority()

    assert await hasher.run(priority) == min(usual + GIVES_WAY, 19)
    assert await hasher.run(priority) == min(usual + GIVES_WAY, 19)
    assert await trio.to_thread.run_sync(priority) == usual
    assert priority() == usual


@pytest.mark.parametrize("problem", [errno.EPERM, errno.ENOSYS])
async def test_a_hash_runs_where_the_system_lets_nobody_give_way(
    monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    def refuse(_: int) -> int:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(os, "nice", refuse)

    assert await Hasher(threads=1).run(lambda: "hash") == "hash"


async def test_so_many_wait_for_each_cpu_and_no_longer_than_who_asks_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DOS-05: where hashes take long, as they give way, fewer wait for theirs."""
    hasher = Hasher(threads=2)
    assert await inside_of(hasher) == 2 * (1 + HASH_QUEUE)

    monkeypatch.setattr(time, "monotonic", iter((10.0, 10.9)).__next__)
    await hasher.run(lambda: "hash")
    monkeypatch.undo()
    assert await inside_of(hasher) == 9  # of which two are at theirs
    assert CALL_DEADLINE > 2 * (HASH_WAIT + 0.9)  # some take two


async def inside_of(hasher: Hasher) -> int:
    """Return how many find room at once."""
    async with AsyncExitStack() as inside:
        for number in range(1000):
            try:
                await inside.enter_async_context(hasher.turn(f"user-{number}"))
            except LimitExceeded:
                return number
    raise AssertionError("there is no end to it")


async def test_what_is_wrong_with_a_password_comes_out_of_the_thread() -> None:
    with pytest.raises(ValueError, match="too short"):
        await Hasher(threads=1).run(partial(_fail, "too short"))


def _fail(why: str) -> None:
    raise ValueError(why)
