"""`tport rm`: resources go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.create import say_consequence
from tport.commands.last_administrator import last_administrator_noted
from tport.commands.printing import say
from tport.commands.run import with_cluster
from tport.engine.errors import NotFound

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI

app = typer.Typer(help="Remove resources: roles, users, tokens, apps, locks.")


@app.command()
def rm(
    ctx: typer.Context,
    resources: Annotated[
        list[str], typer.Argument(help="KIND/NAME, or several; or cluster_auth_preference.")
    ],
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="What is gone already is no error.")
    ] = False,
) -> None:
    """Remove resources, in order. What they gave ends within 5 seconds."""
    from tport.engine.config.kinds import parse_reference
    from tport.engine.types.resource import shown_name

    wanted = [parse_reference(each, whole=True) for each in resources]

    async def remove(auth: AuthAPI) -> None:
        for kind, name in wanted:
            try:
                await auth.delete_resource(kind=kind, name=name)
            except NotFound:
                if not if_exists:
                    raise
            else:
                say(f"{kind} {shown_name(kind, name)!r} has been removed")
                if kind == "cluster_auth_preference":  # what the file says counts again
                    await say_consequence(auth)

    async def remove_noted(auth: AuthAPI) -> None:
        async with last_administrator_noted(auth):
            await remove(auth)

    with_cluster(ctx, remove_noted)
