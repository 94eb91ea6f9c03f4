"""What is read quickly means what a slow and plain reading says it means.

Each is asked twice, since what is remembered must not be another answer.
"""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.proto.references import (
    cookies_named,
    end_of_head,
    meaning_of_hello,
    others_in,
)
from tests.engine.proto.test_client_hello import HELLO, extension, made, records, sni
from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.client_hello import NotTls, parse_client_hello
from tport.engine.proto.cookies import find_cookie, is_ambiguous, strip_cookies
from tport.engine.proto.head import find_head_end

# --- Where a head ends -----------------------------------------------------------------------------

_line_ends = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\r", b"x", b"\0"]), max_size=20
).map(b"".join)


@settings(max_examples=500)
@given(_line_ends, st.integers(0, 60))
@example(b"\n\r\n\n", 0)
@example(b"\n\n\r\n", 0)
@example(b"a\r\n\r\n", 4)
def test_a_head_ends_where_a_search_for_an_empty_line_ends(data: bytes, searched: int) -> None:
    expected = end_of_head(data)

    assert find_head_end(data) == expected
    assert find_head_end(bytearray(data)) == expected
    in_vain = min(searched, len(data))
    if end_of_head(data[:in_vain]) < 0:
        assert find_head_end(data, in_vain) == expected


# --- The ClientHello -------------------------------------------------------------------------------


def alpn(*names: bytes) -> bytes:
    content = b"".join(bytes([len(name)]) + name for name in names)
    return extension(16, len(content).to_bytes(2, "big") + content)


_names = st.sampled_from(
    [b"a.test", b"A.Test.", b"a..test", b"127.0.0.1", b"", b"\xff", b"x" * 64, b"[::1]"]
)
_extensions = st.one_of(
    st.builds(sni, _names, st.sampled_from([0, 0, 0, 1])),
    st.builds(alpn, *[st.sampled_from([b"h2", b"http/1.1", b"tport-tunnel/1", b""])] * 2),
    st.builds(extension, st.sampled_from([0, 16, 10, 0x0A0A, 0xFFFF]), st.binary(max_size=9)),
    st.binary(max_size=3),
)
_hellos = st.builds(
    lambda parts, rest: made(b"".join(parts), rest=rest),
    st.lists(_extensions, max_size=5),
    st.binary(max_size=2),
)


@st.composite
def _broken_hellos(draw: st.DrawFn) -> bytes:
    """A ClientHello in records of any size, then with some bytes changed, and cut."""
    hello = draw(_hellos | st.just(HELLO))
    data = bytearray(records(hello[5:], draw(st.integers(1, len(hello)))))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


@settings(max_examples=500)
@given(_hellos | _broken_hellos() | st.binary(max_size=60))
@example(made(extension(16, b"\0\x01")))
@example(made(extension(10, b"") + b"\0\x0b\0"))
@example(made(extension(10, b"") + b"\0\x0b\0\x01"))
def test_a_client_hello_means_what_its_definition_says(data: bytes) -> None:
    def told(read: object) -> object:
        try:
            return read(data)  # type: ignore[operator]
        except NotTls:
            return "no TLS"
        except RemoteProtocolError:
            return "broken"

    expected = told(meaning_of_hello)
    assert told(parse_client_hello) == expected
    assert told(parse_client_hello) == expected


# --- Cookies ---------------------------------------------------------------------------------------

NAME = b"__Host-tport_app_0a1b2c3d"
_keys = st.sampled_from(
    [NAME, NAME, NAME[:-1], NAME.lower(), b"__HOST-tport_web", b"a", b"", b"\xe2\x80\x80" + NAME]
)
_blanks = st.sampled_from([b"", b"", b" ", b"\t", b" \t", b"\n"])
_values = st.sampled_from([b"=v", b"=v", b"=", b"", b"==", b'="v"', b"=v w", b"=\xff", b"=" + NAME])
_pairs = st.tuples(_blanks, _keys, _blanks, _values, _blanks).map(b"".join)
_headers = st.lists(_pairs, max_size=4).map(b";".join)


@settings(max_examples=500)
@given(st.lists(_headers, max_size=2))
def test_a_cookie_is_found_where_parting_the_headers_finds_it(headers: list[bytes]) -> None:
    values = cookies_named(NAME, headers)
    plain = [value for value in values if re.fullmatch(rb"[A-Za-z0-9_-]+", value)]

    for _ in range(2):
        assert is_ambiguous(headers, NAME) == (len(values) > 1)
        assert find_cookie(headers, NAME) == (plain[0] if plain and len(values) == 1 else None)


@settings(max_examples=500)
@given(_headers)
def test_what_is_left_of_a_cookie_header_is_all_that_is_not_ours(header: bytes) -> None:
    for _ in range(2):
        assert strip_cookies(header) == others_in(header)
