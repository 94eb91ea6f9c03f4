"""`tport status`: what runs in the cluster, and whether it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.app_state import host_of, lacking, status_and_certificates
from tport.commands.printing import print_out, print_value, printable, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import ConnectionProblem, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from tport.engine.api.answers import ClusterStatus
    from tport.engine.types.app import AppServer

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
    if wait:
        _wait(ctx, timeout)
    found, certificates = with_cluster(ctx, status_and_certificates)
    without = lacking(certificates)
    if format is not Format.text:
        print_value(
            {
                "cluster": found.cluster,
                "version": found.version,
                "proxies": list(found.proxy_addrs),
                "proxy_processes": found.proxy_processes,
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
                "apps": _names(found),
                "apps_down": _down(found),
                "apps_without_certificate": _uncertified(found, without),
                "apps_refused": [
                    {
                        "name": server.app.name,
                        "agent": server.hostname,
                        "agent_id": server.host_id,
                        "reason": server.refused,
                    }
                    for server in found.app_servers
                    if server.refused
                ],
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
        print_out(report(found, without))
    if found.degraded:
        raise typer.Exit(1)


def report(found: ClusterStatus, without: AbstractSet[str]) -> str:
    """Return the lines that people read; `without`: the hosts that have no certificate."""
    down, uncertified = _down(found), _uncertified(found, without)
    apps = []
    for name in _names(found):
        wrong = "down" if name in down else "needs a certificate" if name in uncertified else ""
        apps.append(f"{name} ({wrong})" if wrong else name)
    refused = [server for server in found.app_servers if server.refused]
    unwell = {*down, *uncertified, *(server.app.name for server in refused)}
    which = "one application is" if len(unwell) == 1 else f"{len(unwell)} applications are"
    well = f"well, but {which} not: tport apps ls" if unwell else "well"
    return "\n".join(
        [
            f"cluster  {found.cluster}",
            f"version  {found.version}",
            f"proxy    {_proxy(found)}",
            f"users    {found.users}",
            f"agents   {len(found.agents)}",
            f"apps     {', '.join(apps) or 'none'}",
            *(f"refused  {printable(_refusal(server))}" for server in refused),
            f"state    {'; '.join(found.degraded) or well}",
            *(f"locked   {lock.message}" for lock in found.copied),
        ]
    )


def _proxy(found: ClusterStatus) -> str:
    addresses = ", ".join(f"https://{address}" for address in found.proxy_addrs) or "none"
    count = found.proxy_processes
    return f"{addresses}, {count} processes" if count > 1 else addresses


def _refusal(server: AppServer) -> str:
    return f"{server.app.name} on {server.hostname or server.host_id}: {server.refused}"


def _names(found: ClusterStatus) -> list[str]:
    return sorted({s.app.name for s in found.app_servers if not s.refused})


def _uncertified(found: ClusterStatus, without: AbstractSet[str]) -> list[str]:
    """Name the applications that are offered at a host without a certificate."""
    offers = (server for server in found.app_servers if not server.refused)
    return sorted({s.app.name for s in offers if host_of(s, found) in without})


def _down(found: ClusterStatus) -> list[str]:
    """Name the applications that answer none of the agents that offer them."""
    offers: dict[str, list[bool]] = {}
    for server in found.app_servers:
        if not server.refused:
            is_down = server.health is not None and not server.health.up
            offers.setdefault(server.app.name, []).append(is_down)
    return sorted(name for name, down in offers.items() if all(down))


def _wait(ctx: typer.Context, timeout: float) -> None:
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
                return
            problem, hint = "; ".join(found.degraded) or problem, ""
        except (ConnectionProblem, NotFound, Unavailable) as error:
            problem, hint = str(error), error.hint
        if time.monotonic() >= deadline:
            raise ConnectionProblem(f"not well within {timeout:g} s: {problem}", hint=hint)
        _pause(0.2)


def _pause(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)
