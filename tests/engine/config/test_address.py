"""host:port as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.config.address import (
    Address,
    parse_dial_address,
    parse_listen_address,
    parse_public_address,
)
from tport.engine.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("proxy.test:443", Address("proxy.test", 443), "proxy.test:443"),
        ("Proxy.Test", Address("proxy.test", 3080), "proxy.test:3080"),
        ("127.0.0.1:1", Address("127.0.0.1", 1), "127.0.0.1:1"),
        (":443", Address("", 443), ":443"),
        ("[::1]:443", Address("::1", 443), "[::1]:443"),
        ("[0:0::1]", Address("::1", 3080), "[::1]:3080"),
        ("0.0.0.0:0", Address("0.0.0.0", 0), "0.0.0.0:0"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: str, address: Address, shown: str) -> None:
    assert parse_listen_address(text, 3080) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    "text",
    ["a:", "a:b", "a:65536", "a:-1", "a:٣", "a:1:2", "[::1", "[::1]x", "[a]:1", "[::1]:", "::1",
     "https://a:443", "a/b:1", "a b:1", "u@a:1", "a:0x50", "a:4 3"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_listen_address(text, 3080)


@pytest.mark.parametrize("text", ["", ":443", "a:0"])
def test_what_can_only_be_listened_on_is_not_dialled(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_dial_address(text, 3080)


@pytest.mark.parametrize("text", ["*.proxy.test", "192.0.2.1", "[::1]:443"])
def test_browsers_need_one_name(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_public_address(text, 443)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_listen_address(text, 3080)
    except InvalidRequest:
        return
    assert parse_listen_address(str(address)) == address
