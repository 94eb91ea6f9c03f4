"""Where one task waits until somebody calls `wake`: the cheapest way that trio knows."""

from __future__ import annotations

import trio


class Waiter:
    """A place for one task. A second at a time is a BusyResourceError."""

    _task: trio.lowlevel.Task | None = None  # of the class: a stream has two, mostly never used

    async def wait(self) -> None:
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting here already")
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)
