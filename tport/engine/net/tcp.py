"""TCP without a detour: what is there is read at once, what there is room for is sent at once.

trio's own SocketStream lets every other task run around each call, a third of what a small request
costs a proxy. Here a call that need not wait doesn't, but for each STREAK-th in a row: a task whose
peer is never slow can't keep the others from theirs.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

import trio

from tport.engine.defaults import READ_SIZE

STREAK: Final = 16  # calls in a row that don't wait: at most 1 MiB, and a millisecond


class TcpStream(trio.abc.HalfCloseableStream):
    """A connected TCP socket, which it owns. One task may send while another receives.

    Attributes:
        socket: for its addresses and options.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._streak = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at most READ_SIZE or `max_bytes`; b"" at the end."""
        limit = READ_SIZE if max_bytes is None else max_bytes
        if limit < 1:
            raise ValueError("max_bytes must be >= 1")
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            try:
                data = self.socket.recv(limit)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise _problem(error) from error
            else:
                await self._rest(waited)
                return data
            try:
                await trio.lowlevel.wait_readable(self.socket)
            except OSError as error:
                raise _problem(error) from error
            waited = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        left = memoryview(data)
        while True:
            try:
                sent = self.socket.send(left)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                raise _problem(error) from error
            if sent == len(left):
                break
            left = left[sent:]
            try:
                await trio.lowlevel.wait_writable(self.socket)
            except OSError as error:
                raise _problem(error) from error
            waited = True
        await self._rest(waited)

    async def wait_send_all_might_not_block(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self.socket)
        except OSError as error:
            raise _problem(error) from error

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _problem(error) from error

    async def aclose(self) -> None:
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()

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
