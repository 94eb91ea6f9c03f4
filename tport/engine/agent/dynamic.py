"""The applications that auth hands out, beside those of the agent's own file. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tport.engine.agent.offers import AppSet
from tport.engine.config.dynamic_apps import check_dynamic_app, is_wanted
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import App

TAKEN = "this agent's own file has an application of this name, which wins"


def with_dynamic(own: AppSet, handed_out: Iterable[App]) -> AppSet:
    """Return what to offer: the file's applications, and those handed out that it wants.

    An agent doesn't believe auth that one of these is harmless: it judges it itself. What it
    can't offer is among the faulty ones, with the reason.
    """
    taken = {*own.definitions(), *own.faulty}
    apps, faulty = list(own.apps), dict(own.faulty)
    for app in sorted(handed_out, key=lambda app: app.name):
        if not is_wanted(app, own.matchers):
            continue
        if app.name in taken:
            faulty[f"{app.name} (dynamic)"] = TAKEN  # beside the file's, which goes on
            continue
        try:
            apps.append(check_dynamic_app(app))
        except InvalidRequest as problem:
            faulty[app.name] = str(problem)
    return replace(own, apps=apps, faulty=faulty)
