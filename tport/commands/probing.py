"""Trying applications from this machine, before an agent serves them or beside one that does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from tport.commands.printing import printable, say
from tport.engine.defaults import PROBE_DEADLINE

if TYPE_CHECKING:
    from tport.engine.config.model import Config
    from tport.engine.types.app import App
    from tport.engine.types.probe import ProbeReport


def tried(config: Config, app: App, deadline: float = PROBE_DEADLINE) -> ProbeReport:
    """Try one application of `config`, for as many seconds at most.

    Raises:
        ConfigError: at which address people will reach it is not known.
    """
    from functools import partial

    import trio

    from tport.engine.agent.prober import try_app
    from tport.engine.agent.service import hostname_of
    from tport.engine.process import wall_clock

    public = _public_address(config, app)
    hostname = hostname_of(config.nodename)
    return trio.run(
        partial(try_app, app, public, hostname=hostname, clock=wall_clock, deadline=deadline)
    )


def tried_all(
    config: Config, taken: Collection[str], deadline: float = PROBE_DEADLINE
) -> Mapping[str, ProbeReport]:
    """Try every application of `config`, say what is wrong, and return what was found.

    Args:
        taken: names of those that will get what they need: of these it is said so.
        deadline: seconds for each.
    """
    found = {}
    for app in config.app_service.apps:
        report = found[app.name] = tried(config, app, deadline)
        for finding in report.findings:
            if finding.verdict == "ok" or (finding.verdict == "note" and not finding.advice):
                continue
            advice = f"; {finding.advice}" if finding.advice else ""
            say(printable(f"{app.name}: {finding.saw}{advice}"))
        if report.proposal and app.name in taken:
            say(f"{app.name} gets what it needs; in a file: tport apps check {app.name}")
    return found


def applied(config: Config, reports: Mapping[str, ProbeReport]) -> Config:
    """Return `config` with what was proposed for some of its applications."""
    import msgspec

    apps = tuple(
        reports[app.name].proposal.applied(app) if app.name in reports else app
        for app in config.app_service.apps
    )
    service = msgspec.structs.replace(config.app_service, apps=apps)
    return msgspec.structs.replace(config, app_service=service)


def _public_address(config: Config, app: App) -> str:
    """Return host[:port] at which people reach the application."""
    from tport.engine.errors import ConfigError
    from tport.engine.types.app import public_host

    proxy = config.proxy_addr
    if config.proxy_service.enabled:
        proxy = config.proxy_service.public_addrs[0]
    if proxy is None:
        raise ConfigError(
            f"which address people reach {app.name} at is not known",
            where=config.file or "",
            hint="name the proxy in the file: proxy_server under tport",
        )
    host = public_host(app, proxy.host)
    return host if proxy.port == 443 else f"{host}:{proxy.port}"
