"""One stream of a tunnel, as trio knows streams."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

import trio

from tport.engine.defaults import READ_SIZE
from tport.engine.net.waiter import Waiter
from tport.engine.proto.receive_window import ReceiveWindow

if TYPE_CHECKING:
    from tport.engine.net.mux import Mux

SMALL: Final = 4096  # bytes up to which pieces are joined on arrival, so that a window full of
# one-byte frames costs about its bytes, not an object for each


class MuxStream(trio.abc.HalfCloseableStream):
    """A stream in a tunnel; made by `Mux.open_stream` and `Mux.accept`.

    The end is one of two, and they are never taken for one another:

    - **clean**: `send_eof`, or `aclose`, which is `send_eof` and telling the peer to send no
      more. The peer reads all that was sent and then b"".
    - **cut**: `reset`, a cancelled `aclose`, `trio.aclose_forcefully`, leaving `async with` by
      an exception, the tunnel's death. The peer gets trio.BrokenResourceError, and what it
      had not yet read is gone. Where both directions had already ended cleanly, all of
      these do nothing.

    So where an exit may mean failure, use `async with` or `aclose_forcefully`; `aclose`
    by itself says that what was sent is whole.

    Attributes:
        on_cut: called, at most once, when the peer cuts the stream or the tunnel dies: for
            those who wait elsewhere, on this stream's behalf. It must not block or raise.
        on_arrival: called after data, an end or a cut has come, or several of them at once: for
            those who need no task. It must not block or raise.
        on_room: see `tcp.Prompt`.
    """

    # What most requests leave as it is stands here: setting it for each takes as long as opening.
    on_cut: Callable[[], None] | None = None
    on_arrival: Callable[[], None] | None = None
    on_room: Callable[[], None] | None = None
    _kept: bytes | memoryview = b""  # of `send_nowait`, until there is room
    _reader: Waiter | None = None  # made when a task waits
    _sender: Waiter | None = None
    _sending = False
    _eof_sent = False
    _ended = False  # the peer's end came; what is in _pieces is all there will be
    _cut = False
    _closed = False

    def __init__(self, mux: Mux, stream_id: int, window: ReceiveWindow) -> None:
        self.id = stream_id
        self._mux = mux
        self._window = window
        # A piece or none, nearly always. A deque's block, of which it takes another each 64 pieces, is too large for
        # Python's own allocator: those of long-lived streams come to lie all over the heap, and keep holes in it.
        self._pieces: list[bytes | memoryview] = []

    def __repr__(self) -> str:
        return f"<MuxStream {self.id}>"

    # --- receiving -------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what is there, at most READ_SIZE, or wait for something.

        Returns:
            b"" once the peer has ended its direction and all of it has been read.

        Raises:
            trio.BrokenResourceError: the stream was cut before its end.
        """
        limit = READ_SIZE
        if max_bytes is not None and (limit := operator.index(max_bytes)) < 1:
            raise ValueError("max_bytes must be at least 1")
        if not self._nothing_to_say():
            await trio.lowlevel.checkpoint_if_cancelled()
            taken = self._take(limit)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return taken
        reader = self._reader = self._reader or Waiter()
        while self._nothing_to_say():
            await reader.wait()
        return self._take(limit)

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes | None:
        """Return what is there, at most READ_SIZE; b"" at the end, None if nothing has come.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `receive_some`.
        """
        return None if self._nothing_to_say() else self._take(max_bytes)

    @property
    def is_cut(self) -> bool:
        """Whether the peer cut the stream, or the tunnel is gone."""
        return self._cut

    @property
    def at_end(self) -> bool:
        """Whether the peer has ended its direction, and all of it has been read."""
        return self._ended and not self._pieces

    def _nothing_to_say(self) -> bool:
        return not (self._pieces or self._ended or self._cut or self._closed)

    def _take(self, limit: int) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        pieces = self._pieces
        if not pieces:
            if self._ended:
                return b""
            raise trio.BrokenResourceError("the stream was cut short")
        piece = pieces[0]
        if len(piece) > limit:
            view = memoryview(piece)
            pieces[0] = view[limit:]
            taken = bytes(view[:limit])
        elif len(pieces) > 1 and len(piece) + len(pieces[1]) <= limit:
            size = whole = 0
            for piece in pieces:
                if (size := size + len(piece)) > limit:
                    break
                whole += 1
            taken = b"".join(pieces[:whole])
            del pieces[:whole]
        else:
            taken = bytes(piece)
            del pieces[0]
        if self._window.consume(len(taken)):
            self._mux._grant(self.id, self._window)
        return taken

    # --- sending ---------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data` for the tunnel, waiting while the peer's window or the queue is full.

        Raises:
            trio.BrokenResourceError: the stream was cut, or the peer wants no more.
        """
        self._begin_send()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._check_sendable()
            waited = False
            while self._kept and not self._send_kept():
                await self._wait_for_room()
                waited = True
            mux, size = self._mux, len(data)
            if isinstance(data, bytes) and size <= mux._send_room(self.id):
                if size:
                    mux._send(self.id, data)
            else:
                position, view = 0, memoryview(data)
                while position < size:
                    if (room := mux._send_room(self.id)) <= 0:
                        await self._wait_for_room()
                        waited = True
                        continue
                    piece = view[position : position + room]
                    position += len(piece)
                    # What is queued must not change: the caller may reuse a buffer of its own.
                    mux._send(self.id, piece if isinstance(data, bytes) else bytes(piece))
            if not waited:
                await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._sending = False

    async def send_last(self, data: bytes) -> None:
        """Queue `data` and the end of this direction, as `send_all` and `send_eof`, in one breath.

        Waits only where there is no room for all of it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.send_last_nowait(data):
            await self.send_all(data)
            await self.send_eof()

    def send_nowait(self, data: bytes | bytearray | memoryview) -> bool:
        """Queue `data` for the tunnel; return whether there was room for all of it.

        The rest is kept, whatever its size, and leaves before anything else. A task that sends
        waits for that; who has none calls this again with b"", as `on_room` says.

        Raises:
            trio.BrokenResourceError: the stream was cut, or the peer wants no more.
        """
        if self._sending or self._closed or self._cut or self._eof_sent:
            self._check_idle()
            self._check_sendable()
        if not isinstance(data, bytes):
            data = bytes(data)
        if not self._kept and self._mux._send_whole(self.id, data, last=False):
            return True
        self._kept = b"".join((self._kept, data)) if self._kept and data else self._kept or data
        return self._send_kept()

    def _send_kept(self) -> bool:
        """Queue what there is room for now; return whether that is all."""
        kept, room = self._kept, self._mux._send_room(self.id)
        if room >= len(kept):
            if kept:
                self._kept = b""
                self._mux._send(self.id, kept)
            return True
        if room > 0:
            self._kept = memoryview(kept)[room:]
            self._mux._send(self.id, kept[:room])
        self._mux._note_crowded(self)
        return False

    async def flush(self) -> None:
        await self.send_all(b"")

    def send_last_nowait(self, data: bytes) -> bool:
        """Do as `send_last`, if there is room for all of it; False: nothing was done.

        Raises:
            trio.BrokenResourceError: the stream was cut, or the peer wants no more.
        """
        if self._sending or self._closed or self._cut or self._eof_sent:
            self._check_idle()
            self._check_sendable()
        if self._kept or not self._mux._send_whole(self.id, data, last=True):
            return False
        self._eof_sent = True
        return True

    async def wait_send_all_might_not_block(self) -> None:
        self._begin_send()
        try:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            while self._mux._send_room(self.id) <= 0:
                await self._wait_for_room()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Say that everything was sent. The other direction goes on."""
        if self._kept:
            await self.flush()
        self._begin_send()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not self._eof_sent or self._closed:
                self._check_sendable()
                self._eof_sent = True
                self._mux._end_stream(self.id)
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._sending = False

    def _begin_send(self) -> None:
        self._check_idle()
        self._sending = True

    def _check_idle(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")

    def _check_sendable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        if self._cut:
            raise trio.BrokenResourceError("the stream was cut by the peer or with its tunnel")
        if self._eof_sent:
            raise trio.ClosedResourceError("send_eof was called on this stream")

    async def _wait_for_room(self) -> None:
        self._mux._note_crowded(self)
        self._sender = self._sender or Waiter()
        await self._sender.wait()
        self._check_sendable()

    # --- the end ---------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End cleanly: the peer reads what was sent and then b"", and may send no more.

        Cancelled, it cuts instead.
        """
        if not self._closed:
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled:
                self.reset()
                raise
            self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """End cleanly, as `aclose`, now; where something is kept yet, half of it would be lost: a cut."""
        if not self._closed:
            self._close(cut=bool(self._kept))

    def reset(self) -> None:
        """Cut the stream now, without waiting, unless both directions have ended cleanly."""
        if not self._closed:
            self._close(cut=not (self._eof_sent and self._ended))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cut the stream if the block failed: half an answer must not look like a whole one."""
        if kind is not None:
            self.reset()
        await self.aclose()

    def _close(self, *, cut: bool) -> None:
        self._closed = True
        self._pieces.clear()
        self._window.release()
        if self._reader is not None:
            self._reader.wake()
        if self._sender is not None:
            self._sender.wake()
        self._mux._close_stream(self.id, cut=cut)

    # --- what the mux tells ----------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        pieces = self._pieces
        if pieces and len(pieces[-1]) + len(data) <= SMALL:
            pieces[-1] = b"".join((pieces[-1], data))
        else:
            pieces.append(data)
        self._stir()

    def _end_arrived(self) -> None:
        self._ended = True
        self._stir()

    def _break(self) -> None:
        """The peer cut the stream, or the tunnel is gone. A direction that had ended stays whole."""
        self._cut = True
        if not self._ended:
            self._pieces.clear()
        self._stir()
        self._room_came()
        if self.on_cut is not None:
            self.on_cut()

    def _room_came(self) -> None:
        """There may be room: tell who waits for it."""
        if self.on_room is not None:
            self.on_room()
        elif self._sender is not None:
            self._sender.wake()

    def _stir(self) -> None:
        """Something has come: tell who waits for it."""
        if self.on_arrival is not None:
            self._mux._stirred[self] = None
        elif self._reader is not None:
            self._reader.wake()
