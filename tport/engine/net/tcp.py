"""TCP without a detour: what is there is read at once, what there is room for is sent at once.

trio's own SocketStream lets every other task run around each call, a third of what a small request
costs a proxy. Here a call that need not wait doesn't, but for each STREAK-th in a row: a task whose
peer is never slow can't keep the others from theirs. And who has no task may read and send
without waiting (`Prompt`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Final, Protocol

import trio

from tport.engine.defaults import READ_SIZE
from tport.engine.net.ready import ENDED, HAS_EPOLL, READABLE, WRITABLE, ready
from tport.engine.net.waiter import Waiter

STREAK: Final = 16  # calls in a row that don't wait: at most 1 MiB, and a millisecond


class Prompt(Protocol):
    """A stream that can be used without a task, too. Not by both at the same time.

    Attributes:
        on_arrival: called when there may be something to receive, or an end. It must receive
            until there is nothing (or do so later by itself: nobody calls twice), and must not
            block or raise. While it is set no task may receive.
        on_room: called when what `send_nowait` kept may leave, or the connection broke:
            `send_nowait(b"")` tells. It must not block or raise. While it is set no task may send.
        may_have_come: there may be something to receive, as far as is known without asking.
    """

    on_arrival: Callable[[], None] | None
    on_room: Callable[[], None] | None

    @property
    def may_have_come(self) -> bool: ...

    def has_stirred(self) -> bool:
        """Tell whether bytes or an end have come, asking the system."""

    def receive_nowait(self, max_bytes: int = READ_SIZE, /) -> bytes | None:
        """Return what is there, at most so much; b"" at the end, None if nothing has come.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `receive_some` would.
        """

    def send_nowait(self, data: bytes | bytearray | memoryview) -> bool:
        """Send; return whether all of it has left.

        What the peer has no room for is kept, whatever its size, and leaves before anything else:
        `flush` waits for that. With b"" only what is kept is sent.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `send_all` would.
        """

    def send_last(self, data: bytes | bytearray | memoryview) -> bool:
        """Send as `send_nowait` does, and the goodbye with it: nothing can be sent after it."""

    async def flush(self) -> None:
        """Wait until what `send_nowait` kept has left."""

    def close(self) -> None:
        """Close the connection now, without a goodbye. It's no news to `on_arrival` and `on_room`."""

    def end(self) -> None:
        """Close it now, having said goodbye as far as there is room for that."""


class TcpStream(trio.abc.HalfCloseableStream):
    """A connected TCP socket, which it owns. One task may send while another receives.

    Attributes:
        socket: for its addresses and options.
        on_arrival, on_room, may_have_come: see `Prompt`.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.on_arrival: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.may_have_come = True
        self._ended = False  # the peer will send no more: what follows the rest is its end
        self._writable = True
        self._unsent = b""
        self._failed: OSError | None = None
        self._reader, self._writer = Waiter(), Waiter()
        self._streak = 0
        if HAS_EPOLL:
            ready().add(sock, self._told)

    def _told(self, events: int) -> None:
        if events & READABLE:
            self.may_have_come = True
            if events & ENDED:
                self._ended = True
            if self.on_arrival is not None:
                self.on_arrival()
            else:
                self._reader.wake()
        if events & WRITABLE and not self._writable:
            self._writable = True
            if self.on_room is not None:
                self.on_room()
            else:
                self._writer.wake()

    def has_stirred(self) -> bool:
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True  # broken, or closed already
        return True

    # --- Receiving -----------------------------------------------------------------------------

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes | None:
        if not self.may_have_come:
            return None
        try:
            data = self.socket.recv(max_bytes)
        except (BlockingIOError, InterruptedError):
            self.may_have_come = False
            return None
        except OSError as error:
            raise self._broken_by(error) from error
        if (
            not data and self._failed is not None
        ):  # the kernel tells of a reset once, to whoever asks first
            raise _problem(self._failed) from self._failed
        # Less than was asked for is all there is, and more will be told; an end was told already.
        if len(data) < max_bytes and not self._ended and data:
            self.may_have_come = False
        return data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at most READ_SIZE or `max_bytes`; b"" at the end."""
        limit = READ_SIZE if max_bytes is None else max_bytes
        if limit < 1:
            raise ValueError("max_bytes must be >= 1")
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while (data := self.receive_nowait(limit)) is None:
            await self._wait_readable()
            waited = True
        await self._rest(waited)
        return data

    # --- Sending -------------------------------------------------------------------------------

    def send_nowait(self, data: bytes | bytearray | memoryview) -> bool:
        if self._unsent:
            self._unsent += data
            if not self._writable:
                return False
            data, self._unsent = self._unsent, b""
        sent = self._send(data) if data else 0
        if sent == len(data):
            return True
        self._unsent = bytes(data[sent:])
        return False

    def send_last(self, data: bytes | bytearray | memoryview) -> bool:
        return self.send_nowait(data)

    @property
    def unsent(self) -> bool:
        """Whether something that `send_nowait` kept has not left yet."""
        return bool(self._unsent)

    async def flush(self) -> None:
        await self.send_all(b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._unsent:
            data = b"".join((self._unsent, data))
            self._unsent = b""
        waited = False
        left = memoryview(data)
        while (sent := self._send(left)) < len(left):
            left = left[sent:]
            await self._wait_writable()
            waited = True
        await self._rest(waited)

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise self._broken_by(error) from error
        if sent < len(data):
            self._writable = False
        return sent

    def _broken_by(self, error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if error.errno != errno.EPIPE:  # that says only that the peer had ended before
            self._failed = error
        return _problem(error)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._writable:
            await self._wait_writable()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _problem(error) from error

    # --- The end -------------------------------------------------------------------------------

    def disown(self) -> None:
        """Hear no more of the connection: another process has it. It is still to be closed here."""
        if HAS_EPOLL and self.socket.fileno() >= 0:
            ready().disown(self.socket)

    def close(self) -> None:
        """Close now. Who still waits here gets trio.ClosedResourceError."""
        if self.socket.fileno() < 0:
            return
        if HAS_EPOLL:
            ready().forget(self.socket)
        else:
            trio.lowlevel.notify_closing(self.socket)
        self.socket.close()
        self.may_have_come = self._writable = True  # so that who is woken sees it
        self._reader.wake()
        self._writer.wake()

    def end(self) -> None:
        self.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    # --- Waiting -------------------------------------------------------------------------------

    async def _wait_readable(self) -> None:
        if HAS_EPOLL:
            await self._reader.wait()
            return
        try:
            await trio.lowlevel.wait_readable(self.socket)
        except OSError as error:
            raise _problem(error) from error
        self.may_have_come = True

    async def _wait_writable(self) -> None:
        if HAS_EPOLL:
            await self._writer.wait()
            return
        try:
            await trio.lowlevel.wait_writable(self.socket)
        except OSError as error:
            raise _problem(error) from error

    async def _rest(self, waited: bool) -> None:
        """Let others run, after so many calls that didn't wait. What was done is not lost by that."""
        self._streak = 0 if waited else self._streak + 1
        if self._streak >= STREAK:
            self._streak = 0
            await trio.lowlevel.cancel_shielded_checkpoint()


def direct(stream: trio.SocketStream) -> TcpStream:
    """Take over the socket of a stream, which is of no more use."""
    return TcpStream(socket.socket(fileno=stream.socket.detach()))


def _problem(error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
    if error.errno in {errno.EBADF, errno.ENOTSOCK}:
        return trio.ClosedResourceError("this socket was closed")
    return trio.BrokenResourceError(f"socket connection broken: {error}")
