"""Addresses: reading them, dialling them, listening on them, and saying what went wrong.

`localhost` and every `*.localhost` are this machine, without asking anybody (RFC 6761 §6.3): so
browsers do, and so `tport.localhost` works where the system's resolver doesn't know it.
"""

from __future__ import annotations

import base64
import errno
import os
import socket
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

import trio

from tport.engine.config.address import Address
from tport.engine.defaults import KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, READ_SIZE
from tport.engine.errors import ConfigError, ConnectionProblem
from tport.engine.net.port_holder import port_holder
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream, direct

DIAL_DEADLINE: Final = 10.0  # s for names, all addresses and the connection
BACKLOG: Final = 1024  # connections waiting to be accepted; Linux cuts it to net.core.somaxconn
EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104 - where the operator names no host, all are meant
_LOOPBACK: Final = ("127.0.0.1", "::1")
_MAX_CONNECT_HEAD: Final = 16 * 1024  # bytes of an HTTP proxy's answer


def is_this_machine(host: str) -> bool:
    """Whether a name means this machine by itself: `localhost` and all below it."""
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


async def dial_tcp(host: str, port: int, *, deadline: float = DIAL_DEADLINE) -> TcpStream:
    """Connect, trying all addresses of a name (happy eyeballs, RFC 8305). TCP_NODELAY is set.

    Args:
        host: a name, or an address without brackets. Names are resolved each time.
        deadline: seconds, names included.

    Raises:
        ConnectionProblem: in words, with a hint where there is one.
    """
    where = str(Address(host, port))
    try:
        with trio.fail_after(deadline):
            if is_this_machine(host):
                stream = direct(await _dial_this_machine(port))
            else:
                stream = direct(await trio.open_tcp_stream(host, port))
            _look_after(stream.socket)
            return stream
    except trio.TooSlowError:
        raise ConnectionProblem(
            f"{where} does not answer (waited {deadline:g} s)",
            hint="a firewall that drops packets looks like this; is host and port right?",
        ) from None
    except OSError as error:
        words, hint = dial_problem(error)
        raise ConnectionProblem(f"{where}: {words}", hint=hint) from None
    except UnicodeError:  # a label too long or empty, from the idna codec
        raise ConnectionProblem(f"{where}: no such host") from None


async def dial_through_proxy(
    host: str,
    port: int,
    *,
    environ: Mapping[str, str] = os.environ,
    deadline: float = DIAL_DEADLINE,
) -> trio.abc.HalfCloseableStream:
    """Connect as `dial_tcp` does, by way of the HTTP proxy that HTTPS_PROXY names, if any.

    For tunnels only: applications are dialled directly. NO_PROXY is honoured (names and what
    ends in them, addresses, networks, `*`), and this machine is never asked for elsewhere.

    Raises:
        ConfigError: HTTPS_PROXY is no URL `http://[user:password@]host[:port]`.
        ConnectionProblem: the proxy can't be reached, or refuses.
    """
    url = environ.get("HTTPS_PROXY") or environ.get("https_proxy") or ""
    excluded = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if not url or is_this_machine(host) or _excluded(host, excluded):
        return await dial_tcp(host, port, deadline=deadline)
    proxy, credentials = _proxy_of(url)
    started = trio.current_time()
    stream = await dial_tcp(proxy.host, proxy.port, deadline=deadline)
    try:
        with trio.fail_after(max(deadline - (trio.current_time() - started), 0)):
            return await _connect_by(stream, Address(host, port), proxy, credentials)
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise ConnectionProblem(f"HTTP proxy {proxy} does not answer") from None
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(stream)
        raise ConnectionProblem(f"HTTP proxy {proxy} hung up") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def open_listener(address: Address) -> trio.SocketListener:
    """Listen on one address. No host: on every interface, IPv6 and IPv4.

    Port 0 is a free one: `listener.socket.getsockname()[1]` tells it.

    Raises:
        ConfigError: it can't be done; the hint says what to do.
    """
    host = address.host
    if is_this_machine(host):
        host = _LOOPBACK[0]
    try:
        if not host and socket.has_dualstack_ipv6():
            sock = socket.create_server(
                ("::", address.port),
                family=socket.AF_INET6,
                dualstack_ipv6=True,
                backlog=BACKLOG,
            )
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            numeric = await trio.socket.getaddrinfo(
                host or _EVERY_IPV4, address.port, family=family, type=socket.SOCK_STREAM
            )
            sock = socket.create_server(numeric[0][4][:2], family=family, backlog=BACKLOG)
    except OSError as error:
        holder = ""
        if error.errno == errno.EADDRINUSE:
            holder = await trio.to_thread.run_sync(port_holder, address.port)
        raise _listen_problem(address, error, holder) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    _look_after(sock)  # and this
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _look_after(sock: socket.socket) -> None:
    """Have the kernel ask the peer whether it is still there: a laptop that was closed says no goodbye."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (  # not on every system: there, after two hours
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def port_of(listener: trio.SocketListener) -> int:
    return int(listener.socket.getsockname()[1])


def own_address(listener: trio.SocketListener) -> Address:
    """Return where this machine reaches a listener."""
    host, port = listener.socket.getsockname()[:2]
    return Address("127.0.0.1" if host in EVERYWHERE else host, port)


async def _dial_this_machine(port: int) -> trio.SocketStream:
    problem: OSError | None = None
    for host in _LOOPBACK:
        try:
            return await trio.open_tcp_stream(host, port)
        except OSError as error:
            problem = problem or error
    assert problem is not None
    raise problem


async def _connect_by(
    stream: TcpStream, to: Address, proxy: Address, credentials: str
) -> trio.abc.HalfCloseableStream:
    authorization = f"Proxy-Authorization: Basic {credentials}\r\n" if credentials else ""
    await stream.send_all(
        f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{authorization}\r\n".encode("ascii")
    )
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(READ_SIZE)
        if not data or len(head) + len(data) > _MAX_CONNECT_HEAD:
            raise ConnectionProblem(f"HTTP proxy {proxy} gives no answer that is one")
        head += data
    head, _, rest = head.partition(b"\r\n\r\n")
    version, _, status = head.split(b"\r\n")[0].partition(b" ")
    if not version.startswith(b"HTTP/1.") or not status[:3].isdigit():
        raise ConnectionProblem(f"HTTP proxy {proxy} gives no answer that is one")
    if not status.startswith(b"2"):
        answer = status[:60].decode("ascii", "replace")
        wants = status.startswith(b"407")
        raise ConnectionProblem(
            f"HTTP proxy {proxy} does not connect to {to}: {answer}",
            hint="give user and password: HTTPS_PROXY=http://user:password@…" if wants else "",
        )
    return PrefixedStream(rest, stream) if rest else stream


def _proxy_of(url: str) -> tuple[Address, str]:
    """Return the proxy's address and its Basic credentials ("": none)."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError
        address = Address(parts.hostname, parts.port or 80)
    except ValueError:  # the message has no URL: there may be a password in it
        raise ConfigError("HTTPS_PROXY is no http://[user:password@]host[:port]") from None
    if parts.username is None:
        return address, ""
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return address, base64.b64encode(secret.encode()).decode()


