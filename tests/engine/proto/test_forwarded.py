"""HTTP-14: whose word counts as to who a client is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import InvalidRequest
from tport.engine.proto.forwarded import MAX_HOPS, client_address, is_within, parse_network

OURS = [parse_network("10.0.0.0/8"), parse_network("fd00::/8")]


def client(peer: str, *values: bytes) -> str:
    return client_address(peer, [(b"x-forwarded-for", value) for value in values], OURS)


def test_a_strangers_word_is_no_word() -> None:
    assert client("192.0.2.7", b"203.0.113.9") == "192.0.2.7"
    assert client_address("10.0.0.1", [(b"x-forwarded-for", b"203.0.113.9")], []) == "10.0.0.1"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "10.0.0.1"),
        ((b"",), "10.0.0.1"),
        ((b"203.0.113.9",), "203.0.113.9"),
        ((b"127.0.0.1, 203.0.113.9",), "203.0.113.9"),
        ((b"6.6.6.6, 203.0.113.9, 10.9.9.9, fd00::1",), "203.0.113.9"),
        ((b"6.6.6.6", b"203.0.113.9", b"10.9.9.9"), "203.0.113.9"),
        ((b"10.1.1.1,10.2.2.2",), "10.1.1.1"),
        ((b"203.0.113.9:51413",), "203.0.113.9"),
        ((b"[2001:db8::7]:51413",), "2001:db8::7"),
        ((b"2001:DB8::7",), "2001:db8::7"),
        ((b"::ffff:203.0.113.9",), "203.0.113.9"),
        ((b"6.6.6.6, unknown, 10.2.2.2",), "10.2.2.2"),
        ((b"6.6.6.6, _hidden",), "10.0.0.1"),
        ((b"fe80::1%eth0",), "10.0.0.1"),
        ((b"6.6.6.6 203.0.113.9",), "10.0.0.1"),
        ((b"\xff",), "10.0.0.1"),
    ],
)
def test_the_last_that_no_trusted_proxy_vouches_for_is_the_client(
    values: tuple[bytes, ...], expected: str
) -> None:
    assert client("10.0.0.1", *values) == expected


def test_an_endless_header_is_looked_at_from_its_end_alone() -> None:
    assert client("10.0.0.1", b"6.6.6.6," + b"10.1.1.1," * 10_000 + b"10.2.2.2") == "10.1.1.1"
    assert MAX_HOPS == 32


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_the_header_says_the_answer_is_an_address(values: list[bytes]) -> None:
    found = client("10.0.0.1", *values)

    assert is_within(found, [parse_network("::/1"), parse_network("8000::/1")]) or "." in found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
        ("10.0.0", "no network"),
        ("lb.example.com", "no network"),
        ("10.0.0.0/33", "no network"),
        ("", "no network"),
    ],
)
def test_a_network_that_cannot_be_meant_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        parse_network(text)
