"""The operator's program that makes TXT records for dns-01.

    HOOK present _acme-challenge.example.com <value>     returns when the world can see the record
    HOOK cleanup _acme-challenge.example.com <value>     takes this value away, and leaves others

Its exit status 0 means done; what it says on stderr is told when it fails. Of our environment it
gets PATH, HOME and LANG alone: what it needs to be allowed to change the zone, it brings itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Final, Literal

import trio

from tport.engine.errors import TportError
from tport.engine.pki.acme import dns_value
from tport.engine.proto.acme_answers import printable
from tport.engine.types.acme import Challenge

logger = logging.getLogger(__name__)

DEADLINE: Final = 300.0  # s for one call; zones take minutes to reach all their servers
CLEANUP_DEADLINE: Final = 15.0  # s; the end of the process waits for it
LAST_WORDS: Final = 1.0  # s after its end in which what it said still comes in
MAX_SAID: Final = 400  # characters of its stderr that are told, the last ones
_PASSED_ON: Final = ("PATH", "HOME", "LANG")


class HookFailed(TportError):
    """The operator's program could not do what was asked."""


class DnsHook:
    def __init__(self, program: Path) -> None:
        self._program = program

    async def present(self, challenge: Challenge) -> None:
        """Have the record made that proves a name.

        Raises:
            HookFailed: with what the program said.
        """
        await self._run("present", challenge, DEADLINE)

    async def cleanup(self, challenge: Challenge) -> None:
        """Have the record taken away. A failure is logged: nothing depends on it."""
        try:
            await self._run("cleanup", challenge, CLEANUP_DEADLINE)
        except HookFailed as problem:
            logger.warning("%s", problem)

    async def _run(
        self, what: Literal["present", "cleanup"], challenge: Challenge, deadline: float
    ) -> None:
        record = f"_acme-challenge.{challenge.name}"
        value = dns_value(challenge.key_authorization)
        try:
            with trio.fail_after(deadline):
                status, said = await _run([str(self._program), what, record, value])
        except trio.TooSlowError:
            raise HookFailed(
                f"acme.dns_hook {self._program} took over {deadline:.0f} s to {what} {record}"
            ) from None
        except (OSError, subprocess.SubprocessError) as problem:
            why = getattr(problem, "strerror", None) or problem
            raise HookFailed(f"acme.dns_hook {self._program} can't be run: {why}") from None
        if status != 0:
            raise HookFailed(
                f"acme.dns_hook {self._program} failed with {status} to {what} {record}"
                + (f": {said}" if said else "")
            )


async def _run(command: list[str]) -> tuple[int, str]:
    """Run a program; return its exit status, and the end of what it said on stderr.

    When this is cancelled the program ends, with all that it has started.

    Raises:
        OSError, subprocess.SubprocessError: it can't be run.
    """
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    assert process.stderr is not None
    said = bytearray()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hear, process.stderr, said)
            status = await process.wait()
            # What it left running may hold on to stderr for good.
            nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):  # no wait: it is dead
                await process.wait()
        await trio.aclose_forcefully(process.stderr)
    return status, printable(said.decode("utf-8", "replace").strip())[-MAX_SAID:]


async def _hear(stderr: trio.abc.ReceiveStream, said: bytearray) -> None:
    """Add what comes to `said`, and keep no more of it than will be told."""
    async for piece in stderr:
        said += piece
        del said[: -4 * MAX_SAID]  # bytes; a character has four at most
