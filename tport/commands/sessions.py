"""`tport sessions`: who is signed in, and where."""

from __future__ import annotations

from typing import Annotated

import typer

from tport.commands.printing import print_rows, print_value, say, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import NotFound

app = typer.Typer(help="Who is signed in, and where.", no_args_is_help=True)

MOST = 10_000  # sessions listed


@app.command("ls")
def list_(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", help="Only this user's.")] = "",
    format: FormatOption = Format.text,
) -> None:
    """List live sessions, the newest first."""
    sessions = with_cluster(ctx, lambda auth: auth.list_sessions(user=user, limit=MOST))
    if format is not Format.text:
        print_value(
            [
                {
                    "id": each.id,
                    "kind": each.kind,
                    "user": each.user,
                    "app": each.app,
                    "host": each.host,
                    "web_session": each.web_session,
                    "remote": each.remote,
                    "user_agent": each.user_agent,
                    "created": time_text(each.created),
                    "seen": time_text(each.seen),
                    "expires": time_text(each.expires),
                }
                for each in sessions
            ],
            format,
        )
        return
    print_rows(
        ("SESSION", "USER", "AT", "FROM", "SINCE", "UNTIL"),
        [
            (
                each.id[:12],
                each.user,
                each.app or "tport",
                each.remote,
                time_text(each.created),
                time_text(each.expires),
            )
            for each in sessions
        ],
        empty="nobody is signed in",
    )


@app.command()
def rm(
    ctx: typer.Context,
    session: Annotated[str, typer.Argument(help="The session, as `ls` shows it.")],
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="A session that is over already is no error.")
    ] = False,
) -> None:
    """End a session. With one at tport itself end those at applications that came from it."""
    try:
        gone = with_cluster(ctx, lambda auth: auth.end_session(id=session))
    except NotFound:
        if not if_exists:
            raise
        return
    say(f"session {gone.id[:12]} of {gone.user} at {gone.app or 'tport'} ended")
