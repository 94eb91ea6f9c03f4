"""`tport certs`: the certificates that browsers are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from tport.commands.printing import print_rows, print_value, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption

if TYPE_CHECKING:
    from tport.engine.api.certificates import CertInfo

app = typer.Typer(help="The certificates that browsers are shown.", no_args_is_help=True)


@app.callback()
def certs() -> None:
    """The certificates that browsers are shown."""


@app.command("ls")
def list_(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """List of each host where its certificate is from, until when it is good, and what fails."""
    rows = [_row(info) for info in with_cluster(ctx, lambda auth: auth.list_certificates())]
    if format is not Format.text:
        print_value(rows, format)
        return
    print_rows(
        ("HOST", "SOURCE", "UNTIL", "STATE", "PROBLEM"),
        [
            (
                str(row["host"]),
                str(row["source"]),
                str(row["not_after"] or "-"),
                str(row["state"]),
                "; ".join(str(row[key]) for key in ("problem", "advice") if row[key]),
            )
            for row in rows
        ],
        empty="no proxy has told of its certificates yet; each does within 5 seconds of its start",
    )


def _row(info: CertInfo) -> dict[str, object]:
    from tport.engine.types.certificate import standing

    state = info.state
    return {
        "host": state.host,
        "source": state.source,
        "state": standing(state, datetime.now(UTC))[0],
        "names": list(state.names),
        "issuer": state.issuer,
        "key": state.key,
        "not_before": time_text(state.not_before),
        "not_after": time_text(state.not_after),
        "last_attempt": time_text(state.last_attempt),
        "problem": state.problem,
        "advice": state.advice,
        "next_try": time_text(state.next_try),
        "path": state.path,
        "proxies": list(info.proxies),
    }
