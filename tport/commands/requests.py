"""`tport requests`: people who ask for access, and what they are answered."""

from __future__ import annotations

from typing import Annotated

import typer

from tport.commands.printing import (
    hint,
    print_rows,
    print_value,
    printable,
    say,
    time_text,
)
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.api.protocol import AuthAPI
from tport.engine.types.explanation import Explanation
from tport.engine.types.request import AccessRequest

app = typer.Typer(help="People who ask for access to an application.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The request, as `ls` shows it.")]
Answer = Annotated[str, typer.Option("--answer", help="What they get to read.")]


@app.command("ls")
def list_(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Those decided on, too.")] = False,
    format: FormatOption = Format.text,
) -> None:
    """List requests that wait for an answer."""
    found = with_cluster(ctx, lambda auth: auth.list_requests())
    requests = [each for each in found if all_ or each.state == "pending"]
    if format is not Format.text:
        print_value([_value(each) for each in requests], format)
        return
    print_rows(
        ("REQUEST", "USER", "ADDRESS", "REASON", "SINCE", "STATE"),
        [
            (
                each.id,
                each.user,
                each.host,
                each.reason,
                time_text(each.created),
                each.state if each.state == "pending" else f"{each.state} by {each.by}",
            )
            for each in requests
        ],
        empty="nobody waits for access",
    )


@app.command()
def approve(
    ctx: typer.Context,
    id: Id,
    role: Annotated[
        str, typer.Option("--role", help="The role that opens it: tport why USER APP names some.")
    ],
    ttl: Annotated[str, typer.Option("--ttl", help="For how long: 30m, 8h; at most 168h.")] = "8h",
    answer: Answer = "",
    format: FormatOption = Format.text,
) -> None:
    """Give who asked a role for a time. What they wanted then opens by itself."""
    from tport.engine.config.flags import judge_flag
    from tport.engine.config.words import parse_seconds

    seconds = judge_flag("--ttl", parse_seconds, ttl)

    async def decide(auth: AuthAPI) -> tuple[AccessRequest, Explanation | None]:
        decided = await auth.approve_request(id=id, role=role, ttl=seconds, answer=answer)
        return decided, await auth.explain_request(id=id)

    decided, explained = with_cluster(ctx, decide)
    _tell(decided, f"{decided.user} has the role {role} until {time_text(decided.until)}", format)
    if explained is not None and not explained.allowed:
        say(printable(f"yet they still may not open {decided.host}: {explained.decided}"))
        hint(f"what would change that: tport why {decided.user} {explained.app}")


@app.command()
def deny(
    ctx: typer.Context, id: Id, answer: Answer = "", format: FormatOption = Format.text
) -> None:
    """Refuse a request."""
    decided = with_cluster(ctx, lambda auth: auth.deny_request(id=id, answer=answer))
    _tell(decided, f"{decided.user} is told that it was refused", format)


def _tell(decided: AccessRequest, words: str, format: Format) -> None:
    if format is Format.text:
        say(words)
    else:
        print_value(_value(decided), format)


def _value(request: AccessRequest) -> dict[str, object]:
    return {
        "id": request.id,
        "user": request.user,
        "host": request.host,
        "reason": request.reason,
        "created": time_text(request.created),
        "state": request.state,
        "role": request.role,
        "until": time_text(request.until),
        "by": request.by,
        "answer": request.answer,
    }
