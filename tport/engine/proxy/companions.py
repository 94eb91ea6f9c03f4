"""Which applications are opened together with one: those it requires, and those of its group. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tport.engine.access.rbac import check_app_access
from tport.engine.errors import AccessDenied
from tport.engine.types.app import App, AppServer, public_host
from tport.engine.types.role import Role
from tport.engine.types.user import User

MAX_COMPANIONS: Final = 8  # each costs the browser three redirects
# Characters of the path and the companions' hosts together. All of it is in the state's cookie,
# sealed, in base64, and browsers drop a cookie of more than 4096.
ROOM: Final = 2400


def companions(
    app: App,
    user: User,
    *,
    servers: Sequence[AppServer],
    roles: Mapping[str, Role],
    proxy_host: str,
    path: str,
) -> tuple[str, ...]:
    """Return the hosts of what this user may open with `app`, the required ones first.

    What is not offered now, or not allowed, is left out: nothing keeps `app` itself from opening.
    Companions of companions are not among them.

    Args:
        path: where in `app` the person goes; a long one leaves room for fewer.
    """
    room = ROOM - len(path)
    found: list[str] = []
    for host in _allowed(app, user, servers, roles, proxy_host):
        room -= len(host)
        if len(found) == MAX_COMPANIONS or room < 0:
            break
        found.append(host)
    return tuple(found)


def _allowed(
    app: App,
    user: User,
    servers: Sequence[AppServer],
    roles: Mapping[str, Role],
    proxy_host: str,
) -> Iterator[str]:
    offers: dict[str, list[AppServer]] = {}
    for server in servers:
        if not server.refused:
            offers.setdefault(server.app.name, []).append(server)
    group = sorted(name for name, (first, *_) in offers.items() if first.app.group == app.group)
    for name in dict.fromkeys((*app.required_apps, *(group if app.group else ()))):
        if name != app.name and any(_may_open(each, user, roles) for each in offers.get(name, ())):
            yield public_host(offers[name][0].app, proxy_host)


def _may_open(server: AppServer, user: User, roles: Mapping[str, Role]) -> bool:
    try:
        check_app_access(roles, user.roles, user.traits, server.labels)
    except AccessDenied:
        return False
    return True
