"""A signal ends a selftest after it has tidied up, and never in the middle of that."""

from __future__ import annotations

import signal

import pytest
import trio

from tport.engine.selftest.stop import Stopped, until_stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_cancels_tidies_up_and_is_the_exit_status(number: signal.Signals) -> None:
    tidied = []

    async def work() -> None:
        try:
            signal.raise_signal(number)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                tidied.append(number)

    with pytest.raises(Stopped) as stopped:
        await until_stopped(work)

    assert stopped.value.exit_status == 128 + number
    assert tidied == [number]


async def test_without_a_signal_the_result_comes_out() -> None:
    async def work() -> str:
        await trio.lowlevel.checkpoint()
        return "done"

    assert await until_stopped(work) == "done"
