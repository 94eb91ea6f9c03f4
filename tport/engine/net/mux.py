"""The reverse tunnel's multiplexer: yamux over a trio stream.

It is carried by plain calls, from where its bytes arrive, and behind all that was told of in the same
breath. Nobody who uses a stream sends by himself: all only queue. So a frame is never cut in half
by the cancellation of the task that wanted it sent, `reset` reaches the peer though it may not wait,
and all that was queued in one pass leaves in one write. Two tasks stand by: one for what is due when no
bytes arrive, one that asks for signs of life.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

import trio

from tport.engine.defaults import (
    ECHO_DEADLINE,
    ECHO_INTERVAL,
    MAX_STREAMS,
    TUNNEL_QUEUE,
    TUNNEL_WRITE,
)
from tport.engine.errors import ConnectionProblem, LimitExceeded, RemoteProtocolError
from tport.engine.net.flow import TURN, End, open_end
from tport.engine.net.mux_stream import MuxStream
from tport.engine.net.ready import HAS_EPOLL, ready
from tport.engine.net.signs_of_life import SignsOfLife
from tport.engine.net.waiter import Waiter
from tport.engine.proto.receive_window import ReceiveWindow, WindowBudget
from tport.engine.proto.yamux import NORMAL, PROTOCOL_ERROR, SLACK, Connection
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

logger = logging.getLogger(__name__)

LAST_WORDS: Final = 1.0  # s to tell the peer why, and to close the transport


class Mux:
    """Many streams over one. It owns the transport.

    Attributes:
        last_heard: trio's time of the last byte from the peer, or of the start.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        *,
        client: bool,
        peer_may_open: bool,
        max_streams: int = MAX_STREAMS,
        budget: WindowBudget | None = None,
        echo_interval: float = ECHO_INTERVAL,
        echo_deadline: float = ECHO_DEADLINE,
    ) -> None:
        """
        Args:
            client: one side is, the other is not; for tport the proxy.
            peer_may_open: else a stream opened by the peer ends the tunnel.
            max_streams: open at a time; beyond it `open_stream` raises, and beyond SLACK more
                the peer's are reset. All of them may come at once, before one is accepted.
            budget: what windows may grow by, shared by all tunnels of the process.
            echo_interval: seconds between pings.
            echo_deadline: seconds without a byte from the peer after which it is taken for dead.
        """
        self._transport = transport
        self._max_streams = max_streams
        self._max_taken = max_streams + SLACK
        self._connection = Connection(
            client=client, peer_may_open=peer_may_open, max_streams=self._max_taken, budget=budget
        )
        self._echo_deadline = echo_deadline
        self._life = SignsOfLife(interval=echo_interval, deadline=echo_deadline, asks_second=client)
        self._streams: dict[int, MuxStream] = {}
        self._opened, self._unaccepted = trio.open_memory_channel[MuxStream](self._max_taken)
        self._take: Callable[[MuxStream], None] | None = None  # instead of queueing it there
        # Who is to be told, once all that came with it is understood, too; in that order.
        self._stirred: dict[MuxStream, None] = {}
        self._end_point: End | None = None  # of the transport, while it is served
        self._blocked = False  # the transport keeps something
        self._is_due = False  # something is to be sent, and somebody will
        self._others_first = False  # more has come; the task takes it, after other tasks
        self._news = Waiter()  # where that waits
        self._bug: Exception | None = None
        self._crowded: set[MuxStream] = (
            set()
        )  # wait for the tunnel's queue, not for their own credit
        self._tasks = trio.CancelScope()
        self._over = False  # nothing more is queued; the writer sends what is left and ends all
        self._finished = trio.Event()
        self._problem: ConnectionProblem | RemoteProtocolError | None = None
        self._going_away = False
        self._peer_going_away = False
        self._ready = ready() if HAS_EPOLL else None
        # What trio.current_time calls, by two calls more.
        self._now = trio.lowlevel.current_clock().current_time
        self.last_heard = self._now()

    # --- for those who use the tunnel ------------------------------------------------------

    @property
    def streams(self) -> int:
        """Streams not yet closed on this side."""
        return len(self._streams)

    @property
    def rtt(self) -> float | None:
        """The round trip in seconds, the shortest of the last pings; None before the first answer."""
        return self._life.rtt

    @property
    def closed(self) -> bool:
        """Whether `run` is over or about to be: every stream is broken or will be."""
        return self._over

    async def wait_closed(self) -> None:
        """Wait until `run` is over."""
        await self._finished.wait()

    def open_stream(self) -> MuxStream:
        """Open a stream. The peer hears of it with the first data, or by itself soon.

        Raises:
            LimitExceeded: `max_streams` are open.
            ConnectionProblem: the tunnel is over, or one side has said `go_away`.
        """
        if self._over or self._going_away or self._peer_going_away:
            raise ConnectionProblem("the tunnel is closed or closing")
        if len(self._streams) >= self._max_streams:
            raise LimitExceeded(f"{self._max_streams} streams are open already", retry_after=1)
        stream_id = self._connection.open_stream(now=self._now())
        self._queue()
        window = self._connection.receive_window(stream_id)
        assert window is not None
        stream = self._streams[stream_id] = MuxStream(self, stream_id, window)
        return stream

    async def accept(self) -> MuxStream:
        """Wait for a stream that the peer opens. Any number of tasks may.

        Raises:
            ConnectionProblem: the tunnel is over.
        """
        try:
            return await self._unaccepted.receive()
        except trio.EndOfChannel:
            raise ConnectionProblem("the tunnel is closed") from self._problem

    def take_streams(self, take: Callable[[MuxStream], None]) -> None:
        """Give the streams that the peer opens to `take` from now on, with what came with them.

        It must not block or raise, and sets the stream's `on_arrival`, to None at least.
        """
        self._take = take
        while True:
            try:
                take(self._unaccepted.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return

    def go_away(self) -> None:
        """Open and take no new streams from now on. Those open go on.

        `run` returns once the peer, having heard of it, has closed the last of them and the
        tunnel; or once it has said the same and the last is closed here.
        """
        self._going_away = True
        self._connection.go_away()
        self._queue()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the tunnel until the peer has gone away and the last stream is closed.

        On every way out all streams are broken and the transport is closed.

        Raises:
            RemoteProtocolError: the peer broke the protocol; it has been told, if it listens.
            ConnectionProblem: the transport broke, or the peer gave no sign of life.
        """
        self.last_heard = self._now()
        try:
            async with open_end(self._transport) as end_point, trio.open_nursery() as nursery:
                self._tasks = nursery.cancel_scope
                self._end_point = end_point
                end_point.on_arrival, end_point.on_room = self._arrived, self._room
                nursery.start_soon(self._serve)
                nursery.start_soon(self._echo)
                task_status.started()
                self._arrived()  # what came before anybody listened
        finally:
            if (served := self._end_point) is not None:
                served.on_arrival = served.on_room = None
                self._end_point = None
            clean = self._over and self._problem is None
            self._over = True
            self._opened.close()
            self._break_streams()
            with trio.move_on_after(LAST_WORDS, shield=True) as closing:
                if not clean:
                    closing.cancel()
                with suppress(trio.BrokenResourceError):
                    await self._transport.aclose()
            self._finished.set()
        if self._bug is not None:
            raise self._bug
        if self._problem is not None:
            raise self._problem

    # --- what comes ------------------------------------------------------------------------

    def _arrived(self) -> None:
        """Take what has come; after so much of it others have their turn first."""
        assert self._end_point is not None, "not yet served"
        receive_nowait = self._end_point.receive_nowait
        for _ in range(TURN):
            if self._over:
                return
            try:
                data = receive_nowait(TUNNEL_WRITE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._broke(error)
                return
            if data is None:
                return
            if not data:
                agreed = self._going_away or self._peer_going_away
                finished = agreed and not self._streams
                self._end(None if finished else ConnectionProblem("the peer closed the tunnel"))
                return
            try:
                self._understand(data)
            except RemoteProtocolError as error:
                self._give_up(error)
                return
            except Exception as error:  # a bug: `run` raises it
                self._bug = error
                self._end(None)
                return
        self._others_first = True
        self._news.wake()

    def _understand(self, data: bytes) -> None:
        self.last_heard = now = self._now()
        streams = self._streams
        for event in self._connection.receive_data(data, now=now):
            if type(event) is DataReceived:  # two of three, and quicker than by a `match`
                if (stream := streams.get(event.stream_id)) is not None:
                    stream._arrived(event.data)
            elif type(event) is StreamEnded:
                if (stream := streams.get(event.stream_id)) is not None:
                    stream._end_arrived()
            else:
                self._handle(event, now)
        if self._stirred:
            self._tell()
        if self._connection.has_urgent:
            self._queue()

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case StreamOpened(stream_id):
                self._offer(stream_id)
            case CreditReceived(stream_id):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream._room_came()
            case StreamReset(stream_id):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream._break()
            case PongReceived(value):
                self._life.answered(value, now)
            case GoneAway(code) if code == NORMAL:
                self._peer_going_away = True
                self._end_if_finished()
            case GoneAway(code):
                said = "protocol error" if code == PROTOCOL_ERROR else "internal error"
                self._end(ConnectionProblem(f"the peer gave up the tunnel: {said}"))

    def _tell(self) -> None:
        """Tell those for whom something has come."""
        stirred, self._stirred = self._stirred, {}
        for stream in stirred:
            if stream.on_arrival is not None:
                try:
                    stream.on_arrival()
                except Exception:  # of one request: the others in this tunnel are none the worse
                    logger.exception("what came on a stream could not be handled")
                    stream.reset()

    def _offer(self, stream_id: int) -> None:
        """Hand a stream that the peer opened to `accept`, or refuse it."""
        if (window := self._connection.receive_window(stream_id)) is None:
            return  # it was reset in the same breath
        if len(self._streams) >= self._max_taken:
            self._connection.reset(stream_id)  # too many that are over and not yet closed here
            return
        stream = self._streams[stream_id] = MuxStream(self, stream_id, window)
        if self._take is not None:
            stream.on_arrival = partial(self._take, stream)
            self._stirred[stream] = None
            return
        try:
            self._opened.send_nowait(stream)
        except trio.WouldBlock:
            stream.reset()

    # --- what is sent ----------------------------------------------------------------------

    def _queue(self) -> None:
        """Something is to be sent: with all else that the sockets' news lead to, or by the task."""
        if not self._is_due:
            self._is_due = True
            if self._ready is None or not self._ready.at_end(self._flush):
                self._news.wake()

    def _flush(self) -> None:
        """Send what is due, as far as the transport takes it; more than so much by the task."""
        try:
            self._send_due()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._broke(error)
        except Exception as error:  # a bug: `run` raises it
            self._bug = error
            self._end(None)

    def _send_due(self) -> None:
        connection, streams, end_point = self._connection, self._streams, self._end_point
        if end_point is None or self._blocked:
            self._is_due = end_point is None
            return
        for _ in range(TURN):
            data = connection.data_to_send()
            # Before the write, so that those who refill the queue do it meanwhile.
            for stream_id in connection.moved:
                stream = streams.get(stream_id)
                if stream is not None and (stream._sender or stream.on_room) is not None:
                    stream._room_came()
            if self._crowded and connection.queued < TUNNEL_QUEUE // 2:
                crowded, self._crowded = self._crowded, set()
                for stream in crowded:
                    stream._room_came()
            if not data:
                self._is_due = False
                if self._over:
                    self._tasks.cancel()
                return
            self._blocked = not end_point.send_nowait(data)
            if self._blocked:
                self._is_due = False
                return
        self._news.wake()

    def _room(self) -> None:
        """The transport may take more."""
        if not self._blocked or self._end_point is None:
            return
        try:
            self._blocked = not self._end_point.send_nowait(b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._broke(error)
            return
        if not self._blocked:
            self._is_due = True
            self._flush()

    # --- the two tasks ---------------------------------------------------------------------

    async def _serve(self) -> NoReturn:
        """Do what nobody does by the way: what others were to have their turn before."""
        while True:
            if self._is_due or self._others_first:
                await trio.lowlevel.checkpoint()
            else:
                await self._news.wait()
            if self._others_first:
                self._others_first = False
                self._arrived()
            if self._is_due:
                self._flush()

    async def _echo(self) -> NoReturn:
        life = self._life
        while True:
            now = self._now()
            # Of the one stream that is always open both ends tell each other what is new.
            match life.look(now, self.last_heard, at_rest=len(self._streams) <= 1):
                case "dead":
                    self._end(
                        ConnectionProblem(
                            f"no sign of life from the peer for {self._echo_deadline:g} s"
                        )
                    )
                    await trio.sleep_forever()
                case "ask":
                    life.asked(self._connection.ping(), now)
                    self._queue()
            await trio.sleep_until(life.due)

    # --- endings ---------------------------------------------------------------------------

    def _broke(self, error: Exception) -> None:
        self._end(ConnectionProblem(f"the tunnel broke: {str(error) or 'connection lost'}"))

    def _end(self, problem: ConnectionProblem | None) -> None:
        """Stop at once: there is nobody to write to."""
        self._over = True
        if self._problem is None:
            self._problem = problem
        self._tasks.cancel()

    def _give_up(self, problem: RemoteProtocolError) -> None:
        """Tell the peer that it broke the protocol, if it listens within a second, and stop."""
        self._problem = problem
        self._connection.go_away(PROTOCOL_ERROR)
        self._over = True
        self._break_streams()
        self._tasks.deadline = self._now() + LAST_WORDS
        self._queue()

    def _break_streams(self) -> None:
        for stream in self._streams.values():
            stream._break()
        self._tell()

    def _end_if_finished(self) -> None:
        """Once the peer has gone away and no stream is left, send what is queued and stop."""
        if self._peer_going_away and not self._streams and not self._over:
            self._over = True
            self._tasks.deadline = self._now() + self._echo_deadline
            self._queue()

    # --- for MuxStream ---------------------------------------------------------------------

    def _send_room(self, stream_id: int) -> int:
        if self._connection.queued >= TUNNEL_QUEUE:
            return 0
        return self._connection.send_room(stream_id)

    def _send(self, stream_id: int, data: bytes | memoryview) -> None:
        self._connection.send(stream_id, data)
        self._queue()

    def _note_crowded(self, stream: MuxStream) -> None:
        if self._connection.queued >= TUNNEL_QUEUE:
            self._crowded.add(stream)

    def _send_whole(self, stream_id: int, data: bytes, *, last: bool) -> bool:
        connection = self._connection
        if connection.queued >= TUNNEL_QUEUE:
            return False
        if connection.send_whole(stream_id, data, last=last):
            self._queue()
            return True
        return False

    def _end_stream(self, stream_id: int) -> None:
        self._connection.end(stream_id)
        self._queue()

    def _grant(self, stream_id: int, window: ReceiveWindow) -> None:
        credit = window.grant(now=self._now(), rtt=self._life.rtt)
        self._connection.grant(stream_id, credit)
        self._queue()

    def _close_stream(self, stream_id: int, *, cut: bool) -> None:
        stream = self._streams.pop(stream_id)
        if self._crowded:
            self._crowded.discard(stream)
        if cut:
            self._connection.reset(stream_id)
        else:
            self._connection.close(stream_id)
        self._queue()
        if self._peer_going_away:
            self._end_if_finished()
