"""`tport version`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Annotated

import typer

import tport
from tport.commands.printing import hint, print_out, print_value, printable
from tport.commands.settings import Format, FormatOption

if TYPE_CHECKING:
    from tport.engine.api.answers import ClusterStatus

app = typer.Typer()


@app.command()
def version(
    ctx: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the cluster and its agents.")
    ] = False,
    format: FormatOption = Format.text,
) -> None:
    """Print the version.

    Programs of one minor version and of those next to it work together: 0.4 beside 0.3 and 0.5.
    Upgrade auth and proxies first, agents after them. With --check, exit status 1 says that one
    of the cluster is further away than that.
    """
    said = {"version": tport.__version__, "python": platform.python_version()}
    if not check:
        if format is Format.text:
            print_out(tport.VERSION_LINE)
        else:
            print_value(said, format)
        return
    from tport.commands.run import with_cluster

    found = with_cluster(ctx, lambda auth: auth.status())
    rows = compared(found)
    if format is Format.text:
        print_out(tport.VERSION_LINE)
        for who, its, fits in rows:
            print_out(printable(f"{who}: {its}" + ("" if fits == "same" else f", {fits}")))
    else:
        others = [{"who": who, "version": its, "fits": fits} for who, its, fits in rows]
        print_value({**said, "cluster": others}, format)
    if any(fits in ("too old", "too new", "unknown") for _, _, fits in rows):
        hint("versions further apart than one minor step may not understand each other:")
        hint("upgrade one step at a time, auth and proxies first: docs/install.md, Upgrade")
        raise typer.Exit(1)


def compared(found: ClusterStatus) -> list[tuple[str, str, str]]:
    """Return who is of which version and how it fits: auth beside us, each agent beside auth."""
    from tport.engine.types.release import fit

    rows: list[tuple[str, str, str]] = [
        (f"cluster {found.cluster}", found.version, fit(found.version, beside=tport.__version__))
    ]
    for agent in sorted(found.agents, key=lambda each: (each.hostname, each.host_id)):
        rows.append(
            (
                f"agent {agent.hostname or agent.host_id}",
                agent.version,
                fit(agent.version, beside=found.version),
            )
        )
    return rows