def _excluded(host: str, no_proxy: str) -> bool:
    name = host.lower().removesuffix(".")
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        if _is_address(name):
            try:
                if ip_address(name) in ip_network(entry.strip("[]"), strict=False):
                    return True
            except ValueError:
                continue
        else:
            suffix = entry.removeprefix("*").removeprefix(".")
            if suffix and (name == suffix or name.endswith(f".{suffix}")):
                return True
    return False


def dial_problem(error: OSError) -> tuple[str, str]:
    """Return why dialling failed, and a hint, from the first of the addresses tried."""
    causes: list[BaseException] = [error]
    group = error.__cause__
    if isinstance(group, BaseExceptionGroup):  # of trio.open_tcp_stream: one for each address
        causes = list(group.exceptions)
    elif isinstance(group, OSError):
        causes = [group]
    first = next((cause for cause in causes if isinstance(cause, OSError)), error)
    if isinstance(first, socket.gaierror):
        if first.errno == socket.EAI_AGAIN:
            return (
                "its name can't be looked up now",
                "does name resolution work on the machine that dials?",
            )
        return "no such host", "check how the name is spelled; the machine that dials looks it up"
    match first.errno:
        case errno.ECONNREFUSED:
            return (
                "connection refused",
                "nothing listens there, or a firewall says no; start what should be there, or"
                " correct the port",
            )
        case errno.ENETUNREACH | errno.EHOSTUNREACH:
            return (
                "there is no way to that network",
                "check the address, and the routes of the machine that dials",
            )
        case errno.ETIMEDOUT:
            return "does not answer", "a firewall that drops packets looks like this"
    return first.strerror or str(first), ""


def _listen_problem(address: Address, error: OSError, holder: str = "") -> ConfigError:
    port = address.port
    match error.errno:
        case errno.EADDRINUSE:
            if holder:
                return ConfigError(
                    f"port {port} is in use by {holder}", hint="stop that, or choose another port"
                )
            return ConfigError(
                f"port {port} is in use",
                hint=f"see by whom: sudo ss -ltnp 'sport = :{port}' — or choose another port",
            )
        case errno.EACCES:
            return ConfigError(
                f"port {port} may not be opened by this user",
                hint="ports below 1024 need a right, which a service has: tport install systemd;"
                f" for all programs: sudo sysctl net.ipv4.ip_unprivileged_port_start={port};"
                " or use 3080",
            )
        case errno.EADDRNOTAVAIL:
            return ConfigError(f"{address.host} is no address of this machine")
    if isinstance(error, socket.gaierror):
        return ConfigError(f"{address.host!r} is no address of this machine")
    return ConfigError(f"can't listen on {address}: {error.strerror or error}")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
