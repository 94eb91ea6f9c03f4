"""The socket between the main process and one worker: whole messages, and connections along with them.

A Unix socket pair of the kind SOCK_SEQPACKET: a message comes whole, and the end of the other side
is seen as such. A worker is given its end when it is started; it has no name, and nobody else can
speak on it. Linux.
"""

from __future__ import annotations

import array
import os
import socket
from contextlib import ExitStack
from typing import Final

import trio

from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.workers.messages import MAX_MESSAGE, Message, pack, unpack

SEND_DEADLINE: Final = 5.0  # s for the other side to make room: it reads all the time
_NUMBER: Final = array.array("i").itemsize
_ONE: Final = socket.CMSG_SPACE(_NUMBER)


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """One end. Any number of tasks may send, one receives."""

    def __init__(self, end: socket.socket) -> None:
        """`end`: is this channel's from now on."""
        end.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(end)
        self._sending = trio.Lock()

    async def send(self, message: Message, carried: socket.socket | None = None) -> None:
        """Send a message, and a copy of the connection that it is about; ours is still ours to close.

        Raises:
            ConnectionProblem: the other side has ended, or did not read for SEND_DEADLINE; the
                connection is closed, or no more files may be opened; or the message is too long:
                sent, it would be taken for the words of a broken process.
        """
        packed = pack(message)
        if len(packed) > MAX_MESSAGE:
            raise ConnectionProblem(f"a message of {len(packed)} bytes, at most {MAX_MESSAGE} fit")
        with ExitStack() as until_sent:
            along = []
            if carried is not None:
                # Of our own: while there is no room, the owner may close theirs, whose number is soon another's.
                copy = until_sent.enter_context(_copy(carried))
                numbers = array.array("i", [copy.fileno()])
                along.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers))
            with trio.move_on_after(SEND_DEADLINE):
                async with self._sending:
                    try:
                        await self._socket.sendmsg([packed], along)
                    except OSError as problem:
                        raise ConnectionProblem(f"the other process has ended: {problem}") from None
                return
        raise ConnectionProblem(f"the other process did not read for {SEND_DEADLINE:.0f} s")

    async def receive(self) -> tuple[Message, socket.socket | None]:
        """Return the next message, and the connection that came with it, which is the caller's.

        A connection is lost, and None, where this process may open no more files.

        Raises:
            ConnectionProblem: the other side has ended.
            RemoteProtocolError: what came is no message.
        """
        try:
            data, along, flags, _ = await self._socket.recvmsg(
                MAX_MESSAGE, _ONE, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as problem:
            raise ConnectionProblem(f"the other process has ended: {problem}") from None
        carried = _received(along)
        if not data:
            raise ConnectionProblem("the other process has ended")
        try:
            if flags & socket.MSG_TRUNC:
                raise RemoteProtocolError(f"a message of over {MAX_MESSAGE} bytes")
            return unpack(data), carried
        except RemoteProtocolError:
            if carried is not None:
                carried.close()
            raise

    def close(self) -> None:
        self._socket.close()


def _copy(connection: socket.socket) -> socket.socket:
    try:
        return connection.dup()
    except OSError as problem:
        raise ConnectionProblem(f"the connection can't go along: {problem}") from None


def _received(along: list[tuple[int, int, bytes]]) -> socket.socket | None:
    numbers = array.array("i")
    for level, kind, data in along:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % _NUMBER])
    for surplus in numbers[1:]:
        os.close(surplus)
    return socket.socket(fileno=numbers[0]) if numbers else None
