"""What a request that got no answer is told: from an agent's or our own reason to a Failure. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tport.engine.proto.tunnel import NoAnswer, NoAnswerKind, RequestHead
from tport.engine.types.failure import Failure, Place

_NO_AGENT: Final = (
    "Start the agent on the application's machine, or look at its log if it runs:"
    " it says why it has no tunnel."
)
_AGENT_LOST: Final = (
    "Try again: an agent that lost its tunnel dials anew within seconds. If it stays so, its log"
    " says why."
)
_MAX_CAUSE: Final = 500  # characters of an agent's words that are shown

# kind → status, the word for programs, what to do when the application is to blame.
_KINDS: Final[dict[NoAnswerKind, tuple[int, str, str]]] = {
    "unreachable": (
        502,
        "unreachable",
        "Check that the application runs, and that its URI in the agent's configuration is right.",
    ),
    "broken": (502, "broken-answer", "Look at the application's log."),
    "timeout": (504, "timeout", "Look at whether the application hangs or is overloaded."),
    "refused": (400, "refused", "Change the address; it can't be sent as it is."),
    "busy": (
        503,
        "agent-busy",
        "Try again in a moment; should it stay so, let a second agent offer the application.",
    ),
    "session-busy": (
        503,
        "session-busy",
        "Close tabs and downloads of the application that you no longer need, then try again.",
    ),
    "stale": (
        503,
        "agent-stale",
        "The agent lost touch with the auth service; its log says why. It mends by itself.",
    ),
    "unknown-app": (502, "unknown-app", "The agent's configuration has just changed."),
    "unknown-session": (502, "unknown-session", "Try again."),
}
# Where these failed, whatever hop the agent names.
_PLACES: Final[dict[NoAnswerKind, Place]] = {
    "refused": "proxy",
    "busy": "agent",
    "session-busy": "proxy",
    "stale": "agent",
    "unknown-app": "agent",
    "unknown-session": "agent",
}


def failure_of(
    problem: NoAnswer, head: RequestHead, *, host: str, agent: str, took: float | None = None
) -> Failure:
    """Return what to tell about a request that ended with `problem`, which is not "denied".

    What an agent wrote is shown, so it is made one printable line first.

    Args:
        host: the application's public host.
        agent: what the asked agent's machine calls itself; "": there was none to ask.
        took: seconds from the request to here.
    """
    status, error, advice = _KINDS[problem.kind]
    hop = _PLACES.get(problem.kind, problem.hop)
    if not agent:
        status, advice = 503, _NO_AGENT  # an agent that lives is back within seconds: worth a retry
    elif hop == "app" and problem.advice:
        advice = _one_line(problem.advice)
    elif hop == "agent" and problem.kind in ("unreachable", "broken", "timeout"):
        advice = _AGENT_LOST
    return Failure(
        status=status,
        hop=hop,
        error=error,
        cause=_one_line(problem.cause),
        advice=advice,
        app=head.app,
        host=host,
        agent=agent,
        since=_since(problem.since),
        took=took,
        waited=None if hop != "app" or took is None else min(max(problem.waited, 0.0), took),
        request_id=head.request_id,
        repeatable=head.method in (b"GET", b"HEAD"),
    )


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_CAUSE])


def _since(text: str) -> datetime | None:
    """Return when it began; None where the agent didn't say so, or said nonsense."""
    try:
        since = datetime.fromisoformat(text)
    except ValueError:
        return None
    return since if since.tzinfo is not None else None
