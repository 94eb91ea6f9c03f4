"""yamux of any bytes, cut anywhere, and of two sides that do whatever they like."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from tport.engine.defaults import INITIAL_WINDOW
from tport.engine.errors import LimitExceeded, RemoteProtocolError
from tport.engine.proto.receive_window import ReceiveWindow, WindowBudget
from tport.engine.proto.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Connection,
)
from tport.engine.proto.yamux_events import (
    DataReceived,
    Event,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

HEADERS = st.builds(
    HEADER.pack,
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]),
    st.sampled_from([DATA, DATA, WINDOW_UPDATE, PING, GO_AWAY, 4]),
    st.sampled_from([0, SYN, SYN, ACK, FIN, RST, SYN | FIN, SYN | ACK, FIN | RST, 16]),
    st.sampled_from([0, 1, 1, 2, 3, 5, 2**32 - 1]),
    st.sampled_from([0, 1, 2, 5, 64, INITIAL_WINDOW, INITIAL_WINDOW + 1, 2**31, 2**32 - 1]),
)
WIRE = st.lists(st.one_of(HEADERS, st.binary(max_size=64)), max_size=12).map(b"".join)


def outcome(connection: Connection, pieces: list[bytes]) -> tuple[list[Event], str]:
    """Return the events with neighbouring data joined, and the error, if any."""
    events: list[Event] = []
    error = ""
    try:
        for piece in pieces:
            for event in connection.receive_data(piece):
                match event, events[-1:]:
                    case DataReceived(i, data), [DataReceived(j, before)] if i == j:
                        events[-1] = DataReceived(i, before + data)
                    case _:
                        events.append(event)
    except RemoteProtocolError as problem:
        error = str(problem)
    return events, error


@settings(max_examples=500)
@given(data=WIRE, cuts=st.lists(st.integers(0, 400)), client=st.booleans())
def test_bytes_mean_the_same_wherever_the_network_cuts_them(
    data: bytes, cuts: list[int], client: bool
) -> None:
    """And nothing but RemoteProtocolError comes of any bytes."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]

    events, error = outcome(Connection(client=client), [data])
    cut_events, cut_error = outcome(Connection(client=client), pieces)

    assert cut_error == error
    if error:  # events of the chunk in which it came are lost with the connection
        assert events == []
    else:
        assert cut_events == events


# --- two connections that talk ---------------------------------------------------------------------


def window_of(connection: Connection, stream: int) -> ReceiveWindow:
    window = connection.receive_window(stream)
    assert window is not None
    return window


