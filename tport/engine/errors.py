"""Every error tport raises on purpose, and what each becomes at the two edges.

    TportError                   exit status   HTTP status
    ├── ConfigError                   2            -      names file:line:column
    ├── InvalidRequest                2           400     the caller asked for nonsense
    ├── AccessDenied                  3           403     `reason` is for the audit log only
    │   ├── Locked                    3           403     a lock on this person or machine
    │   ├── OutOfTime                 3           403     a certificate, by the clock of who judges it
    │   ├── NotSignedIn               3           401     no session, or one that is over
    │   └── ProofNeeded               3           401     a session that must be proven anew
    ├── NotFound                      4           404
    │   └── AttemptOver               4           404     what was begun took too long
    ├── AlreadyExists                 6           409
    ├── CompareFailed                 6           409     someone wrote first: read again
    ├── LimitExceeded                 5           429     `retry_after` seconds
    ├── Unavailable                   5           503     auth or storage can't answer now
    ├── ConnectionProblem             5           502     nothing of ours arrived: retry is safe
    └── RemoteProtocolError           5           400     the peer broke a wire protocol

`hint` is what to do next, one sentence, for the person who reads the message; the command
line prints it as `tport: hint: …`. What we ourselves do wrong is no TportError: it is a
bug, and ends in a traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class TportError(Exception):
    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(TportError):
    """What the operator wrote cannot be meant. One error may carry many complaints, a line each."""

    exit_code = 2

    def __init__(self, problem: str, *, where: object = "", hint: str = "") -> None:
        super().__init__(f"{where}: {problem}" if where else problem, hint=hint)


class InvalidRequest(TportError):
    exit_code = 2
    status = 400


class AccessDenied(TportError):
    """The caller is known and may not do this.

    `str()` may be shown to the caller. `reason` says which rule decided; it goes to the
    audit log and no further.
    """

    exit_code = 3
    status = 403

    def __init__(self, message: str, *, reason: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason or message


class Locked(AccessDenied):
    """A lock keeps the caller out, whom it tells so; it may be lifted any time."""


class OutOfTime(AccessDenied):
    """A certificate does not count now, by the clock of who judges it: one that is wrong may be put right."""


class NotSignedIn(AccessDenied):
    """There is no live session: signing in would help."""

    status = 401


class ProofNeeded(AccessDenied):
    """Who is signed in must prove it anew for this: the last proof is too old."""

    status = 401


class NotFound(TportError):
    exit_code = 4
    status = 404


class AttemptOver(NotFound):
    """What was begun (a sign-in, a device) took too long, is done, or was begun anew."""


class AlreadyExists(TportError):
    exit_code = 6
    status = 409


class CompareFailed(TportError):
    """The item changed since it was read."""

    exit_code = 6
    status = 409


class LimitExceeded(TportError):
    exit_code = 5
    status = 429

    def __init__(self, message: str, *, retry_after: float = 60.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unavailable(TportError):
    """What must answer first (auth, storage) cannot now. Deny, and say so."""

    exit_code = 5
    status = 503


class ConnectionProblem(TportError):
    """Nothing of ours arrived, so that trying again, or elsewhere, is safe."""

    exit_code = 5
    status = 502


class RemoteProtocolError(TportError):
    exit_code = 5
    status = 400


def leaves(error: BaseException) -> Iterator[Any]:
    """Yield the plain exceptions of a group; of one that is none, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
