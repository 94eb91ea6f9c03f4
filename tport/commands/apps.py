"""`tport apps`: the applications that agents offer now."""

from __future__ import annotations

import typer

from tport.commands.printing import labels_text, print_rows, print_value
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption

app = typer.Typer(help="The applications that agents offer.", no_args_is_help=True)


@app.callback()
def apps() -> None:
    """The applications that agents offer."""


@app.command("ls")
def list_(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """List the applications that agents offer now, one line for each agent of each."""
    status = with_cluster(ctx, lambda auth: auth.status())
    proxy = status.proxy_addrs[0] if status.proxy_addrs else ""
    host, _, port = proxy.partition(":")
    rows = []
    for server in status.app_servers:
        address = server.app.public_addr or f"{server.app.name}.{host}"
        rows.append(
            {
                "name": server.app.name,
                "address": f"https://{address}" + (f":{port}" if port not in ("", "443") else ""),
                "uri": server.app.uri,
                "labels": dict(server.labels),
                "agent": server.hostname,
                "agent_id": server.host_id,
                "version": server.version,
                "state": f"refused: {server.refused}" if server.refused else "up",
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
                str(row["state"]),
            )
            for row in rows
        ],
        empty="no applications; make a token for an agent with: tport tokens add --type=app",
    )
