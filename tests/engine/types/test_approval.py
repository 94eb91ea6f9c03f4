"""The code by which people recognise a machine, and the word by which the machine recognises the cluster."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import InvalidRequest
from tport.engine.types.approval import join_code, join_word, read_code, read_word

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(key=HEX, pin=HEX)
def test_a_code_is_read_as_it_was_written_and_as_people_type_it(key: str, pin: str) -> None:
    code = join_code(key, pin)

    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", code)
    assert read_code(code) == code
    typed = code.lower().replace("0", "o").replace("1", "l").replace("-", " ")
    assert read_code(f"  {typed} ") == code


@given(key=HEX, pin=HEX, other=HEX)
def test_another_key_or_other_authorities_make_another_code(key: str, pin: str, other: str) -> None:
    if other != pin:
        assert join_code(key, pin) != join_code(key, other)
    if other != key:
        assert join_code(key, pin) != join_code(other, pin)


def test_the_code_is_what_it_has_always_been() -> None:
    """Machine and auth may be of two versions."""
    assert join_code("00" * 32, "ff" * 32) == "W5RP-GP4H-WKC4"
    assert join_word("00" * 32, "ff" * 32) == "3Q3ANH"


@given(key=HEX, pin=HEX)
def test_a_word_is_read_as_it_was_written_and_as_people_type_it(key: str, pin: str) -> None:
    word = join_word(key, pin)

    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{6}", word)
    assert read_word(word) == word
    typed = word.lower().replace("0", "o").replace("1", "i")
    assert read_word(f" {typed[:3]}-{typed[3:]}\r\n") == word


@given(key=HEX, pin=HEX, other=HEX)
def test_another_key_or_other_authorities_make_another_word(key: str, pin: str, other: str) -> None:
    """But for one in 2^30: nobody can look for it, as a machine makes its key after it was shown authorities."""
    if other != pin:
        assert join_word(key, pin) != join_word(key, other)
    if other != key:
        assert join_word(key, pin) != join_word(other, pin)


@pytest.mark.parametrize("text", ["", "K7Q4X", "K7Q4XMM", "K7Q4XU", "W5RP-GP4H-WKC4", "é" * 6])
def test_what_is_no_word_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="six letters and digits"):
        read_word(text)


@pytest.mark.parametrize(
    "text", ["", "3K7M-QZ0A-9XW", "3K7M-QZ0A-9XWBB", "3K7M-QZ0A-9XWU", "é" * 12]
)
def test_what_is_no_code_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="twelve letters and digits"):
        read_code(text)
