"""`tport settings`: what the running cluster works with, and where each value comes from."""

from __future__ import annotations

import typer

from tport.commands.printing import print_rows, print_value
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption

app = typer.Typer(help="Settings as they are in force.", no_args_is_help=True)


@app.callback()
def settings() -> None:
    """Settings as they are in force, and where each comes from."""


@app.command("ls")
def list_(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """List the settings of auth's process: its own, and those of the proxy that runs in it.

    Of a secret it is said that it is set, or which file holds it.
    """
    found = with_cluster(ctx, lambda auth: auth.list_settings())
    if format is not Format.text:
        print_value(
            [
                {
                    "setting": each.path,
                    "value": each.value,
                    "origin": each.origin.kind,
                    "where": each.origin.where,
                    "meaning": each.meaning,
                }
                for each in found
            ],
            format,
        )
        return
    print_rows(
        ("SETTING", "VALUE", "FROM"),
        [(each.path, each.value or "none", str(each.origin)) for each in found],
        empty="there are none",
    )
