"""`tport status`: what runs in the cluster, and whether it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.printing import print_out, print_value, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import ConnectionProblem, NotFound

if TYPE_CHECKING:
    from tport.engine.api.answers import ClusterStatus

app = typer.Typer()


@app.command()
def status(
    ctx: typer.Context,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the cluster answers and is well.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 60,
    format: FormatOption = Format.text,
) -> None:
    """Print what runs in the cluster. Exit status 0: it is well; 1: something is degraded."""
    found = _wait(ctx, timeout) if wait else with_cluster(ctx, lambda auth: auth.status())
    if format is not Format.text:
        print_value(
            {
                "cluster": found.cluster,
                "version": found.version,
                "proxies": list(found.proxy_addrs),
                "users": found.users,
                "agents": [
                    {
                        "id": agent.host_id,
                        "hostname": agent.hostname,
                        "version": agent.version,
                        "remote": agent.remote,
                        "since": time_text(agent.since),
                    }
                    for agent in found.agents
                ],
                "apps": sorted({s.app.name for s in found.app_servers if not s.refused}),
                "apps_down": _down(found),
                "degraded": list(found.degraded),
                "copied_agents": [
                    {
                        "id": lock.target.server_id,
                        "lock": lock.name,
                        "message": lock.message,
                        "locked_until": time_text(lock.expires) if lock.expires else None,
                    }
                    for lock in found.copied
                ],
            },
            format,
        )
    else:
        down = _down(found)
        apps = [
            f"{name} (down)" if name in down else name
            for name in sorted({s.app.name for s in found.app_servers if not s.refused})
        ]
        print_out(
            "\n".join(
                [
                    f"cluster  {found.cluster}",
                    f"version  {found.version}",
                    f"proxy    {', '.join(f'https://{a}' for a in found.proxy_addrs) or 'none'}",
                    f"users    {found.users}",
                    f"agents   {len(found.agents)}",
                    f"apps     {', '.join(apps) or 'none'}",
                    f"state    {'; '.join(found.degraded) or 'well'}",
                    *(f"locked   {lock.message}" for lock in found.copied),
                ]
            )
        )
    if found.degraded:
        raise typer.Exit(1)


def _down(found: ClusterStatus) -> list[str]:
    """Name the applications that answer none of the agents that offer them."""
    offers: dict[str, list[bool]] = {}
    for server in found.app_servers:
        if not server.refused:
            is_down = server.health is not None and not server.health.up
            offers.setdefault(server.app.name, []).append(is_down)
    return sorted(name for name, down in offers.items() if all(down))


def _wait(ctx: typer.Context, timeout: float) -> ClusterStatus:
    """Ask until there is an answer with a proxy in it.

    Raises:
        ConnectionProblem: not within `timeout`; says what was in the way last.
    """
    import time

    deadline = time.monotonic() + timeout
    problem, hint = "no proxy has reported yet", ""
    while True:
        try:
            found = with_cluster(ctx, lambda auth: auth.status())
            if found.proxy_addrs and not found.degraded:
                return found
            problem, hint = "; ".join(found.degraded) or problem, ""
        except (ConnectionProblem, NotFound) as error:
            problem, hint = str(error), error.hint
        if time.monotonic() >= deadline:
            raise ConnectionProblem(f"not well within {timeout:g} s: {problem}", hint=hint)
        _pause(0.2)


def _pause(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)
