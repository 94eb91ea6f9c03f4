"""Connections by address and in all: who has to go when there are too many."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tport.engine.defaults import LATELY, TURN_DEADLINE
from tport.engine.net.seats import LOOKED_AT, Room, Seat, Seats, closed_by

ROOM = Room(connections=6, per_address=4, strangers=3, strangers_per_address=2)


class Clients:
    """Opens connections and knows which of them were ended."""

    def __init__(self, room: Room = ROOM, shared: str = "") -> None:
        self.now = 0.0
        self.seats = Seats(
            room, is_shared=lambda address: address == shared, clock=lambda: self.now
        )
        self.ended: list[str] = []

    def come(self, name: str, address: str, *, rests: bool = True, known: bool = False) -> bool:
        seat = self.seats.take(address)
        if seat is None:
            return False
        if rests:
            seat.end_if_resting = closed_by(lambda: self.ended.append(name))
        if known:
            seat.recognise()
        return True

    @property
    def shed(self) -> Counter[str]:
        return self.seats.shed


def test_of_an_address_that_holds_connections_the_oldest_goes_and_nobody_elses() -> None:
    """DOS-01."""
    clients = Clients()
    clients.come("other", "192.0.2.9")

    for number in range(5):
        assert clients.come(f"held {number}", "192.0.2.1")

    assert clients.ended == ["held 0", "held 1", "held 2"]
    assert clients.shed == {"resting": 3}
    assert len(clients.seats) == 3


def test_an_address_whose_many_come_at_once_loses_none_of_them_until_they_had_their_time() -> None:
    """DOS-01: else an office whose proxy was restarted gets through no handshake at all."""
    clients = Clients(
        Room(connections=99, per_address=9, strangers=50, strangers_per_address=2, grace=5)
    )
    for number in range(4):
        assert clients.come(f"young {number}", "192.0.2.1")
    assert clients.ended == []

    clients.now += 5
    clients.come("late", "192.0.2.1")
    assert clients.ended == ["young 0"]


def test_an_address_whose_many_come_at_once_has_no_more_than_its_share_all_the_same() -> None:
    """DOS-01."""
    clients = Clients(
        Room(connections=99, per_address=4, strangers=50, strangers_per_address=2, grace=5)
    )
    for number in range(6):
        assert clients.come(f"young {number}", "192.0.2.1")
    assert clients.ended == ["young 0", "young 1"]


def test_when_strangers_fill_their_room_the_oldest_of_them_goes() -> None:
    """DOS-01."""
    clients = Clients()
    clients.come("known", "192.0.2.1", known=True)

    for number in range(5):
        assert clients.come(f"stranger {number}", f"192.0.2.{number + 10}")

    assert clients.ended == ["stranger 0", "stranger 1"]
    assert clients.seats.strangers == 3


def test_of_the_oldest_strangers_one_of_the_address_that_holds_most_goes_first() -> None:
    """DOS-01: a burst from few addresses ends none who has just come alone, though it came before."""
    room = Room(connections=100, per_address=100, strangers=8, strangers_per_address=50)
    clients = Clients(room)
    clients.come("alone", "192.0.2.9")

    for number in range(20):
        assert clients.come(f"held {number}", f"192.0.2.{number % 2}")

    assert "alone" not in clients.ended
    assert clients.ended[:2] == ["held 0", "held 1"]


def test_who_is_at_work_is_not_ended_and_a_newcomer_finds_no_room() -> None:
    clients = Clients()

    for number in range(2):
        assert clients.come(f"busy {number}", "192.0.2.1", rests=False)
    assert not clients.come("late", "192.0.2.1")
    assert clients.come("elsewhere", "192.0.2.2", rests=False)
    assert not clients.come("too many strangers", "192.0.2.3")

    assert clients.ended == []
    assert clients.shed == {"address": 1, "connections": 1}


def test_when_all_is_full_a_stranger_goes_before_anybody_who_is_known() -> None:
    clients = Clients()
    for number in range(5):
        clients.come(f"known {number}", f"192.0.2.{number}", known=True)
    clients.come("stranger", "192.0.2.50")

    assert clients.come("first", "192.0.2.60", known=True)
    assert clients.ended == ["stranger"]
    assert clients.come("second", "192.0.2.61", known=True)
    assert clients.ended == ["stranger", "known 0"]


def test_an_address_has_its_share_of_those_who_are_known_too() -> None:
    clients = Clients()
    for number in range(4):
        assert clients.come(f"busy {number}", "192.0.2.1", rests=False, known=True)

    assert not clients.come("fifth", "192.0.2.1")
    assert clients.come("elsewhere", "192.0.2.2")


def test_addresses_of_one_subscriber_are_one() -> None:
    clients = Clients()

    for number in range(3):
        clients.come(f"held {number}", f"2001:db8:0:1::{number}")
    clients.seats.take("2001:db8:0:2::1")

    assert clients.ended == ["held 0"]
    mapped, plain = clients.seats.take("::ffff:192.0.2.1"), clients.seats.take("192.0.2.1")
    assert mapped is not None
    assert plain is not None
    assert mapped.address == plain.address


def test_behind_a_load_balancer_many_clients_share_one_address_and_no_share() -> None:
    clients = Clients(shared="192.0.2.1")

    for number in range(3):
        assert clients.come(f"client {number}", "192.0.2.1", rests=False)

    assert clients.ended == []


def test_whose_address_is_told_late_is_counted_under_that_one() -> None:
    clients = Clients(shared="10.0.0.1")
    clients.come("held", "192.0.2.1", rests=False)
    clients.come("held too", "192.0.2.1", rests=False)
    late = clients.seats.take("10.0.0.1")
    assert late is not None

    assert not late.belongs_to("192.0.2.1")
    assert late.belongs_to("192.0.2.2")
    assert late.address == "192.0.2.2"
    assert clients.shed == {"address": 1}


def test_a_seat_is_given_up_once() -> None:
    seats = Seats(ROOM)
    seat = seats.take("192.0.2.1")
    assert seat is not None

    seat.leave()
    seat.leave()
    seat.recognise()

    assert len(seats) == 0
    assert not seat.belongs_to("192.0.2.2")


def test_a_newcomer_costs_a_few_looks_however_many_are_at_work() -> None:
    asked = 0

    def at_work() -> bool:
        nonlocal asked
        asked += 1
        return False

    room = Room(connections=1000, per_address=1000, strangers=1000, strangers_per_address=1000)
    seats = Seats(room)
    for _ in range(1000):
        seat = seats.take("192.0.2.1")
        assert seat is not None
        seat.end_if_resting = at_work

    assert seats.take("192.0.2.2") is None
    assert asked <= 2 * LOOKED_AT


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "leave", "know", "move"]), st.integers(0, 5)),
        max_size=60,
    )
)
def test_whatever_happens_the_counts_are_those_of_the_seats_that_are_taken(
    steps: list[tuple[str, int]],
) -> None:
    seats = Seats(ROOM)
    held: list[Seat] = []
    for what, number in steps:
        if what == "take":
            if (seat := seats.take(f"192.0.2.{number}")) is not None:
                seat.end_if_resting = closed_by(lambda: None)
                held.append(seat)
        elif held:
            seat = held[number % len(held)]
            match what:
                case "leave":
                    seat.leave()
                case "know":
                    seat.recognise()
                case _:
                    seat.belongs_to(f"192.0.2.{number}")
        taken = [seat for seat in held if seat.is_taken]
        assert len(seats) == len(taken) <= ROOM.connections
        assert seats.strangers == sum(not seat.is_known for seat in taken) <= ROOM.strangers
        by_address = Counter(seat.address for seat in taken)
        assert max(by_address.values(), default=0) <= ROOM.per_address


PACED = Room(
    connections=999,
    per_address=999,
    strangers=999,
    strangers_per_address=2,
    grace=60,
    new_per_address=10,
)


def seated(clients: Clients, count: int, address: str = "192.0.2.1") -> list[Seat]:
    """Have so many come, who all find a seat."""
    seats = [clients.seats.take(address) for _ in range(count)]
    return [seat for seat in seats if seat is not None]


def due(seats: list[Seat]) -> list[bool]:
    return [seat.is_due for seat in seats]


def test_more_strangers_a_second_than_an_address_may_send_wait_for_their_turn() -> None:
    """DOS-01: what costs CPU is the handshake, which is begun when the seat is due."""
    clients = Clients(PACED)
    seats = seated(clients, 4)

    assert due(seats) == [True, True, False, False]
    assert due(seated(clients, 1, "192.0.2.2")) == [True]
    clients.now += 0.1
    assert due(seats) == [True, True, True, False]


def test_who_would_wait_too_long_for_a_turn_is_turned_away_and_ends_nobody() -> None:
    """DOS-01."""
    clients = Clients(PACED)
    room = 2 + round(TURN_DEADLINE * 10)
    came = [clients.come(f"{number}", "192.0.2.1") for number in range(room + 5)]

    assert came == [True] * room + [False] * 5
    assert clients.shed == {"pace": 5}
    assert clients.ended == []


def test_an_address_of_somebody_who_is_known_waits_for_no_turn_and_stays_so_for_a_while() -> None:
    clients = Clients(PACED)
    seats = seated(clients, 4)
    assert due(seats)[-1] is False
    seats[0].recognise()
    assert due(seats)[-1] is True, "it waited, and may go now"
    for seat in seats:
        seat.leave()

    clients.now += LATELY - 1
    assert due(seated(clients, 20)) == [True] * 20
    clients.now += 1
    assert due(seated(clients, 3)) == [True, True, False]


def test_as_long_as_somebody_known_is_connected_their_address_waits_for_no_turn() -> None:
    clients = Clients(PACED)
    seated(clients, 1)[0].recognise()
    clients.now += 10 * LATELY
    assert due(seated(clients, 60)) == [True] * 60


def test_who_is_handed_on_is_no_stranger_here_and_has_nobody_trusted() -> None:
    """Anybody may ask for auth: nothing was shown by that."""
    clients = Clients(PACED)
    [seat] = seated(clients, 1)
    seat.hand_on()
    assert clients.seats.strangers == 0
    assert due(seated(clients, 3)) == [True, False, False]
    seat.leave()
    assert due(seated(clients, 3)) == [False] * 3


def test_an_address_is_trusted_for_a_while_after_the_last_who_was_known_has_left() -> None:
    """A network that loses all of its connections has them back at once, however long they stood."""
    clients = Clients(PACED)
    [seat] = seated(clients, 1)
    seat.recognise()
    clients.now += 10 * LATELY
    seat.leave()
    clients.now += LATELY - 1
    assert due(seated(clients, 20)) == [True] * 20


def test_a_connection_waits_for_the_turn_of_the_address_that_its_balancer_tells() -> None:
    clients = Clients(PACED, shared="10.0.0.1")
    seats = seated(clients, 9, "10.0.0.1")
    assert due(seats) == [True] * 9
    assert not any(seat.is_paced for seat in seats)

    assert [seat.belongs_to("192.0.2.1") for seat in seats] == [True] * 9
    assert due(seats) == [True, True] + [False] * 7
    assert all(seat.is_paced for seat in seats)
