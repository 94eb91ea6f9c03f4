"""Dynamic labels: what a command prints, run on this machine again and again.

Access is decided by these values, so a command's failure is a value of its own (`error`, which
no role's allow fits) and its output counts only when it is one clean, short line. Commands come
from the agent's own file, never over the wire.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import trio

from tport.engine.access.labels import FAILED, check_dynamic_label
from tport.engine.types.app import DynamicLabel, is_label

logger = logging.getLogger(__name__)

TIMEOUT: Final = 5.0  # s a command may take
MAX_OUTPUT: Final = 4096  # bytes; a label holds 1,024 characters
MAX_RUNNING: Final = 4  # commands at a time on one agent
KILL_WAIT: Final = 1.0  # s for the system to bury what was killed

# Nothing of the agent's own environment: it may hold its token.
ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

Run = Callable[[Sequence[str]], Awaitable[bytes]]
"""Runs a command and returns what it printed; raises CommandFailed."""

Publish = Callable[[Mapping[str, str]], None]
"""Takes all dynamic labels of one application, whenever one has changed."""


class CommandFailed(Exception):
    """Why there is no output, for the log."""


async def keep_labels(
    commands: Sequence[DynamicLabel],
    publish: Publish,
    *,
    limiter: trio.CapacityLimiter,
    run: Run | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the dynamic labels of one application until cancelled.

    Started means: every label has its first value, and `publish` was called with them. It is
    called again when a value changes. With no commands it returns at once.

    Args:
        limiter: shared by all applications of the agent; how many commands run at a time.
        run: `run_command`, unless a test brings its own.

    Raises:
        InvalidRequest: a command that may not be run.
    """
    for command in commands:
        check_dynamic_label(command)
    labels = _Labels(publish, run or run_command, limiter)
    async with trio.open_nursery() as first:
        for command in commands:
            first.start_soon(labels.measure, command)
    labels.publish()
    task_status.started()
    async with trio.open_nursery() as nursery:
        for command in commands:
            nursery.start_soon(labels.keep, command)


async def run_command(argv: Sequence[str]) -> bytes:
    """Run `argv` without a shell, input, or our environment; return its standard output.

    Whatever way this ends, nothing the command started in its own process group goes on
    after a failure.

    Raises:
        CommandFailed: it can't be started, fails, takes over 5 s or prints over 4 KiB.
    """
    try:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.path.sep,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"it can't be started: {error.strerror}") from None
    assert process.stdout is not None
    ended = False
    async with process.stdout as stdout:
        try:
            with trio.move_on_after(TIMEOUT) as deadline:
                output = await _read(stdout)
                await process.wait()
                ended = True
        finally:
            if not ended:
                _kill(process)
                with trio.CancelScope(deadline=trio.current_time() + KILL_WAIT, shield=True):
                    await process.wait()
    if deadline.cancelled_caught:
        raise CommandFailed(f"it took longer than {TIMEOUT:g} s")
    if process.returncode != 0:
        raise CommandFailed(f"it ended with status {process.returncode}")
    return output


class _Labels:
    """The values of one application's labels."""

    def __init__(self, publish: Publish, run: Run, limiter: trio.CapacityLimiter) -> None:
        self._publish = publish
        self._run = run
        self._limiter = limiter
        self._values: dict[str, str] = {}

    def publish(self) -> None:
        if self._values:
            self._publish(dict(self._values))

    async def measure(self, command: DynamicLabel) -> bool:
        """Run one command and keep its value; tell whether that changed."""
        try:
            async with self._limiter:
                output = await self._run(command.command)
            value = _label_value(command.name, output)
        except CommandFailed as failure:
            value = FAILED
            if self._values.get(command.name) != FAILED:  # once, not every period
                logger.warning("label %s: the command failed: %s", command.name, failure)
        changed = self._values.get(command.name) != value
        self._values[command.name] = value
        return changed

    async def keep(self, command: DynamicLabel) -> None:
        while True:
            await trio.sleep(command.period)
            if await self.measure(command):
                self.publish()


def _label_value(name: str, output: bytes) -> str:
    """Return what was printed when it can be a label's value.

    Raises:
        CommandFailed: nothing, more than a line, or characters that no label holds.
    """
    try:
        value = output.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise CommandFailed("it printed something other than UTF-8") from None
    if not value:
        raise CommandFailed("it printed nothing")
    if not is_label(name, value):
        raise CommandFailed("it printed more than one short line of printable text")
    return value


async def _read(stdout: trio.abc.ReceiveStream) -> bytes:
    output = bytearray()
    while chunk := await stdout.receive_some(MAX_OUTPUT + 1):
        output += chunk
        if len(output) > MAX_OUTPUT:
            raise CommandFailed(f"it printed more than {MAX_OUTPUT} bytes")
    return bytes(output)


def _kill(process: trio.Process) -> None:
    """Kill a command that has not been waited for, and on POSIX all of its process group."""
    if sys.platform == "win32":
        process.kill()
        return
    try:
        # Its own group (start_new_session); the id can't be another's while nobody waited for it.
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
