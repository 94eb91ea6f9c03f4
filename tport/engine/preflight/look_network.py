"""Look at names, ports and answers. Each look ends by its deadline and says what it saw."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio

from tport.engine.agent.join import Bundle, shown_authorities
from tport.engine.agent.upstream import Upstream, close
from tport.engine.config.address import Address
from tport.engine.errors import ConfigError, ConnectionProblem, RemoteProtocolError
from tport.engine.net.dial import dial_tcp, dial_through_proxy, open_listener
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import https_context
from tport.engine.preflight.names import Lookup
from tport.engine.preflight.others import Answer
from tport.engine.preflight.ports import Port, Reach
from tport.engine.proto.fields import Headers
from tport.engine.proto.framing import NO_BODY
from tport.engine.types.app import App

LOOKUP: Final = 6.0  # s; glibc asks each of three servers for 5 s, which nobody waits for
ANSWER: Final = 8.0  # s for a connection, TLS and the head of an answer
PASSING: Final = 3.0  # s for a connection to find its way back to this machine
_NONCE: Final = 16  # bytes by which a connection is known again
_NO_NAME: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


async def look_up(name: str) -> Lookup:
    """Ask the system's resolver, as all programs here do."""
    with trio.move_on_after(LOOKUP):
        try:
            found = await trio.socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
        except socket.gaierror as problem:
            state = "none" if problem.errno in _NO_NAME else "failed"
            return msgspec.convert({"name": name, "state": state}, Lookup)
        except (OSError, UnicodeError):
            return Lookup(name=name, state="failed")
        addresses = sorted({str(address[4][0]) for address in found})
        return Lookup(name=name, state="found", addresses=tuple(addresses))
    return Lookup(name=name, state="failed")


async def own_addresses() -> tuple[str, ...]:
    """Return the addresses from which this machine speaks to others. Nothing is sent."""
    found = []
    # Connecting a datagram socket only chooses a route. Addresses for documentation: RFC 5737, 3849
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with trio.socket.socket(family, socket.SOCK_DGRAM) as sock:
                await sock.connect((far, 9))
                found.append(str(sock.getsockname()[0]))
        except OSError:  # no such way, or no IPv6
            continue
    return tuple(found)


# --- Ports -----------------------------------------------------------------------------------------


async def look_at_port(address: Address, publics: Sequence[Address]) -> tuple[Port, list[Reach]]:
    """Try to listen on an address, and to get there by the public ones meanwhile."""
    try:
        listener = await open_listener(address)
    except ConfigError as problem:
        return await _taken(address, problem), [await _reach_tport(public) for public in publics]
    async with listener, trio.open_nursery() as nursery:
        nonce = os.urandom(_NONCE)
        nursery.start_soon(_show_nonce, listener, nonce)
        reached = [await _reach(public, nonce) for public in publics]
        nursery.cancel_scope.cancel()
    return Port(address=str(address), port=address.port, state="free"), reached


async def _taken(address: Address, problem: ConfigError) -> Port:
    local = Address("127.0.0.1" if address.host in ("", "0.0.0.0", "::") else address.host, 0)  # noqa: S104 - compared
    serving = await _reach_tport(Address(local.host, address.port))
    said = {"said": str(problem), "advice": problem.hint}
    port = Port(address=str(address), port=address.port, state="taken", **said)
    if serving.outcome == "tport":
        return msgspec.structs.replace(port, state="serving")
    if "may not be opened" in str(problem):
        return msgspec.structs.replace(port, state="forbidden")
    return port


async def _show_nonce(listener: trio.SocketListener, nonce: bytes) -> None:
    while True:
        async with await listener.accept() as stream:
            with trio.move_on_after(PASSING):
                try:
                    await stream.send_all(nonce)
                except trio.BrokenResourceError:
                    continue


async def _reach(public: Address, nonce: bytes) -> Reach:
    """Dial a public address, and see whether our own listener answers."""
    received = b""
    try:
        stream = await dial_tcp(public.host, public.port, deadline=PASSING)
    except ConnectionProblem as problem:
        return Reach(address=str(public), outcome="failed", said=str(problem))
    async with stream:
        with trio.move_on_after(PASSING):
            try:
                while len(received) < _NONCE and (piece := await stream.receive_some(_NONCE)):
                    received += piece
            except trio.BrokenResourceError:
                pass
    return Reach(address=str(public), outcome="here" if received == nonce else "other")


