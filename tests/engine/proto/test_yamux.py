"""yamux without a network: what frames mean, what is refused, what is owed."""

from __future__ import annotations

import pytest

from tport.engine.defaults import INITIAL_WINDOW, MAX_STREAM_QUEUE, READ_SIZE, TUNNEL_WRITE
from tport.engine.errors import ConnectionProblem, LimitExceeded
from tport.engine.proto.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    MAX_FRAME,
    MAX_ID,
    MAX_PASSED_OVER,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
    Connection,
)
from tport.engine.proto.yamux_events import (
    CreditReceived,
    DataReceived,
    GoneAway,
    PongReceived,
    StreamEnded,
    StreamOpened,
    StreamReset,
)


def frame(kind: int, flags: int, stream_id: int, payload: bytes | int = 0) -> bytes:
    if isinstance(payload, int):
        return HEADER.pack(0, kind, flags, stream_id, payload)
    return HEADER.pack(0, kind, flags, stream_id, len(payload)) + payload


def frames(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return (type, flags, stream id, length) of each frame in `data`, which holds whole ones."""
    found = []
    position = 0
    while position < len(data):
        _, kind, flags, stream_id, length = HEADER.unpack_from(data, position)
        position += HEADER.size + (length if kind == DATA else 0)
        found.append((kind, flags, stream_id, length))
    assert position == len(data)
    return found


def everything_from(connection: Connection) -> bytes:
    sent = b""
    while data := connection.data_to_send():
        assert len(data) < 128 * 1024
        sent += data
    return sent


def pair() -> tuple[Connection, Connection]:
    return Connection(client=True, peer_may_open=False), Connection(client=False)


# --- what frames mean ------------------------------------------------------------------------


def test_a_ping_is_answered_with_its_own_value() -> None:
    connection = Connection(client=False)

    assert connection.receive_data(frame(PING, SYN, 0, 42)) == []
    assert connection.data_to_send() == frame(PING, ACK, 0, 42)


def test_a_pong_names_the_ping_it_answers() -> None:
    client, server = pair()

    value = client.ping()
    server.receive_data(client.data_to_send())

    assert client.receive_data(server.data_to_send()) == [PongReceived(value)]


def test_a_stream_opens_carries_data_both_ways_and_is_forgotten_after_both_ends() -> None:
    client, server = pair()

    stream = client.open_stream()
    client.send(stream, b"question")
    client.end(stream)
    assert server.receive_data(everything_from(client)) == [
        StreamOpened(stream),
        DataReceived(stream, b"question"),
        StreamEnded(stream),
    ]
    server.send(stream, b"answer")
    server.end(stream)
    assert client.receive_data(everything_from(server)) == [
        DataReceived(stream, b"answer"),
        StreamEnded(stream),
    ]

    assert client.stream_count == server.stream_count == 0


def test_opening_rides_on_the_first_data_and_the_end_travels_alone() -> None:
    """hashicorp's reader may take a stream for empty when FIN is on the DATA frame itself."""
    connection = Connection(client=True)
    stream = connection.open_stream()
    connection.send(stream, b"abc")
    connection.end(stream)

    assert frames(connection.data_to_send()) == [
        (DATA, SYN, stream, 3),
        (WINDOW_UPDATE, FIN, stream, 0),
    ]


def test_an_opened_stream_is_announced_even_if_nothing_is_sent_on_it() -> None:
    client, server = pair()

    stream = client.open_stream()

    assert server.receive_data(client.data_to_send()) == [StreamOpened(stream)]


def test_payload_is_passed_on_before_its_frame_is_complete() -> None:
    connection = Connection(client=False)
    whole = frame(DATA, SYN, 1, b"x" * INITIAL_WINDOW)

    events = connection.receive_data(whole[: HEADER.size + 5])

    assert events == [StreamOpened(1), DataReceived(1, b"xxxxx")]


def test_the_end_that_a_data_frame_carries_comes_after_its_last_byte() -> None:
    connection = Connection(client=False)
    whole = frame(DATA, SYN | FIN, 1, b"abc")

    assert connection.receive_data(whole[:-1]) == [StreamOpened(1), DataReceived(1, b"ab")]
    assert connection.receive_data(whole[-1:]) == [DataReceived(1, b"c"), StreamEnded(1)]


def test_a_frame_that_resets_is_no_clean_end_whatever_else_it_carries() -> None:
    connection = Connection(client=False)
    connection.receive_data(frame(DATA, SYN, 1, b"a"))

    assert connection.receive_data(frame(DATA, FIN | RST, 1, b"b")) == [StreamReset(1)]


def test_the_peer_hears_of_a_reset_and_late_frames_for_the_stream_are_ignored() -> None:
    client, server = pair()
    stream = client.open_stream()
    server.receive_data(client.data_to_send())
    client.reset(stream)

    server.send(stream, b"too late")
    server.end(stream)
    late = everything_from(server)

    assert server.receive_data(client.data_to_send()) == [StreamReset(stream)]
    assert client.receive_data(late) == []
    assert client.receive_data(frame(WINDOW_UPDATE, 0, stream, 7)) == []
    assert client.stream_count == server.stream_count == 0


def test_a_stream_reset_in_the_middle_of_a_frame_gets_no_more_of_it() -> None:
    client, server = pair()
    stream = client.open_stream()
    server.receive_data(client.data_to_send())
    server.send(stream, b"0123456789")
    data = everything_from(server)
    client.receive_data(data[:-4])

    client.reset(stream)

    assert client.receive_data(data[-4:]) == []


def test_a_stream_reset_before_it_was_announced_was_never_there() -> None:
    connection = Connection(client=True)
    stream = connection.open_stream()
    connection.send(stream, b"abc")

    connection.reset(stream)

    assert connection.data_to_send() == b""
    assert connection.queued == 0


def test_closing_early_ends_our_side_cleanly_and_stops_the_peer() -> None:
    """What was sent arrives whole, its end too; only the other direction is cut."""
    client, server = pair()
    stream = client.open_stream()
    server.receive_data(client.data_to_send())
    server.send(stream, b"answer")

    server.close(stream)

    assert client.receive_data(everything_from(server)) == [
        DataReceived(stream, b"answer"),
        StreamEnded(stream),
        StreamReset(stream),
    ]
    assert client.stream_count == server.stream_count == 0


def test_closing_after_our_end_has_left_resets_what_the_peer_still_sends() -> None:
    client, server = pair()
    stream = client.open_stream()
    client.end(stream)
    server.receive_data(client.data_to_send())

    client.close(stream)

    assert server.receive_data(client.data_to_send()) == [StreamReset(stream)]


def test_go_away_does_not_overtake_the_opening_of_a_stream() -> None:
    client, server = pair()
    stream = client.open_stream()
    client.go_away()
    client.go_away()

    assert server.receive_data(everything_from(client)) == [StreamOpened(stream), GoneAway(NORMAL)]


def test_after_go_away_the_peers_new_streams_are_reset() -> None:
    client, server = pair()
    server.go_away()
    stream = client.open_stream()

    assert server.receive_data(client.data_to_send()) == []
    assert client.receive_data(everything_from(server)) == [StreamReset(stream), GoneAway(NORMAL)]


def test_giving_up_says_so_and_nothing_else() -> None:
    client, _ = pair()
    client.send(client.open_stream(), b"x")
    client.ping()

    client.go_away(PROTOCOL_ERROR)

    assert everything_from(client) == frame(GO_AWAY, 0, 0, PROTOCOL_ERROR)


def test_whoever_gave_up_can_still_let_go_of_each_stream() -> None:
    client, _ = pair()
    stream = client.open_stream()
    client.send(stream, b"x")

    client.go_away(PROTOCOL_ERROR)
    client.reset(stream)

    assert everything_from(client) == frame(GO_AWAY, 0, 0, PROTOCOL_ERROR)


def test_openings_may_arrive_out_of_order() -> None:
    """hashicorp's OpenStream, called by many at once, sends them so; an id still counts once."""
    connection = Connection(client=False)

    events = connection.receive_data(b"".join(frame(WINDOW_UPDATE, SYN, i) for i in (5, 1, 7, 3)))

    assert events == [StreamOpened(5), StreamOpened(1), StreamOpened(7), StreamOpened(3)]
    assert not connection._passed_over


def test_of_ids_passed_over_only_the_last_are_remembered() -> None:
    connection = Connection(client=False)
    for i in range(1, 2**32 - 1, 2**25):
        connection.receive_data(frame(WINDOW_UPDATE, SYN, i) + frame(WINDOW_UPDATE, RST, i))

    assert len(connection._passed_over) == MAX_PASSED_OVER


def test_a_stream_opened_and_reset_in_one_breath_has_no_window_left() -> None:
    connection = Connection(client=False)

    events = connection.receive_data(frame(DATA, SYN, 1, b"a") + frame(WINDOW_UPDATE, RST, 1))

    assert events == [StreamOpened(1), DataReceived(1, b"a"), StreamReset(1)]
    assert connection.receive_window(1) is None


# --- sending ---------------------------------------------------------------------------------


def test_streams_take_turns_of_one_frame() -> None:
    connection = Connection(client=True)
    bulk, other, small = (connection.open_stream() for _ in range(3))
    connection.send(bulk, b"a" * 2 * MAX_FRAME)
    connection.send(other, b"b" * 2 * MAX_FRAME)
    connection.send(small, b"c")

    order = [(stream, length) for _, _, stream, length in frames(everything_from(connection))]

    assert order == [
        (bulk, MAX_FRAME),
        (other, MAX_FRAME),
        (small, 1),
        (bulk, MAX_FRAME),
        (other, MAX_FRAME),
    ]


def test_a_piece_of_who_is_alone_fills_one_write_and_so_do_the_turns_of_two() -> None:
    """To the byte: a crumb more would be a TLS record, a read and a send by itself."""
    connection = Connection(client=True)
    bulk, other = connection.open_stream(), connection.open_stream()
    connection.send(bulk, b"a")
    connection.send(other, b"b")
    everything_from(connection)

    connection.send(bulk, bytes(READ_SIZE))
    assert frames(alone := connection.data_to_send()) == [(DATA, 0, bulk, READ_SIZE)]
    assert len(alone) == TUNNEL_WRITE
    assert connection.data_to_send() == b""

    connection.send(bulk, bytes(READ_SIZE))
    connection.send(other, bytes(READ_SIZE))
    turns = connection.data_to_send()
    assert [stream for _, _, stream, _ in frames(turns)] == [bulk, other]
    assert len(turns) == TUNNEL_WRITE


def test_small_pieces_leave_in_one_frame() -> None:
    connection = Connection(client=True)
    stream = connection.open_stream()
    connection.send(stream, b"head")
    connection.send(stream, b"body")

    assert connection.data_to_send() == frame(DATA, SYN, stream, b"headbody")


def test_no_more_is_taken_than_the_peer_has_granted() -> None:
    connection = Connection(client=True)
    stream = connection.open_stream()
    sent = 0
    while room := connection.send_room(stream):
        assert room <= MAX_STREAM_QUEUE
        connection.send(stream, bytes(room))
        everything_from(connection)
        assert connection.moved == []
        sent += room

    assert sent == INITIAL_WINDOW
    with pytest.raises(ValueError, match="cannot take 1 bytes"):
        connection.send(stream, b"x")
    assert connection.receive_data(frame(WINDOW_UPDATE, 0, stream, 10)) == [CreditReceived(stream)]
    assert connection.send_room(stream) == 10


def test_each_write_names_the_streams_that_may_queue_more() -> None:
    connection = Connection(client=True)
    stream = connection.open_stream()
    connection.send(stream, b"x")

    connection.data_to_send()

    assert connection.moved == [stream]


def test_window_updates_that_wait_become_one() -> None:
    client, server = pair()
    stream = client.open_stream()
    server.receive_data(client.data_to_send())
    server.data_to_send()

    for _ in range(1000):
        server.grant(stream, 3)

    assert frames(server.data_to_send()) == [(WINDOW_UPDATE, 0, stream, 3000)]


def test_the_stream_after_the_last_is_refused() -> None:
    connection = Connection(client=True, max_streams=2)
    connection.open_stream()
    connection.open_stream()

    with pytest.raises(LimitExceeded, match="2 streams are open"):
        connection.open_stream()


def test_the_peers_stream_after_the_last_is_reset() -> None:
    connection = Connection(client=False, max_streams=1)
    assert connection.receive_data(frame(WINDOW_UPDATE, SYN, 1)) == [StreamOpened(1)]

    assert connection.receive_data(frame(DATA, SYN, 3, b"ignored")) == []

    assert (WINDOW_UPDATE, RST, 3, 0) in frames(connection.data_to_send())


def test_when_all_ids_are_used_a_new_connection_is_needed() -> None:
    connection = Connection(client=True)
    connection._next_id = MAX_ID
    assert connection.open_stream() == MAX_ID

    with pytest.raises(ConnectionProblem, match="every stream id"):
        connection.open_stream()
