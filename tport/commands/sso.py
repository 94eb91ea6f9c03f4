"""`tport sso`: connectors of identity providers, tried before anybody depends on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.create import read_noted
from tport.commands.printing import print_out, print_rows, print_value, say
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import InvalidRequest, NotFound, TportError

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.api.sso import TestInfo
    from tport.engine.types.connector import Connector

app = typer.Typer(help="Identity providers: try a connector.", no_args_is_help=True)

LOOK = 1.0  # s between looks whether the person came back


@app.callback()
def root() -> None:
    """Identity providers: people sign in with them by connectors, resources of the kinds oidc and github."""


@app.command("test")
def try_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A connector's YAML, as for tport create.")],
    format: FormatOption = Format.text,
) -> None:
    """Sign in by a connector before it is made.

    Shows what you would be by it: claims, user, roles, applications.

    Prints an address to open in a browser, and waits until you come back from the provider. Nobody
    is signed in here by it, and nothing is changed. Then, if it is right: tport create FILE
    """
    connector = _connector(file)

    async def run(auth: AuthAPI) -> TestInfo:
        import trio

        url = await auth.begin_sso_test(connector=connector)
        say("open this in your browser, and sign in there; it is good for ten minutes:")
        print_out(url)
        while True:
            await trio.sleep(LOOK)
            try:
                found = await auth.sso_test(id=url.rpartition("/")[2])
            except NotFound:
                raise TportError(
                    "nobody came back from the provider within ten minutes",
                    hint="if the provider showed an error: does it know this address to come back"
                    " to? See the page about signing in by a provider in the documentation",
                ) from None
            if found.is_done:
                return found

    found = with_cluster(ctx, run)
    if format is not Format.text:
        from msgspec import to_builtins

        print_value(to_builtins(found), format)
    else:
        _print(found)
    if found.problem:
        raise TportError(found.problem, hint=found.hint)


def _connector(file: Path) -> Connector:
    from tport.engine.config.load import read_text
    from tport.engine.types.resource import GithubResource, OidcResource

    found = [each.resource for each in read_noted(read_text(file, str(file)), str(file))]
    if len(found) != 1 or not isinstance(found[0], OidcResource | GithubResource):
        raise InvalidRequest(
            f"{file}: expected one resource, of the kind oidc or github",
            hint="see: tport get connectors",
        )
    return found[0].connector


def _print(found: TestInfo) -> None:
    """Say what came of it, from what the provider said to what it would open."""
    print_rows(
        ("CLAIM", "SAYS"),
        [(name, ", ".join(values)) for name, values in found.claims.items()],
        empty="the provider said nothing of you",
    )
    for name, why in found.left_out.items():
        say(f"left out: {name}: {why}")
    for role in found.missing:
        say(f"a mapping gives the role {role!r}, which there is not")
    if found.mappings:
        print_out("")
        print_rows(
            ("WOULD MAP", "VALUE", "ROLES"),
            [(each.claim, each.value, ", ".join(each.roles)) for each in found.mappings],
            empty="",
        )
    if not found.problem:
        print_out(
            f"\nuser:  {found.user}"
            f"\nroles: {', '.join(found.roles)}"
            f"\nopens: {', '.join(found.apps) or 'no application that is offered now'}"
        )
