"""Where a connection goes (by its ClientHello), and a request (by SNI and Host). Pure.

The ALPN offer decides before TLS begins, since what a connection must prove depends on it; the
names decide after. A wildcard certificate would let a browser, or an attacker who redirects
bytes, bring a request for one application on a connection made for another: so Host must be
what SNI said (TLS-03).
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from tport.engine.defaults import ALPN_ACME, ALPN_AUTH, ALPN_FOR, ALPN_HTTP, ALPN_TUNNEL

# What anybody may ask without a name, for probes and for agents that join.
NAMELESS_PATHS: Final = frozenset({b"/webapi/ping", b"/webapi/cas", b"/healthz"})


class Door(Enum):
    """What a TLS connection is for."""

    BROWSER = auto()
    TUNNEL = auto()
    AUTH = auto()
    CHALLENGE = auto()  # a CA that looks whether a name is ours
    NONE = auto()  # no protocol in common: alert no_application_protocol


class Room(Enum):
    """What a request is for."""

    OWN = auto()  # tport's own pages
    APP = auto()
    NAMELESS = auto()  # NAMELESS_PATHS, and nothing else
    MISDIRECTED = auto()  # 421, close


def door(offer: Collection[str]) -> Door:
    """Choose by the ALPN protocols a client offers; none at all is an old HTTP client.

    Ours are offered alone: together with anything else they are somebody's try to be two
    things at once (TLS-04). A tunnel may say beside it which proxy it is for: `wanted_proxy`.
    """
    if not offer:
        return Door.BROWSER
    if len(offer) == 2 and wanted_proxy(offer):
        return Door.TUNNEL
    ours = {ALPN_TUNNEL: Door.TUNNEL, ALPN_AUTH: Door.AUTH, ALPN_ACME: Door.CHALLENGE}
    for name, kind in ours.items():
        if name in offer:
            return kind if len(offer) == 1 else Door.NONE
    return Door.BROWSER if ALPN_HTTP in offer else Door.NONE


def wanted_proxy(offer: Collection[str]) -> str:
    """Return the id of the proxy that a tunnel is for; "": any will do, or it is no tunnel."""
    if ALPN_TUNNEL not in offer:
        return ""
    return next((n.removeprefix(ALPN_FOR) for n in offer if n.startswith(ALPN_FOR)), "")


def room(*, server_name: str | None, host: str, own_hosts: Collection[str], path: bytes) -> Room:
    """Choose for one request.

    Args:
        server_name: the SNI, normalised; None when the client sent none.
        host: of the Host header, normalised, without its port (ports are never compared).
        own_hosts: the proxy's own names, normalised.
        path: of the target, raw, without the query.
    """
    if server_name is None or _is_address(host):
        return Room.NAMELESS if path in NAMELESS_PATHS else Room.MISDIRECTED
    if host != server_name:
        return Room.MISDIRECTED
    return Room.OWN if host in own_hosts else Room.APP


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
