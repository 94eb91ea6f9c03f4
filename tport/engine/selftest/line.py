"""One way to an application, and a kept connection on it; whatever goes wrong comes out in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import trio

from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.proto.fields import Headers
from tport.engine.proto.framing import NO_BODY, Framing
from tport.engine.proto.head import ResponseHead

PATIENCE: Final = 30.0  # s for one small request, dialling included
PATIENCE_WITH_BODY: Final = 5.0  # s for an answer that has begun: some pages never end
MAX_BODY: Final = 1024 * 1024  # bytes of an answer that are read; what is longer is cut off
GOODBYE: Final = 1.0  # s to close a connection


class Silent(ConnectionProblem):
    """It took too long. Whose fault that is, nobody can tell from here."""


class CutOff(ConnectionProblem):
    """The connection ended before all was done."""


@dataclass(frozen=True)
class Way:
    """How one gets to an application.

    Attributes:
        peer: who answers there, for messages: "the proxy", "the application".
        dial: opens a connection, TLS included, or raises ConnectionProblem.
        headers: of each request, Host among them.
        origin: the Origin of the application's own pages; b"": send none.
    """

    peer: str
    dial: Callable[[], Awaitable[trio.abc.Stream]]
    headers: Headers
    origin: bytes = b""


class Answer(NamedTuple):
    """An answer, and how long it took from the sending of the request.

    Attributes:
        body: what came of it within MAX_BODY and PATIENCE_WITH_BODY; `whole`: that is all of it.
        head_after, after: seconds until its head, and until its end, were here.
    """

    status: int
    headers: Headers
    body: bytes
    whole: bool
    head_after: float
    after: float


class Line:
    """A connection of one way, for one request after the other. A context: leaving closes it."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._connection: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with trio.move_on_after(GOODBYE, shield=True):
                await connection.aclose()

    async def ask(self, target: bytes) -> Answer:
        """GET `target` and read the answer; dial first where there is no connection to use.

        Raises:
            ConnectionProblem, RemoteProtocolError: in words.
        """
        with in_words(self._way.peer):
            connection = await self.connected()
            start = trio.current_time()
            await connection.send_head(b"GET", target, self._way.headers, NO_BODY)
            head = await final_head(connection)
            head_after = trio.current_time() - start
            body, whole = await read_body(connection)
            after = trio.current_time() - start
        return Answer(head.status, head.headers, body, whole, head_after, after)

    async def send(
        self,
        method: bytes,
        target: bytes,
        framing: Framing = NO_BODY,
        *,
        upgrade: bytes = b"",
        more: Headers = (),
    ) -> ClientConnection:
        """Send a request's head; body and answer are the caller's. Not in words yet: `in_words`."""
        connection = await self.connected()
        await connection.send_head(
            method, target, (*self._way.headers, *more), framing, upgrade=upgrade
        )
        return connection

    async def connected(self) -> ClientConnection:
        """Return the connection, a new one where the last can't take another request."""
        if self._connection is not None and (
            not self._connection.reusable or self._connection.has_stirred()
        ):
            await self.aclose()
        if self._connection is None:
            self._connection = ClientConnection(await self._way.dial())
        return self._connection


async def final_head(connection: ClientConnection) -> ResponseHead:
    """Return the head that is the answer; informational ones are passed over."""
    while (head := await connection.receive_head()).status < 200 and head.status != 101:
        pass
    return head


async def read_body(connection: ClientConnection) -> tuple[bytes, bool]:
    """Return an answer's body within MAX_BODY and PATIENCE_WITH_BODY, and whether that is all."""
    body = bytearray()
    with trio.move_on_after(PATIENCE_WITH_BODY) as slow:
        while len(body) <= MAX_BODY and (piece := await connection.receive_body()):
            body += piece
    return bytes(body[:MAX_BODY]), len(body) <= MAX_BODY and not slow.cancelled_caught


@contextmanager
def in_words(peer: str, patience: float = PATIENCE) -> Iterator[None]:
    """Bound what is in the block, and say in words what breaks in it.

    Args:
        patience: seconds.

    Raises:
        Silent, CutOff: it took too long; the connection broke.
        RemoteProtocolError: what came is no HTTP, or no WebSocket.
    """
    try:
        with trio.fail_after(patience):
            yield
    except trio.TooSlowError:
        raise Silent(f"no whole answer from {peer} within {patience:g} s") from None
    except (UpstreamGone, trio.BrokenResourceError, trio.ClosedResourceError):
        raise CutOff(f"{peer} closed the connection before its answer was whole") from None
    except RemoteProtocolError as problem:
        raise RemoteProtocolError(f"{peer} sent something wrong: {problem}") from None
