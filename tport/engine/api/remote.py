"""AuthAPI from afar: `api.wire` over HTTP/1.1, on a few kept connections that `dial` opens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any, Final, cast

import trio
from cryptography.x509.oid import NameOID
from msgspec import Struct

from tport.engine.api import wire
from tport.engine.api.changes import Change
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import MAX_CALL
from tport.engine.errors import AccessDenied, ConnectionProblem, Unavailable
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.net.tls import tls_problem
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import load_certificate
from tport.engine.proto.framing import of_length

CALL_DEADLINE: Final = 10.0  # s for one call, dialling included
QUICK: Final = (
    1.0  # s for one call while auth answers nothing: people are told at once, not after 10 s
)
SILENCE: Final = 10.0  # s without a line after which a watch is lost; there is one each second
MAX_CONNECTIONS: Final = 16  # calls at a time, each on a connection of its own
MAX_IDLE: Final = 30.0  # s a connection is kept; auth closes those that idle for 60
CLOSE_DEADLINE: Final = 1.0  # s to say goodbye
MAX_LINE: Final = wire.MAX_ANSWER  # bytes of one change
_HEADERS = ((b"host", b"auth"), (b"content-type", b"application/json"))

Dial = Callable[[], Awaitable[trio.abc.Stream]]


@asynccontextmanager
async def open_remote_auth(
    dial: Dial, *, max_body: int = MAX_CALL, places: int = MAX_CONNECTIONS
) -> AsyncIterator[AuthAPI]:
    """Open AuthAPI over connections to auth; on leaving, they are closed.

    Args:
        dial: opens a connection on which TLS has shaken hands (`pki.contexts.auth_client_context`)
            and the far end was found to be auth (`check_is_auth`), or raises ConnectionProblem.
            It is asked anew whenever one is needed, so it may show a renewed certificate.
        max_body: bytes of a request that the far end takes.
        places: calls at a time; further ones wait, within their deadline.
    """
    remote = RemoteAuth(dial, max_body, places)
    try:
        yield cast("AuthAPI", remote)  # its calls are made below, from the same signatures
    finally:
        with trio.move_on_after(CLOSE_DEADLINE, shield=True):
            await remote.aclose()


def check_is_auth(
    certificate: bytes | None, host_authorities: Sequence[str], now: datetime
) -> None:
    """Return when a server's certificate (DER) is auth's: that of a proxy or an agent is not.

    Args:
        host_authorities: PEM certificates of the host authority, known from before.

    Raises:
        AccessDenied: it is somebody else's, or there is none.
    """
    if certificate is None:
        raise AccessDenied("the server showed no certificate")
    names = load_certificate(host_authorities[0]).subject
    cluster = names.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
    trusted = _Trusted(cluster=str(cluster), host=tuple(host_authorities), user=())
    identity_of(certificate, authorities=trusted, expected_kinds=["auth"], now=now)


class _Trusted(Struct, frozen=True, kw_only=True):
    """As much of the authorities as a client of auth has before it is one: `pki.identity.Trusted`."""

    cluster: str
    host: tuple[str, ...]
    user: tuple[str, ...]


class _Lost(Exception):
    """The connection ended. `unanswered`: not a byte of the answer had come."""

    def __init__(self, why: str, *, unanswered: bool) -> None:
        super().__init__(why)
        self.unanswered = unanswered


class RemoteAuth:
    """The calls of AuthAPI as methods, each made from its row in `wire.CALLS`."""

    def __init__(self, dial: Dial, max_body: int = MAX_CALL, places: int = MAX_CONNECTIONS) -> None:
        self._dial = dial
        self._max_body = max_body
        self._kept: list[tuple[ClientConnection, float]] = []  # and since when
        self._places = trio.CapacityLimiter(places)
        self._closed = False
        self._silent = False  # a call got no answer, and nothing came of auth since

    async def aclose(self) -> None:
        self._closed = True
        while self._kept:
            await self._kept.pop()[0].aclose()

    def acting_for(self, secret: str) -> AuthAPI:
        return cast("AuthAPI", _Acting(self, secret))

    async def ask(
        self, call: str, arguments: Mapping[str, object], *, acting: str | None = None
    ) -> Any:
        """Make one call; `acting`: for the person of this session, by its secret, "" too: that is nobody's.

        Raises:
            ConnectionProblem: nothing of it arrived.
            Unavailable: no answer in time, or the connection broke: it may have been done.
            TportError: what auth answered.
        """
        body = wire.encode_request(call, arguments)
        if len(body) > self._max_body:
            raise Unavailable(f"{call}: the request is over {self._max_body} bytes")
        deadline = QUICK if self._silent else CALL_DEADLINE
        with trio.move_on_after(deadline):
            async with self._places:
                status, answer = await self._answered(call, body, acting)
            self._silent = False
            if status != 200:
                raise wire.decode_error(answer, status)
            return wire.decode_answer(call, answer)
        self._silent = True
        raise Unavailable(
            f"auth did not answer within {deadline:.0f} s", hint="try again in a moment"
        )

    async def _answered(self, call: str, body: bytes, acting: str | None) -> tuple[int, bytes]:
        """Ask on a kept connection, or a new one; once more if a kept one turns out to be dead."""
        if (connection := await self._take_kept()) is not None:
            try:
                return await self._exchange(connection, call, body, acting)
            except _Lost as lost:
                if not (lost.unanswered and wire.CALLS[call].is_read):
                    raise Unavailable(
                        "the connection to auth was lost in the middle of a call; it may have"
                        " been done",
                        hint="look before trying again",
                    ) from None
        connection = await self._connect()
        try:
            return await self._exchange(connection, call, body, acting)
        except _Lost as lost:
            raise Unavailable(f"the connection to auth was lost: {lost}") from None

    async def _exchange(
        self, connection: ClientConnection, call: str, body: bytes, acting: str | None
    ) -> tuple[int, bytes]:
        keep = False
        try:
            await _send(connection, call, body, acting)
            head = await connection.receive_head()
            answer = bytearray()
            while piece := await connection.receive_body():
                answer += piece
                if len(answer) > wire.MAX_ANSWER:
                    raise Unavailable(f"auth's answer to {call} is over {wire.MAX_ANSWER} bytes")
            keep = connection.reusable
        except UpstreamGone as gone:
            raise _Lost(_why(gone), unanswered=not connection.answer_begun) from None
        finally:
            if keep and not self._closed:
                self._kept.append((connection, trio.current_time()))
            else:
                with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                    await connection.aclose()
        return head.status, bytes(answer)

    async def _take_kept(self) -> ClientConnection | None:
        """Return the connection used last, if it is young and quiet enough."""
        while self._kept:
            connection, since = self._kept.pop()
            if trio.current_time() - since < MAX_IDLE and not connection.has_stirred():
                return connection
            await connection.aclose()
        return None

    async def _connect(self) -> ClientConnection:
        if self._closed:
            raise ConnectionProblem("the connection to auth was closed")
        try:
            return ClientConnection(await self._dial())
        except (OSError, trio.BrokenResourceError) as problem:
            raise ConnectionProblem(f"auth can't be reached: {problem}") from problem

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Change]]:
        """Follow changes on a connection of their own."""
        with trio.move_on_after(CALL_DEADLINE) as dialling:
            connection = await self._connect()
        if dialling.cancelled_caught:
            raise ConnectionProblem(f"auth can't be reached within {CALL_DEADLINE:.0f} s")
        try:
            async with aclosing(_changes(connection, self._heard)) as changes:
                yield changes
        finally:
            with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                await connection.aclose()

    def _heard(self) -> None:
        """Something came of auth: it is there, however long a call of ours takes."""
        self._silent = False


async def _changes(
    connection: ClientConnection, heard: Callable[[], None]
) -> AsyncGenerator[Change, None]:
    """Yield what auth tells, until it is silent for too long or ends the connection; `heard` each time."""
    buffer = bytearray()
    asked = False
    while True:
        piece = b""
        try:
            with trio.move_on_after(SILENCE) as silent:
                if not asked:
                    await _ask_to_watch(connection)
                    asked = True
                piece = await connection.receive_body()
        except (UpstreamGone, trio.ClosedResourceError) as gone:
            raise ConnectionProblem(f"auth ended the watch: {_why(gone)}") from None
        if silent.cancelled_caught:
            raise ConnectionProblem(f"auth was silent for {SILENCE:.0f} s")
        if not piece:
            raise ConnectionProblem("auth ended the watch")
        heard()
        buffer += piece
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        if len(buffer) > MAX_LINE:
            raise Unavailable(f"auth sent a change of over {MAX_LINE} bytes")
        for line in lines:
            yield wire.decode_answer(wire.WATCH, line)


async def _ask_to_watch(connection: ClientConnection) -> None:
    await _send(connection, wire.WATCH, b"{}")
    head = await connection.receive_head()
    if head.status != 200:
        answer = bytearray()
        while (piece := await connection.receive_body()) and len(answer) < MAX_CALL:
            answer += piece
        raise wire.decode_error(bytes(answer), head.status)


async def _send(
    connection: ClientConnection, call: str, body: bytes, acting: str | None = None
) -> None:
    target = f"{wire.PREFIX}{call}".encode()
    who = () if acting is None else ((wire.ACTING_FOR, acting.encode()),)
    await connection.send_head(b"POST", target, (*_HEADERS, *who), of_length(len(body)), body=body)


def _why(gone: BaseException) -> str:
    """Say why a connection ended, in the words of TLS when it was TLS."""
    cause = gone.__cause__ or gone.__context__
    return tls_problem(cause)[0] if cause is not None else str(gone)


class _Acting:
    """The calls of RemoteAuth, made for one person."""

    def __init__(self, remote: RemoteAuth, secret: str) -> None:
        self._remote = remote
        self._secret = secret

    async def ask(self, call: str, arguments: Mapping[str, object]) -> Any:
        return await self._remote.ask(call, arguments, acting=self._secret)


def _method(call: str) -> Callable[..., Awaitable[Any]]:
    async def ask(self: RemoteAuth | _Acting, **arguments: object) -> Any:
        return await self.ask(call, arguments)

    ask.__name__ = ask.__qualname__ = call
    return ask


for _name in wire.CALLS:
    if _name != wire.WATCH:
        setattr(RemoteAuth, _name, _method(_name))
        setattr(_Acting, _name, _method(_name))