class Conversation(RuleBasedStateMachine):
    """Whatever two sides do: bytes arrive in order, none beyond the credit, ends are told truly."""

    streams = Bundle("streams")

    @initialize()
    def start(self) -> None:
        self.sides = {
            "client": Connection(client=True, max_streams=5),
            "server": Connection(client=False, max_streams=5),
        }
        self.wire = {"client": bytearray(), "server": bytearray()}  # on its way to
        self.sent: dict[tuple[str, int], bytearray] = defaultdict(bytearray)
        self.got: dict[tuple[str, int], bytearray] = defaultdict(bytearray)
        self.unread: dict[tuple[str, int], int] = defaultdict(int)
        self.windows: dict[tuple[str, int], ReceiveWindow] = {}
        self.ended: set[tuple[str, int]] = set()
        self.told_ended: set[tuple[str, int]] = set()
        self.over: set[tuple[str, int]] = set()
        self.now = 0.0

    @rule(target=streams, side=st.sampled_from(["client", "server"]))
    def open(self, side: str) -> tuple[str, int]:
        connection = self.sides[side]
        try:
            stream = connection.open_stream(now=self.now)
        except LimitExceeded:
            assert connection.stream_count == 5
            return (side, 0)
        self.windows[side, stream] = window_of(connection, stream)
        return (side, stream)

    def here(self, key: tuple[str, int], far: bool) -> tuple[str, int]:
        side, stream = key
        return (self.other(side), stream) if far else (side, stream)

    @staticmethod
    def other(side: str) -> str:
        return "server" if side == "client" else "client"

    @rule(key=streams, far=st.booleans(), size=st.integers(1, 300_000), byte=st.integers(0, 255))
    def send(self, key: tuple[str, int], far: bool, size: int, byte: int) -> None:
        key = self.here(key, far)
        side, stream = key
        if key not in self.windows or key in self.ended or key in self.over:
            return
        data = bytes([byte]) * min(size, max(0, self.sides[side].send_room(stream)))
        self.sides[side].send(stream, data)
        self.sent[key] += data

    @rule(key=streams, far=st.booleans())
    def end(self, key: tuple[str, int], far: bool) -> None:
        key = self.here(key, far)
        if key in self.windows and key not in self.over:
            self.sides[key[0]].end(key[1])
            self.ended.add(key)

    @rule(key=consumes(streams), far=st.booleans(), cut=st.booleans())
    def close(self, key: tuple[str, int], far: bool, cut: bool) -> None:
        key = self.here(key, far)
        if key in self.windows and key not in self.over:
            if cut:
                self.sides[key[0]].reset(key[1])
            else:
                self.sides[key[0]].close(key[1])
                self.ended.add(key)
            self.windows[key].release()
            self.over.add(key)

    @rule(key=streams, far=st.booleans(), size=st.integers(1, 300_000))
    def read(self, key: tuple[str, int], far: bool, size: int) -> None:
        key = self.here(key, far)
        size = min(size, self.unread[key])
        if size and key not in self.over:
            self.unread[key] -= size
            if self.windows[key].consume(size):
                credit = self.windows[key].grant(now=self.now, rtt=0.1)
                self.sides[key[0]].grant(key[1], credit)

    @rule(seconds=st.floats(0, 0.3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(side=st.sampled_from(["client", "server"]))
    def ping(self, side: str) -> None:
        self.sides[side].ping()

    @rule(side=st.sampled_from(["client", "server"]))
    def write(self, side: str) -> None:
        self.wire[self.other(side)] += self.sides[side].data_to_send()

    @rule(side=st.sampled_from(["client", "server"]), size=st.integers(1, 200_000))
    def deliver(self, side: str, size: int) -> None:
        wire = self.wire[side]
        data = bytes(wire[:size])
        del wire[:size]
        for event in self.sides[side].receive_data(data, now=self.now):  # never raises
            match event:
                case StreamOpened(stream):
                    if (window := self.sides[side].receive_window(stream)) is None:
                        window = ReceiveWindow(WindowBudget(), now=0)  # reset at once
                    self.windows[side, stream] = window
                case DataReceived(stream, piece):
                    self.got[side, stream] += piece
                    self.unread[side, stream] += len(piece)
                case StreamEnded(stream):
                    sender = (self.other(side), stream)
                    assert sender in self.ended
                    assert self.got[side, stream] == self.sent[sender]
                case StreamReset(stream):
                    self.over.add((side, stream))
                    self.windows[side, stream].release()

    @invariant()
    def bytes_arrive_in_order_and_within_the_window(self) -> None:
        for (side, stream), got in getattr(self, "got", {}).items():
            assert self.sent[self.other(side), stream].startswith(got)
            window = self.windows[side, stream]
            assert self.unread[side, stream] <= window.size or (side, stream) in self.over
            assert window.credit >= 0

    def teardown(self) -> None:
        """In the end all that was queued gets through, and all growth is given back."""
        if not hasattr(self, "sides"):
            return
        for _ in range(100):
            for side in self.sides:
                self.write(side)
                self.deliver(side, 10_000_000)
        assert [connection.queued for connection in self.sides.values()] == [0, 0]
        for window in self.windows.values():
            window.release()
        assert {c._budget.left for c in self.sides.values()} == {WindowBudget().left}


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=50)
