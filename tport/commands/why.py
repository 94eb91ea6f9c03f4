"""`tport why`: why a person may, or may not, open an application."""

from __future__ import annotations

from typing import Annotated

import typer

from tport.commands.printing import hint, print_out, print_rows, print_value, printable
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.types.explanation import RoleView, Unmet

app = typer.Typer()


@app.command()
def why(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The user.")],
    application: Annotated[str, typer.Argument(metavar="APP", help="The application's name.")],
    format: FormatOption = Format.text,
) -> None:
    """Say why a user may or may not open an application, and what would change that.

    The status is 0 when they may and 3 when they may not.
    """
    found = with_cluster(ctx, lambda auth: auth.explain_access(user=user, app=application))
    if format is not Format.text:
        import msgspec

        print_value(msgspec.to_builtins(found), format)
    else:
        may = "may" if found.allowed else "may not"
        print_out(printable(f"{found.user} {may} open {found.app}: {found.decided}"))
        print_rows(
            ("ROLE", "SAYS", "SINCE"),
            [(view.role, _SAYS[view.outcome], _since(view)) for view in found.roles],
            empty="no role was given to them",
        )
        for change in found.changes:
            hint(f"to allow it: {printable(change)}")
    if not found.allowed:
        raise typer.Exit(3)


_SAYS = {
    "opens": "opens it",
    "denies": "denies it",
    "falls-short": "does not open it",
    "opens-nothing": "opens no application",
    "unknown": "is no role any more",
}


def _since(view: RoleView) -> str:
    return "; ".join(_told(unmet) for unmet in view.unmet)


def _told(unmet: Unmet) -> str:
    has = f"is {unmet.has}" if unmet.has is not None else "is not there"
    wants = " or ".join(unmet.wanted)
    missing = "".join(f"; the user has no trait {trait}" for trait in unmet.missing_traits)
    return f"{unmet.key} {has}, wanted {wants}{missing}"
