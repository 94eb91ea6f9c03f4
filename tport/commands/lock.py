"""`tport lock`: keep a user, a role or an agent out, at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.last_administrator import last_administrator_noted
from tport.commands.printing import print_out, print_value, say, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import InvalidRequest
from tport.engine.types.lock import LockTarget, check_target

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.types.lock import Lock

app = typer.Typer(help="Lock a user, a role or an agent out at once.")


@app.command()
def lock(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", help="A user's name.")] = "",
    role: Annotated[str, typer.Option("--role", help="A role: everybody who has it.")] = "",
    host: Annotated[
        str, typer.Option("--server-id", "--host", help="An agent, by its id or its host name.")
    ] = "",
    message: Annotated[
        str, typer.Option("--message", help="What those who are locked get to read.")
    ] = "",
    ttl: Annotated[str, typer.Option("--ttl", help="For how long: 30m, 12h.")] = "",
    expires: Annotated[
        str, typer.Option("--expires", help="Until when: 2026-01-31T12:00:00Z.")
    ] = "",
    format: FormatOption = Format.text,
) -> None:
    """Lock one user, role or agent, and print the lock's name; `tport rm lock/NAME` lifts it.

    What runs ends within 5 seconds. Sessions stay, and go on when the lock is lifted.
    """
    target = check_target(LockTarget(user=user, role=role, server_id=host))
    seconds = _seconds(ttl, expires)

    async def lock_out(auth: AuthAPI) -> Lock:
        async with last_administrator_noted(auth):
            return await auth.create_lock(target=target, message=message, ttl=seconds)

    made = with_cluster(ctx, lock_out)
    if format is not Format.text:
        print_value(
            {
                "name": made.name,
                "target": str(made.target),
                "message": made.message,
                "expires": time_text(made.expires),
            },
            format,
        )
        return
    until = f" until {time_text(made.expires)}" if made.expires else ""
    say(f"{made.target} is locked{until}; lift it with: tport rm lock/{made.name}")
    print_out(made.name)


def _seconds(ttl: str, expires: str) -> float:
    """Return how long the lock lasts, in seconds; 0: until it is lifted."""
    from tport.engine.config.flags import judge_flag
    from tport.engine.config.words import parse_seconds

    if ttl and expires:
        raise InvalidRequest("--ttl and --expires exclude each other")
    seconds = 0.0
    if ttl:
        seconds = judge_flag("--ttl", parse_seconds, ttl)
    elif expires:
        try:
            moment = datetime.fromisoformat(expires)
        except ValueError:
            raise InvalidRequest(
                f"--expires {expires}: write it like 2026-01-31T12:00:00Z"
            ) from None
        if moment.tzinfo is None:
            raise InvalidRequest(
                f"--expires {expires}: it needs a time zone, such as a Z at its end"
            )
        seconds = (moment - datetime.now(UTC)).total_seconds()
    else:
        return seconds
    if seconds <= 0:
        raise InvalidRequest("the lock would be over already")
    return seconds
