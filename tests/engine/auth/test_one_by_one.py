from __future__ import annotations

import trio

from tport.engine.auth.one_by_one import OneByOne


async def test_one_key_s_turns_come_one_after_the_other_and_no_other_key_waits() -> None:
    turns, inside, most = OneByOne(), 0, 0

    async def take() -> None:
        nonlocal inside, most
        async with turns.turn("a"):
            inside += 1
            most = max(most, inside)
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with turns.turn("a"), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(take)
        with trio.fail_after(30):
            async with turns.turn("b"):
                assert inside == 0
        nursery.cancel_scope.cancel()  # those who wait
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(take)

    assert most == 1
    assert vars(turns) == {"_locks": {}}  # nothing is kept of who was there
