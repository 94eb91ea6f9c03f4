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
MAX_SAID: Final = 400  # characters of its stderr that are told, the last ones
_PASSED_ON: Final = ("PATH", "HOME", "LANG")


async def _end(process: trio.Process) -> None:
    """End the program and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
                done = await trio.run_process(
                    [self._program, what, record, value],
                    stdin=b"",
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    cwd="/",
                    start_new_session=True,
                    deliver_cancel=_end,
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                )
        except trio.TooSlowError:
            raise HookFailed(
                f"acme.dns_hook {self._program} took over {deadline:.0f} s to {what} {record}"
            ) from None
        except (OSError, subprocess.SubprocessError) as problem:
            why = getattr(problem, "strerror", None) or problem
            raise HookFailed(f"acme.dns_hook {self._program} can't be run: {why}") from None
        if done.returncode != 0:
            said = printable(done.stderr.decode("utf-8", "replace").strip())[-MAX_SAID:]
            raise HookFailed(
                f"acme.dns_hook {self._program} failed with {done.returncode} to {what} {record}"
                + (f": {said}" if said else "")
            )