async def _reach_tport(public: Address) -> Reach:
    """Dial an address, and see whether a tport proxy answers."""
    with trio.move_on_after(ANSWER):
        try:
            await shown_authorities(public)
        except ConnectionProblem as problem:
            outcome = "other" if "is no tport proxy" in str(problem) else "failed"
            return msgspec.convert(
                {"address": str(public), "outcome": outcome, "said": str(problem)}, Reach
            )
        return Reach(address=str(public), outcome="tport")
    return Reach(address=str(public), outcome="failed", said="no answer in time")


# --- Answers ---------------------------------------------------------------------------------------


async def get_https(
    uri: str, context: ssl.SSLContext, *, through_proxy: bool = True
) -> tuple[Answer, datetime | None, bytes]:
    """GET an `https://` URI; return its answer, its clock (None: it tells none), and its body."""
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port or 443
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    began = trio.current_time()
    with trio.move_on_after(ANSWER):
        try:
            dial = dial_through_proxy if through_proxy else dial_tcp
            stream = await dial(host, port, deadline=ANSWER)
            tls = await connect_tls(stream, context, server_name=host, ragged_end=True)
            connection = ClientConnection(tls)
            try:
                headers = [(b"host", parts.netloc.encode("ascii"))]
                await connection.send_head(b"GET", target.encode("ascii"), headers, NO_BODY)
                head = await connection.receive_head()
                body = bytearray()
                while (piece := await connection.receive_body()) and len(body) < 256 * 1024:
                    body += piece
            finally:
                await close(connection)  # noqa: ASYNC102 - without waiting
        except (ConnectionProblem, ConfigError) as problem:
            return Answer(said=str(problem), advice=problem.hint), None, b""
        except (UpstreamGone, RemoteProtocolError) as problem:
            return Answer(said=str(problem)), None, b""
        took = (trio.current_time() - began) * 1000
        return Answer(status=head.status, milliseconds=took), _date(head.headers), bytes(body)
    return Answer(said=f"no answer within {ANSWER:.0f} s"), None, b""


def _date(headers: Headers) -> datetime | None:
    for name, value in headers:
        if name.lower() == b"date":
            try:
                found = parsedate_to_datetime(value.decode("ascii"))
            except ValueError:
                return None
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return None


async def ask_proxy(proxy: Address) -> tuple[Bundle | None, Answer, bool, datetime | None]:
    """Fetch what a proxy shows; tell whether public authorities vouch for it, and its clock."""
    uri = f"https://{proxy}/webapi/cas"
    verified = True
    answer, clock, body = await get_https(uri, https_context())
    if not answer.status:
        verified = False
        answer, clock, body = await get_https(uri, https_context(insecure=True))
    try:
        bundle = msgspec.json.decode(body, type=Bundle) if answer.status == 200 else None
    except msgspec.DecodeError:
        bundle = None
    if bundle is None and answer.status:
        answer = Answer(
            said=f"what answers at {proxy} is no tport proxy",
            advice="proxy_server is the proxy's address, host:port as in its public_addr",
        )
    return bundle, answer, verified, clock


async def ask_app(app: App) -> Answer:
    """GET an application's front page as its agent reaches it, as nobody in particular."""
    parts = urlsplit(app.uri)
    began = trio.current_time()
    with trio.move_on_after(ANSWER):
        try:
            upstream = await trio.to_thread.run_sync(Upstream, app, lambda: datetime.now(UTC))
            connection = await upstream.connect()
            try:
                headers = [(b"host", parts.netloc.encode("ascii"))]
                target = (parts.path or "/").encode("ascii")
                await connection.send_head(b"GET", target, headers, NO_BODY)
                head = await connection.receive_head()
            finally:
                await close(connection)  # noqa: ASYNC102 - without waiting
        except (ConnectionProblem, ConfigError) as problem:
            return Answer(said=str(problem), advice=problem.hint)
        except (UpstreamGone, RemoteProtocolError) as problem:
            advice = "is it https:// and not http://, or the other way round?"
            return Answer(said=f"it gives no answer by HTTP: {problem}", advice=advice)
        return Answer(status=head.status, milliseconds=(trio.current_time() - began) * 1000)
    return Answer(said=f"no answer within {ANSWER:.0f} s", advice="is it busy, or the wrong port?")
