"""`tport ca`: the cluster's own certificate authorities."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from tport.commands.printing import hint, print_out, say
from tport.commands.run import settings_of, with_cluster
from tport.engine.errors import TportError

app = typer.Typer(help="The cluster's own certificate authorities.", no_args_is_help=True)


class AuthorityType(StrEnum):
    web = "web"
    host = "host"
    user = "user"


@app.command()
def export(
    ctx: typer.Context,
    type: Annotated[
        AuthorityType, typer.Option("--type", help="web: what browsers are shown.")
    ] = AuthorityType.web,
) -> None:
    """Print an authority's certificates, PEM. Private keys never leave auth."""
    found = with_cluster(ctx, lambda auth: auth.authorities())
    print_out("".join(getattr(found, type.value)))


@app.command()
def trust(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Make this machine's browsers trust the cluster's web authority.

    It can only vouch for the proxy's own names and those below them. Says what would be done
    and asks first.
    """
    from tport.engine.client.trust import plan_trust

    found = with_cluster(ctx, lambda auth: auth.authorities())
    steps = plan_trust(found.cluster, "".join(found.web))
    settings = settings_of(ctx)
    export = f"tport {settings.words()}ca export"
    agreed = yes or settings.yes
    if not steps:
        say("this system's way to trust an authority is not known to tport")
        hint(f"import what this prints where your browser keeps authorities: {export}")
        raise typer.Exit(1)
    for step in steps:
        say(f"to do: {step.what}")
        for line in step.commands(export):
            print_out(line)
    if not agreed and sys.stdin.isatty():
        agreed = typer.confirm("Do this now?", err=True)
    if not agreed:
        hint(f"run these lines yourself, or: tport {settings.words()}ca trust --yes")
        return
    failed = False
    for step in steps:
        try:
            step.do()
        except TportError as problem:
            failed = True
            say(f"error: {step.what}: {problem}")
        else:
            say(f"done: {step.what}")
    if failed:
        raise typer.Exit(1)
    say("restart the browser if it runs")
