"""`tport version`."""

from __future__ import annotations

import platform

import typer

import tport
from tport.commands.printing import print_out, print_value
from tport.commands.settings import Format, FormatOption

app = typer.Typer()


@app.command()
def version(format: FormatOption = Format.text) -> None:
    """Print the version."""
    if format is Format.text:
        print_out(f"tport {tport.__version__} (Python {platform.python_version()})")
        return
    print_value({"version": tport.__version__, "python": platform.python_version()}, format)
