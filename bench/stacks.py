"""Every stack by its name: what is told is its opener, in `cluster`, `crowd` and `peers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bench.cluster import open_tport, open_tport_far
from bench.crowd_stack import open_tport_crowded
from bench.peers import (
    open_application,
    open_caddy,
    open_caddy_quiet,
    open_copy_far,
    open_haproxy,
    open_mitmproxy,
    open_nginx,
    open_nginx_ssh,
    open_nginx_ssh_far,
)
from bench.stack import Opener

STACKS: Final[Mapping[str, Opener]] = {
    "tport": open_tport,
    "nginx + ssh -R": open_nginx_ssh,
    "Caddy": open_caddy,
    "Caddy, no log": open_caddy_quiet,
    "mitmproxy": open_mitmproxy,
    "nginx": open_nginx,
    "haproxy": open_haproxy,
    "application": open_application,
    "tport, far": open_tport_far,
    "nginx + ssh -R, far": open_nginx_ssh_far,
    "TCP copy, far": open_copy_far,
    "tport, crowded": open_tport_crowded,
}
