"""`tport version`."""

from __future__ import annotations

import platform

import typer

import tport
from tport.commands.settings import Format, FormatOption

app = typer.Typer()


@app.command()
def version(format: FormatOption = Format.text) -> None:
    """Print the version."""
    if format is Format.text:
        typer.echo(f"tport {tport.__version__} (Python {platform.python_version()})")
        return
    from tport.commands.printing import print_value

    print_value({"version": tport.__version__, "python": platform.python_version()}, format)
