"""`tport hello`: a command that a package of one's own adds."""

from __future__ import annotations

from typing import Annotated

import typer

from tport.commands.run import with_cluster

app = typer.Typer()


@app.command()
def hello(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Whom to greet.")] = "world",
    *,
    cluster: Annotated[bool, typer.Option(help="Ask the cluster for its name.")] = False,
) -> None:
    """Greet someone, in the name of the cluster if you like."""
    sender = ""
    if cluster:
        status = with_cluster(ctx, lambda auth: auth.status())
        sender = f" from {status.cluster}"
    typer.echo(f"hello {name}{sender}")
