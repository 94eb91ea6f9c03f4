"""The way straight to an application of the running cluster, where it can be gone from this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import trio

from tport.engine.access.targets import is_metadata
from tport.engine.errors import ConnectionProblem
from tport.engine.net.dial import dial_tcp, is_this_machine
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import https_context
from tport.engine.selftest.line import Way
from tport.engine.selftest.visitor import USER_AGENT
from tport.engine.types.app import DEBUG_APP, App, AppServer

DIAL: Final = 5.0  # s; it may well not be reachable from here


class Elsewhere(ConnectionProblem):
    """The application can't be asked from this machine, which is no fault."""


def direct_way(
    server: AppServer, remote: str, *, own_host_id: str = "", anyway: bool = False
) -> Way:
    """Return the way from here to an application that an agent offers.

    An agent that is taken over chooses the address, and its own host name: unless it is on this machine,
    it shall not have this one ask in its place.

    Args:
        remote: the agent's address as the proxy, which runs here, sees it; "" when not known.
        own_host_id: of the agent that this machine is, "" for none.
        anyway: a person wants the address asked from here, wherever the agent is.

    Raises:
        Elsewhere: what its address means, only the agent knows; or nobody wants it asked from here.
    """
    app = server.app
    parts = urlsplit(app.uri)
    host = parts.hostname or ""
    if app.name == DEBUG_APP:
        raise Elsewhere("it is inside the agent")
    is_here = is_own_address(remote) or (own_host_id != "" and server.host_id == own_host_id)
    if not is_here and (is_this_machine(host) or is_own_address(host)):
        raise Elsewhere(f"{host} means the agent's machine, {server.hostname}")
    if not is_here and not anyway:
        raise Elsewhere(
            "its agent is not known to be on this machine, and the address is that agent's word;"
            " with --direct it is asked all the same"
        )

    async def dial() -> trio.abc.Stream:
        return await _dial(app, host, parts.port, is_here=is_here)

    headers = ((b"host", _host_header(app)), (b"user-agent", USER_AGENT), (b"accept", b"*/*"))
    return Way("the application", dial, headers)


def front_page(uri: str) -> bytes:
    """Return the target of an application's front page: what `/` leads to at the agent."""
    parts = urlsplit(uri)
    if not parts.path.strip("/"):
        return b"/"
    return (parts.path + (f"?{parts.query}" if parts.query else "")).encode("ascii")


def is_own_address(text: str) -> bool:
    """Tell whether a text is an address of this machine: of loopback, or one that it has. Nothing is sent."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        # Connecting a datagram socket only chooses a route: to an own address, it begins there
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((str(address), 9))
            return ip_address(sock.getsockname()[0]) == address
    except OSError:
        return False


def _host_header(app: App) -> bytes:
    """Return the Host that the agent sends: one that `rewrite.headers` sets, else the URI's."""
    for header in reversed(app.rewrite.headers):
        if header.name.lower() == "host":
            return header.value.encode("ascii")
    return urlsplit(app.uri).netloc.encode("ascii")


async def _dial(app: App, host: str, port: int | None, *, is_here: bool) -> trio.abc.Stream:
    secure = app.uri.startswith("https:")
    stream = await dial_tcp(host, port or (443 if secure else 80), deadline=DIAL)
    peer = str(stream.socket.getpeername()[0])
    if is_metadata(peer):
        await trio.aclose_forcefully(stream)
        raise Elsewhere(f"{host} leads to where clouds keep their machines' credentials")
    if not is_here and is_own_address(peer):  # by a name, or another spelling
        await trio.aclose_forcefully(stream)
        raise Elsewhere(f"{host} leads to this machine, and its agent is on another")
    if not secure:
        return stream
    context = https_context(insecure=app.insecure_skip_verify)
    return await connect_tls(stream, context, server_name=host, deadline=DIAL, ragged_end=True)
