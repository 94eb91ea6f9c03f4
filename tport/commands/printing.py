"""How commands speak: data on stdout, all else on stderr as `tport: …`.

Text is a table on a terminal and plain, tab-free columns in a pipe. JSON and YAML have stable
keys, times in RFC 3339 UTC, and `[]` for nothing. A reader that has gone away is no error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import typer

from tport.commands.settings import Format
from tport.engine.errors import TportError

_quiet = False


def print_out(text: str) -> None:
    """Write to stdout; stop quietly when nobody reads any more.

    Raises:
        typer.Exit: the reader has gone; with status 0.
        TportError: the disk is full.
    """
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        raise typer.Exit(0) from None
    except OSError as problem:  # a full disk
        _drop_stdout()
        raise TportError(f"the result can't be written: {problem.strerror}") from None


def _drop_stdout() -> None:
    """Let what is still buffered go nowhere: Python would try to write it once more, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_value(value: object, format: Format) -> None:
    """Print a structure of dicts, lists and plain values as JSON or YAML.

    Others wrote parts of it, and terminals obey U+009B: JSON is ASCII, with all else and DEL escaped;
    YAML escapes as much where anything isn't printable.
    """
    if format is Format.yaml:
        from tport.engine.config.yaml_dump import dumped

        print_out(dumped(value))
    else:
        import json

        print_out(json.dumps(value, indent=2))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print a table: drawn on a terminal, aligned columns in a pipe. `empty` goes to stderr."""
    if not rows:
        say(empty)
        return
    safe = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in safe:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    lines = [list(columns), *safe]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    print_out(
        "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
    )


def be_quiet() -> None:
    """Print results and errors only, from now on: `--quiet`."""
    global _quiet  # noqa: PLW0603 - one process, one command, one wish
    _quiet = True


def say(text: str) -> None:
    """Tell the person something that is no result."""
    if not _quiet:
        on_stderr(text, "tport: ")


def hint(text: str) -> None:
    """Tell what to do next."""
    if not _quiet:
        on_stderr(text, "tport: hint: ")


def warn(text: str) -> None:
    """Tell what is not as it should be, whoever wants to hear results and errors only, too."""
    on_stderr(text, "tport: warning: ")


def on_stderr(text: str, prefix: str = "") -> None:
    """Write each line of a text behind `prefix`, without what a terminal would obey."""
    for line in text.splitlines():
        typer.echo(f"{prefix}{printable(line)}".rstrip(" "), err=True)


def printable(text: str) -> str:
    """Return text of a remote party as one line without what a terminal would obey.

    What is written to stderr and into tables is cleaned there; who calls this before, keeps a line
    that others wrote from becoming one of ours.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def labels_text(labels: object) -> str:
    """Return labels or traits as `k=v,k2=v2`, sorted."""
    if not isinstance(labels, dict):
        return ""
    parts = []
    for key in sorted(labels):
        value = labels[key]
        parts.append(f"{key}={value if isinstance(value, str) else ','.join(value)}")
    return " ".join(parts) if any("," in part for part in parts) else ",".join(parts)


def time_text(moment: datetime | None) -> str:
    """Return a time as RFC 3339 in UTC, to the second; "" for none."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
