"""What a watch has in its queue, for tests that read it dry."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from tport.engine.storage.backend import Change


async def receive_all(changes: trio.abc.ReceiveChannel[Change]) -> list[Change]:
    """Return what is queued. A change is queued before its writer's call returns."""
    received: list[Change] = []

    async def receive() -> None:
        async for change in changes:
            received.append(change)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return received
