"""`tport apps`: the applications that agents offer now, and those handed to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.app_check import check
from tport.commands.app_state import host_of, lacking, status_and_certificates
from tport.commands.printing import labels_text, print_rows, print_value, say, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import NotFound

if TYPE_CHECKING:
    from tport.engine.types.app import AppServer

app = typer.Typer(help="The applications that agents offer.", no_args_is_help=True)


@app.callback()
def apps() -> None:
    """The applications that agents offer."""


app.command("check")(check)


@app.command("ls")
def list_(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """List the applications that agents offer now, one line for each agent of each."""
    status, certificates = with_cluster(ctx, status_and_certificates)
    without = lacking(certificates)
    port = status.proxy_addrs[0].partition(":")[2] if status.proxy_addrs else ""
    rows = []
    for server in status.app_servers:
        address = host_of(server, status)
        health = server.health
        rows.append(
            {
                "name": server.app.name,
                "address": f"https://{address}" + (f":{port}" if port not in ("", "443") else ""),
                "uri": server.app.uri,
                "labels": dict(server.labels),
                "agent": server.hostname,
                "agent_id": server.host_id,
                "version": server.version,
                "state": _state(server, lacks_certificate=address in without),
                "since": time_text(health.since if health else None),
                "last_error": health.cause if health else "",
                "last_failed": time_text(health.failed if health else None),
            }
        )
    if format is not Format.text:
        print_value(rows, format)
        return
    print_rows(
        ("NAME", "ADDRESS", "AGENT", "LABELS", "STATE"),
        [
            (
                str(row["name"]),
                str(row["address"]),
                str(row["agent"]),
                labels_text(row["labels"]),
                f"down: {row['last_error']}" if row["state"] == "down" else str(row["state"]),
            )
            for row in rows
        ],
        empty="no applications; make a token for an agent with: tport tokens add --type=app",
    )


def _state(server: AppServer, *, lacks_certificate: bool) -> str:
    if server.refused:
        return f"refused: {server.refused}"
    if lacks_certificate and (server.health is None or server.health.up):
        return "needs a certificate"
    if server.health is None:
        return "connected"
    return "up" if server.health.up else "down"


@app.command()
def rm(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The application's name.")],
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="A missing application is no error.")
    ] = False,
) -> None:
    """Remove an application that `tport create` made. Those of agents' files go with their lines."""
    try:
        with_cluster(ctx, lambda auth: auth.delete_resource(kind="app", name=name))
    except NotFound:
        if not if_exists:
            raise
        return
    say(f"application {name} removed; agents drop it within 5 seconds")
