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


def direct_way(server: AppServer, remote: str) -> Way:
    """Return the way from here to an application that an agent offers.

    Args:
        remote: the agent's address as the proxy sees it; "" when not known.

    Raises:
        Elsewhere: what its address means, only the agent knows.
    """
    app = server.app
    parts = urlsplit(app.uri)
    host = parts.hostname or ""
    if app.name == DEBUG_APP:
        raise Elsewhere("it is inside the agent")
    if _is_loopback(host) and not (server.hostname == socket.gethostname() or _is_loopback(remote)):
        raise Elsewhere(f"{host} means the agent's machine, {server.hostname}")

    async def dial() -> trio.abc.Stream:
        return await _dial(app, host, parts.port)

    headers = ((b"host", _host_header(app)), (b"user-agent", USER_AGENT), (b"accept", b"*/*"))
    return Way("the application", dial, headers)


def front_page(uri: str) -> bytes:
    """Return the target of an application's front page: what `/` leads to at the agent."""
    parts = urlsplit(uri)
    if not parts.path.strip("/"):
        return b"/"
    return (parts.path + (f"?{parts.query}" if parts.query else "")).encode("ascii")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return is_this_machine(host)


def _host_header(app: App) -> bytes:
    """Return the Host that the agent sends: one that `rewrite.headers` sets, else the URI's."""
    for header in reversed(app.rewrite.headers):
        if header.name.lower() == "host":
            return header.value.encode("ascii")
    return urlsplit(app.uri).netloc.encode("ascii")


async def _dial(app: App, host: str, port: int | None) -> trio.abc.Stream:
    secure = app.uri.startswith("https:")
    stream = await dial_tcp(host, port or (443 if secure else 80), deadline=DIAL)
    if is_metadata(str(stream.socket.getpeername()[0])):
        await trio.aclose_forcefully(stream)
        raise Elsewhere(f"{host} leads to where clouds keep their machines' credentials")
    if not secure:
        return stream
    context = https_context(insecure=app.insecure_skip_verify)
    return await connect_tls(stream, context, server_name=host, deadline=DIAL, ragged_end=True)
