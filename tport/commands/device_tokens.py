"""`tport device-tokens`: the tokens with which people's programs reach applications."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from tport.commands.printing import print_rows, print_value, say, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import NotFound
from tport.engine.types.device_token import DeviceToken
from tport.engine.types.user import canonical_user_name

SHOWN: Final = 12  # characters of an id: enough to name one

app = typer.Typer(
    help="Tokens with which people's programs reach applications.", no_args_is_help=True
)


@app.command("ls")
def list_(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", help="Of this user only.")] = "",
    format: FormatOption = Format.text,
) -> None:
    """List the tokens that work now. People make their own, in the browser."""
    found = with_cluster(ctx, lambda auth: auth.list_device_tokens())
    name = canonical_user_name(user) if user else ""
    tokens = [token for token in found if name in ("", token.user)]
    if format is not Format.text:
        print_value([_value(token) for token in tokens], format)
        return
    print_rows(
        ("ID", "USER", "NAME", "APP", "MADE", "LAST SEEN", "EXPIRES"),
        [
            (
                token.id[:SHOWN],
                token.user,
                token.name,
                token.app,
                time_text(token.created),
                time_text(token.last_seen) if token.last_seen else "never",
                time_text(token.expires),
            )
            for token in tokens
        ],
        empty="nobody has a device token",
    )


@app.command("rm")
def remove(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="The token's id, as `ls` shows it.")],
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="That there is none is no error.")
    ] = False,
) -> None:
    """Revoke a token: what runs by it ends within 5 seconds."""
    try:
        token = with_cluster(ctx, lambda auth: auth.delete_device_token(id=id))
    except NotFound:
        if not if_exists:
            raise
        say("there is no such device token")
    else:
        say(f"{token.user}'s device token {token.name!r} for {token.app} is revoked")


def _value(token: DeviceToken) -> dict[str, object]:
    return {
        "id": token.id,
        "user": token.user,
        "name": token.name,
        "app": token.app,
        "created": time_text(token.created),
        "expires": time_text(token.expires),
        "last_seen": time_text(token.last_seen),
    }
