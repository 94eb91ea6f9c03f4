"""yamux, version 0: many streams over one. Sans-IO.

Source: spec.md of hashicorp/yamux; section names in quotes below. Where it is silent the Go
code decides, and a comment says so. Where this is stricter than either, the peer's memory or
arithmetic would otherwise decide over ours (CVE-2024-32984, CVE-2026-31814, CVE-2026-32314).

    DATA           length = bytes that follow; may carry SYN, ACK, FIN, RST
    WINDOW_UPDATE  length = credit added to what the other side may send; the same flags
    PING           length = a value, asked with SYN, echoed with ACK
    GO_AWAY        length = 0 normal, 1 protocol error, 2 internal error
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final

from tport.engine.defaults import INITIAL_WINDOW, MAX_STREAM_QUEUE, MAX_STREAMS, MAX_WINDOW
from tport.engine.errors import ConnectionProblem, LimitExceeded, RemoteProtocolError
from tport.engine.proto.receive_window import ReceiveWindow, WindowBudget
from tport.engine.proto.yamux_events import (
    CreditReceived,
    DataReceived,
    Event,
    GoneAway,
    PongReceived,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

HEADER: Final = Struct("!BBHII")  # version, type, flags, stream id, length. "Framing"
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
ALL_FLAGS: Final = SYN | ACK | FIN | RST
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)  # "Go Away"

MAX_WRITE: Final = MAX_STREAM_QUEUE + HEADER.size  # bytes; no turn joins one that has as many
MAX_FRAME: Final = MAX_WRITE // 2 - HEADER.size  # bytes of payload: a turn where others wait
MAX_CREDIT: Final = 2**31 - 1  # bytes; a peer that grants more is counting wrongly
MAX_ID: Final = 2**32 - 1
# Streams of the peer's beyond MAX_STREAMS, since some may be over there and not yet here.
SLACK: Final = 250
MAX_PASSED_OVER: Final = 256  # ids; Go opens at most its backlog, 256, before it waits for an ACK
MAX_ANSWERS: Final = 64  # pings that may wait for their answer
MAX_RESETS: Final = 2048  # resets that may wait to be sent when the peer opens a further stream


class _Stream:
    """One that has not ended in both directions."""

    __slots__ = ("credit", "ended", "ending", "fin_sent", "flags", "grant", "id", "pending",
                 "queued", "scheduled", "unwanted", "window")  # fmt: skip

    def __init__(self, stream_id: int, flags: int, window: ReceiveWindow) -> None:
        self.id = stream_id
        self.flags = flags  # SYN or ACK, until the first frame has carried it
        self.window = window
        self.credit = INITIAL_WINDOW  # bytes the peer still takes
        self.grant = 0  # credit the peer is owed
        self.pending: list[bytes | memoryview] = []  # no deque: as in MuxStream
        self.queued = 0  # bytes in `pending`
        self.ended = False  # the peer's FIN came
        self.ending = False  # our FIN is owed, after `pending`
        self.fin_sent = False
        self.unwanted = False  # whatever the peer still sends: RST goes with our FIN
        self.scheduled = False  # stands in the line of those that have something to send


class Connection:
    """One side of a session.

    What is owed to the peer is kept as state, not as frames (which streams want a turn, how
    much credit each has to grant), so that frames are made when there is a chance to send them
    and cannot pile up. Only answers to pings and resets are kept one by one; they are bounded.

    Credit is spent when data is queued, so whatever is queued can leave: a stream that waits
    for credit holds nothing here.
    """

    def __init__(
        self,
        *,
        client: bool,
        peer_may_open: bool = True,
        max_streams: int = MAX_STREAMS,
        budget: WindowBudget | None = None,
    ) -> None:
        """
        Args:
            client: opens streams with odd ids; exactly one of the two sides is. "StreamID Field"
            peer_may_open: else a stream opened by the peer is a protocol error.
            max_streams: beyond it `open_stream` raises, and the peer's new streams are reset.
            budget: shared by all connections of a process.
        """
        self._next_id = 1 if client else 2
        self._peer_next_id = 2 if client else 1
        # Go hands out ids in order but may send the openings out of order.
        self._passed_over: dict[int, None] = {}
        self._peer_may_open = peer_may_open
        self._max_streams = max_streams
        self._budget = budget or WindowBudget()
        self._streams: dict[int, _Stream] = {}
        self._going_away = False
        # receiving
        self._head = b""  # the beginning of a header that the network cut
        self._frame_id = 0  # the stream of the frame whose payload is on its way
        self._frame_left = 0  # bytes of that payload still to come
        self._frame_flags = 0
        # sending
        self._line: deque[_Stream | None] = deque()  # None: our GO_AWAY has its turn
        self._answers: list[bytes] = []
        self._resets: list[bytes] = []
        self._ping: int | None = None
        self._ping_value = 0
        self.moved: list[int] = []  # whose data left in the last write: they may queue more
        self.queued = 0  # bytes of payload waiting to be sent, all streams together

    # --- receiving -----------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray, *, now: float = 0.0) -> list[Event]:
        """Take bytes from the peer, cut anywhere, and return what they mean.

        Never holds back payload: what came of a frame is passed on.

        Args:
            now: a monotonic time in seconds, the birth of streams opened here.

        Raises:
            RemoteProtocolError: the peer broke the protocol; the connection is over.
        """
        data = bytes(data)  # costs nothing if it is bytes already
        if self._head:
            data = self._head + data
            self._head = b""
        events: list[Event] = []
        position, end = 0, len(data)
        while True:
            if left := self._frame_left:
                if position == end:
                    return events
                piece = data[position : position + left]
                position += len(piece)
                self._frame_left = left - len(piece)
                self._payload(piece, events)
                continue
            if end - position < HEADER.size:
                self._head = data[position:]
                return events
            version, kind, flags, stream_id, length = HEADER.unpack_from(data, position)
            position += HEADER.size
            if version != 0:
                raise RemoteProtocolError(f"yamux version {version}, expected 0")
            if flags & ~ALL_FLAGS:
                raise RemoteProtocolError(f"reserved flags {flags:#06x}")
            if kind == DATA:
                self._data(flags, stream_id, length, events, now)
            elif kind == WINDOW_UPDATE:
                self._window_update(flags, stream_id, length, events, now)
            elif kind == PING:
                self._pinged(flags, stream_id, length, events)
            elif kind == GO_AWAY:
                if stream_id or length > INTERNAL_ERROR:
                    raise RemoteProtocolError(f"go-away on stream {stream_id}, code {length}")
                events.append(GoneAway(length))
            else:
                raise RemoteProtocolError(f"unknown frame type {kind}")

    def _data(
        self, flags: int, stream_id: int, length: int, events: list[Event], now: float
    ) -> None:
        if flags & SYN or (stream := self._streams.get(stream_id)) is None:
            stream = self._find(flags, stream_id, events, now)
        if stream is None:
            # A late frame. Its credit is no longer known, but no stream ever had more.
            if length > MAX_WINDOW:
                raise RemoteProtocolError(f"stream {stream_id}: receive window exceeded")
        elif length:
            if stream.ended:
                raise RemoteProtocolError(f"stream {stream_id}: data after its end")
            if length > stream.window.credit:
                raise RemoteProtocolError(f"stream {stream_id}: receive window exceeded")
            stream.window.credit -= length
        if length:
            self._frame_id, self._frame_left, self._frame_flags = stream_id, length, flags
            if flags & RST:  # nobody gets the payload, and so it is no clean end, FIN or not
                self._finish(RST, stream_id, events)
        elif flags:
            self._finish(flags, stream_id, events)

    def _payload(self, piece: bytes, events: list[Event]) -> None:
        stream_id = self._frame_id
        # Looked up for each piece: we may have reset it since the last.
        if (stream := self._streams.get(stream_id)) is not None:
            stream.window.arrived(len(piece))
            events.append(DataReceived(stream_id, piece))
            if not self._frame_left and self._frame_flags & FIN:
                self._finish(FIN, stream_id, events)

    def _window_update(
        self, flags: int, stream_id: int, length: int, events: list[Event], now: float
    ) -> None:
        if flags & SYN or (stream := self._streams.get(stream_id)) is None:
            stream = self._find(flags, stream_id, events, now)
        if stream is not None and length:
            stream.credit += length
            if stream.credit > MAX_CREDIT:
                raise RemoteProtocolError(f"stream {stream_id}: window credit overflow")
            events.append(CreditReceived(stream_id))
        if flags:
            self._finish(flags, stream_id, events)

    def _find(self, flags: int, stream_id: int, events: list[Event], now: float) -> _Stream | None:
        """Return the stream that a frame opens; None: it is for one that is over."""
        if flags & SYN:
            return self._opened(flags, stream_id, events, now)
        ours = (stream_id ^ self._next_id) & 1 == 0
        unknown = stream_id >= (self._next_id if ours else self._peer_next_id)
        if stream_id == 0 or unknown or stream_id in self._passed_over:
            raise RemoteProtocolError(f"stream {stream_id} was never opened")
        return None

    def _opened(
        self, flags: int, stream_id: int, events: list[Event], now: float
    ) -> _Stream | None:
        if not self._peer_may_open:
            raise RemoteProtocolError(f"peer opened stream {stream_id}, which is not its part")
        if stream_id == 0 or (stream_id ^ self._peer_next_id) & 1:
            raise RemoteProtocolError(f"peer opened stream {stream_id}: wrong parity")
        if stream_id < self._peer_next_id and stream_id not in self._passed_over:
            raise RemoteProtocolError(f"peer opened stream {stream_id} again")
        if flags & (ACK | RST):
            raise RemoteProtocolError(f"stream {stream_id}: opened with flags {flags:#06x}")
        if len(self._resets) >= MAX_RESETS:
            raise RemoteProtocolError("peer opens streams and does not read our answers")
        if stream_id == self._peer_next_id:
            self._peer_next_id += 2
        else:
            self._pass_over(stream_id)
        if self._going_away or len(self._streams) >= self._max_streams:
            self._resets.append(HEADER.pack(0, WINDOW_UPDATE, RST, stream_id, 0))
            return None
        stream = _Stream(stream_id, ACK, ReceiveWindow(self._budget, now=now))
        self._streams[stream_id] = stream
        self._schedule(stream)
        events.append(StreamOpened(stream_id))
        return stream

    def _pass_over(self, stream_id: int) -> None:
        passed_over = self._passed_over
        if stream_id < self._peer_next_id:
            del passed_over[stream_id]
            return
        first = max(self._peer_next_id, stream_id - 2 * MAX_PASSED_OVER)
        passed_over.update(dict.fromkeys(range(first, stream_id, 2)))
        while len(passed_over) > MAX_PASSED_OVER:
            del passed_over[next(iter(passed_over))]
        self._peer_next_id = stream_id + 2

    def _finish(self, flags: int, stream_id: int, events: list[Event]) -> None:
        """Act on FIN and RST."""
        if (stream := self._streams.get(stream_id)) is None:
            return
        if flags & FIN:
            if stream.ended:  # Go: ErrUnexpectedFlag
                raise RemoteProtocolError(f"stream {stream_id}: ended twice")
            stream.ended = True
            stream.grant = 0
            events.append(StreamEnded(stream_id))
            if stream.fin_sent:
                del self._streams[stream_id]
        if flags & RST and stream_id in self._streams:
            self._drop(stream)
            events.append(StreamReset(stream_id))

    def _pinged(self, flags: int, stream_id: int, value: int, events: list[Event]) -> None:
        if stream_id or flags not in (SYN, ACK):
            raise RemoteProtocolError(f"ping on stream {stream_id} with flags {flags:#06x}")
        if flags == ACK:
            events.append(PongReceived(value))
        elif len(self._answers) >= MAX_ANSWERS:
            raise RemoteProtocolError("peer sends pings and does not read our answers")
        else:
            self._answers.append(HEADER.pack(0, PING, ACK, 0, value))

    # --- what the application does ---------------------------------------------------------

    @property
    def stream_count(self) -> int:
        """Streams that have not ended in both directions."""
        return len(self._streams)

    def open_stream(self, *, now: float = 0.0) -> int:
        """Open a stream and return its id. The peer learns of it with the next write.

        Raises:
            LimitExceeded: `max_streams` are open.
            ConnectionProblem: all ids are used up: a new connection is needed.
        """
        if len(self._streams) >= self._max_streams:
            raise LimitExceeded(f"{self._max_streams} streams are open already", retry_after=1)
        if self._next_id > MAX_ID:
            raise ConnectionProblem("every stream id of this tunnel has been used")
        stream_id = self._next_id
        self._next_id += 2
        stream = _Stream(stream_id, SYN, ReceiveWindow(self._budget, now=now))
        self._streams[stream_id] = stream
        self._schedule(stream)
        return stream_id

    def receive_window(self, stream_id: int) -> ReceiveWindow | None:
        """Return the window of an open stream, or None if it is over.

        A stream that the peer opens may be: its reset can be among the same events. Who reads
        a stream must release its window at the end.
        """
        stream = self._streams.get(stream_id)
        return stream.window if stream is not None else None

    def send_room(self, stream_id: int) -> int:
        """Return how many bytes `send` takes now: the peer's credit, and at most MAX_STREAM_QUEUE."""
        if (stream := self._streams.get(stream_id)) is None:
            return 0
        return min(stream.credit, MAX_STREAM_QUEUE - stream.queued)

    def send(self, stream_id: int, data: bytes | memoryview) -> None:
        """Queue `data`, at most `send_room` bytes, not to be changed by anyone from now on."""
        if not self.send_whole(stream_id, data):
            raise ValueError(f"stream {stream_id} cannot take {len(data)} bytes now")

    def send_whole(self, stream_id: int, data: bytes | memoryview, *, last: bool = False) -> bool:
        """Do as `send`, and with `last` as `end`; False: there is no room, and nothing was done."""
        stream, size = self._streams.get(stream_id), len(data)
        if stream is None or stream.ending:
            return False
        if size > stream.credit or size > MAX_STREAM_QUEUE - stream.queued:
            return False
        if size:
            stream.pending.append(data)
            stream.queued += size
            stream.credit -= size
            self.queued += size
        stream.ending = last
        if not stream.scheduled:
            stream.scheduled = True
            self._line.append(stream)
        return True

    def grant(self, stream_id: int, credit: int) -> None:
        """Let the peer send `credit` bytes more, as its ReceiveWindow says."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ended:
            stream.grant += credit
            self._schedule(stream)

    def end(self, stream_id: int) -> None:
        """Send no more on this stream, after what is queued."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ending:
            stream.ending = True
            self._schedule(stream)

    def close(self, stream_id: int) -> None:
        """End our direction properly; and if the peer's has not ended, tell it to stop."""
        if (stream := self._streams.get(stream_id)) is None:
            return
        if stream.ended or not stream.fin_sent:
            stream.unwanted = True
            self.end(stream_id)
        else:
            self.reset(stream_id)

    def reset(self, stream_id: int) -> None:
        """Cut the stream: what is queued is dropped, and the peer is told unless all was over."""
        if (stream := self._streams.get(stream_id)) is None:
            return
        self._drop(stream)
        if not stream.flags & SYN:  # else the peer never heard of it
            self._resets.append(HEADER.pack(0, WINDOW_UPDATE, RST, stream_id, 0))

    def ping(self) -> int:
        """Ask for a sign of life and return the value that PongReceived will carry.

        One question at most waits to be sent; a newer one takes its place.
        """
        self._ping_value = (self._ping_value + 1) & 0xFFFFFFFF
        self._ping = self._ping_value
        return self._ping_value

    def go_away(self, code: int = NORMAL) -> None:
        """Take no new streams. With another code than NORMAL give up: nothing else leaves."""
        if code != NORMAL:
            for stream in filter(None, self._line):
                stream.scheduled = False
            self._line.clear()
            self._answers.clear()
            self._ping = None
            self._resets = [HEADER.pack(0, GO_AWAY, 0, 0, code)]
        elif not self._going_away:
            # It must not overtake the opening of a stream, hence a place in the line.
            self._line.append(None)
        self._going_away = True

    # --- sending ---------------------------------------------------------------------------

    @property
    def has_urgent(self) -> bool:
        """Something is owed to the peer that did not come from our own side."""
        return bool(self._answers or self._resets)

    def data_to_send(self) -> bytes:
        """Return what is to be sent next, once: whole frames, < 97 KiB; empty if nothing.

        Streams take turns of a frame each, behind pings and resets; who is alone fills the write.
        """
        out = self._answers + self._resets
        self._answers.clear()
        self._resets.clear()
        self.moved.clear()
        if self._ping is not None:
            out.append(HEADER.pack(0, PING, SYN, 0, self._ping))
            self._ping = None
        size = len(out) * HEADER.size
        parts: list[bytes | memoryview] = list(out)
        line = self._line
        while line and size < MAX_WRITE:
            stream = line.popleft()
            if stream is None:
                parts.append(HEADER.pack(0, GO_AWAY, 0, 0, NORMAL))
                size += HEADER.size
            else:
                stream.scheduled = False
                room = MAX_FRAME if line else max(MAX_FRAME, MAX_WRITE - size - HEADER.size)
                size += self._turn(stream, parts, room)
        return b"".join(parts)

    def _turn(self, stream: _Stream, parts: list[bytes | memoryview], room: int) -> int:
        """Append what `stream` may send now, at most `room` bytes of payload; return its size."""
        flags, stream.flags = stream.flags, 0
        size = 0
        if pending := stream.pending:
            header = len(parts)
            parts.append(b"")
            if len(pending) == 1 and len(pending[0]) <= room:  # as of nearly every request
                parts.append(piece := pending.pop())
                taken = len(piece)
            else:
                taken = _take(pending, parts, room)
            parts[header] = HEADER.pack(0, DATA, flags, stream.id, taken)
            flags = 0
            stream.queued -= taken
            self.queued -= taken
            size = HEADER.size + taken
            self.moved.append(stream.id)
        if stream.pending:
            self._schedule(stream)
        elif stream.ending and not stream.fin_sent:
            # Never on the DATA frame: Go sets the end before it has copied the payload, and a
            # reader that looks in between takes the stream for empty.
            flags |= FIN
            stream.fin_sent = True
            if stream.ended or stream.unwanted:
                del self._streams[stream.id]
        if flags or stream.grant:
            parts.append(HEADER.pack(0, WINDOW_UPDATE, flags, stream.id, stream.grant))
            stream.grant = 0
            size += HEADER.size
        if stream.fin_sent and stream.unwanted and not stream.ended:
            parts.append(HEADER.pack(0, WINDOW_UPDATE, RST, stream.id, 0))
            size += HEADER.size
        return size

    def _schedule(self, stream: _Stream) -> None:
        if not stream.scheduled:
            stream.scheduled = True
            self._line.append(stream)

    def _drop(self, stream: _Stream) -> None:
        """Forget a stream that was cut."""
        del self._streams[stream.id]
        self.queued, stream.queued = self.queued - stream.queued, 0
        stream.pending.clear()
        if stream.scheduled:
            self._line.remove(stream)


def _take(pending: list[bytes | memoryview], parts: list[bytes | memoryview], most: int) -> int:
    """Move up to `most` bytes from `pending` to `parts` without copying; return how many."""
    room, whole = most, 0
    while room and whole < len(pending):
        piece = pending[whole]
        if len(piece) > room:
            pending[whole], piece = memoryview(piece)[room:], memoryview(piece)[:room]
        else:
            whole += 1
        parts.append(piece)
        room -= len(piece)
    del pending[:whole]
    return most - room
