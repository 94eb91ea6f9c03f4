"""What the load generators say, and what they are told."""

from __future__ import annotations

from bench.h2load import Waits, read_log
from bench.websockets import frame
from bench.wrk import taking_turns


def test_a_percentile_is_the_nearest_rank() -> None:
    waits = Waits(tuple(float(number) for number in range(1, 201)))
    assert waits.percentile(99) == 198.0
    assert waits.percentile(50) == 100.0
    assert Waits((7.0,)).percentile(99) == 7.0


def test_of_a_log_good_answers_count_in_milliseconds() -> None:
    assert read_log(["1\t200\t2500", "2\t502\t100", "3\t200\t1000"]).each == (1.0, 2.5)


def test_a_clients_message_is_masked_and_a_servers_is_not() -> None:
    assert frame(b"Hello") == b"\x81\x05Hello"
    masked = bytes.fromhex("8185 37fa213d 7f9f4d5158")  # RFC 6455 §5.7
    assert frame(b"Hello", bytes.fromhex("37fa213d")) == masked


def test_requests_take_turns_among_cookies() -> None:
    script = taking_turns(["a=1", "a=2"])
    assert '"a=1",\n  "a=2"' in script
    assert "cookies[count % #cookies + 1]" in script
