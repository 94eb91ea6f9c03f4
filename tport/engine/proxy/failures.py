"""What a request that got no answer is told: from an agent's or our own reason to a Failure. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tport.engine.proto.tunnel import NoAnswer, RequestHead
from tport.engine.types.failure import Failure, Place

_NO_AGENT: Final = (
    "Start the agent on the application's machine, or look at its log if it runs:"
    " it says why it has no tunnel."
)

# kind → status, the word for programs, the station that failed, what to do.
_FAILURES: Final[dict[str, tuple[int, str, Place, str]]] = {
    "unreachable": (
        502,
        "unreachable",
        "app",
        "Check that the application runs, and that its URI in the agent's configuration is right.",
    ),
    "broken": (502, "broken-answer", "app", "Look at the application's log."),
    "timeout": (504, "timeout", "app", "Look at whether the application hangs or is overloaded."),
    "refused": (400, "refused", "proxy", "Change the address; it can't be sent as it is."),
    "stale": (
        503,
        "agent-stale",
        "agent",
        "The agent lost touch with the auth service; its log says why. It mends by itself.",
    ),
    "unknown-app": (502, "unknown-app", "agent", "The agent's configuration has just changed."),
    "unknown-session": (502, "unknown-session", "agent", "Try again."),
}


def failure_of(problem: NoAnswer, head: RequestHead, *, host: str, agent: str) -> Failure:
    """Return what to tell about a request that ended with `problem`, which is not "denied".

    Args:
        host: the application's public host.
        agent: what the agent's machine calls itself; "": no agent offers the application now.
    """
    status, error, place, advice = _FAILURES[problem.kind]
    return Failure(
        status=status,
        hop=problem.hop if problem.kind == "unreachable" else place,
        error=error,
        cause=problem.cause,
        advice=advice if agent else _NO_AGENT,
        app=head.app,
        host=host,
        agent=agent,
        since=datetime.fromisoformat(problem.since) if problem.since else None,
        request_id=head.request_id,
        repeatable=head.method in (b"GET", b"HEAD"),
    )
