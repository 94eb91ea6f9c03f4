"""What main process and worker tell each other comes back as it was, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.config.places import read
from tport.engine.config.in_force import settings_in_force
from tport.engine.defaults import MAX_CLIENT_HELLO
from tport.engine.errors import RemoteProtocolError
from tport.engine.pki.keys import KeyPair
from tport.engine.workers.messages import (
    MAX_MESSAGE,
    Arrived,
    Beginning,
    Failed,
    HandOver,
    Message,
    NewPair,
    Stop,
    pack,
    unpack,
)

PAIR = KeyPair(chain="chain", key="a secret key")


@pytest.mark.parametrize(
    "message",
    [
        Stop(),
        NewPair(PAIR),
        Arrived("192.0.2.1", b"\x16\x03\x01"),
        HandOver("id", "2001:db8::1", bytes(range(256))),
        Failed("no such file", "make it", 2),
    ],
)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert unpack(pack(message)) == message


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except RemoteProtocolError:
        pass


def test_a_message_nested_however_deep_is_refused() -> None:
    """A worker that was taken over must not end auth, which is in the process that reads it."""
    body = b"\x82\xa4type\xa5alive\xa5later" + b"\x91" * (MAX_MESSAGE - 100) + b"\xc0"
    with pytest.raises(RemoteProtocolError):
        unpack(body)


def test_a_message_of_words_that_are_no_text_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(b"\x82\xa4type\xa7measure\xa6number\xa2\xff\xfe")


def test_the_largest_clienthello_fits_into_a_message() -> None:
    assert len(pack(HandOver("x" * 255, "y" * 64, bytes(2 * MAX_CLIENT_HELLO)))) < MAX_MESSAGE


def test_a_beginning_holds_the_configuration_whole_and_shows_no_secret() -> None:
    config = read(
        "proxy_service: {workers: 2, trusted_proxies: [10.0.0.0/8, '2001:db8::/32'],"
        " https_keypairs: [{key_file: k.pem, cert_file: c.pem}],"
        " acme: {eab: {kid: k, hmac: c2VjcmV0LWhtYWMtMTIz}}}"
    )
    begin = Beginning(
        number=1,
        workers=2,
        proxy_id="id",
        config=config,
        shown=settings_in_force(config),
        pair=PAIR,
        tickets=b"sealing wax",
        channel=3,
        listener=4,
        http=None,
        share=5,
    )

    assert Beginning.unpack(begin.pack()) == begin
    for secret in ("a secret key", "sealing wax", "c2VjcmV0LWhtYWMtMTIz"):
        assert secret not in repr(begin)
    assert "a secret key" not in repr(NewPair(PAIR))
