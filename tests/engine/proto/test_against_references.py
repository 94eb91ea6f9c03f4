"""What is read quickly means what a slow and plain reading says it means.

The references here are written to be believed at a glance: no cache, no cursor, no pattern that
skips ahead. Each is asked twice, since what is remembered must not be another answer.
"""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.proto.test_client_hello import HELLO, extension, made, records, sni
from tport.engine.errors import InvalidRequest, RemoteProtocolError
from tport.engine.proto.client_hello import (
    MAX_HELLO,
    MAX_RECORDS,
    ClientHello,
    NotTls,
    parse_client_hello,
)
from tport.engine.proto.cookies import find_cookie, is_ambiguous, is_ours, strip_cookies
from tport.engine.proto.head import find_head_end
from tport.engine.proto.host import is_address, normalise_host

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
    empty_line = re.compile(rb"\n\r?\n")
    found = empty_line.search(data)
    expected = found.end() if found else -1

    assert find_head_end(data) == expected
    assert find_head_end(bytearray(data)) == expected
    in_vain = min(searched, len(data))
    if not empty_line.search(data[:in_vain]):
        assert find_head_end(data, in_vain) == expected


# --- The ClientHello -------------------------------------------------------------------------------


def vector(data: bytes, size: int) -> tuple[bytes, bytes]:
    """Part `data` after a first element that says its length in `size` bytes."""
    length = int.from_bytes(data[:size], "big")
    if len(data) < size + length:
        raise RemoteProtocolError("too short")
    return data[size : size + length], data[size + length :]


def only_vector(data: bytes, size: int) -> bytes:
    content, rest = vector(data, size)
    if rest:
        raise RemoteProtocolError("bytes to spare")
    return content


def message_of(data: bytes) -> bytes | None:
    """Return the ClientHello's body out of its records, None while it isn't whole."""
    message = b""
    for _ in range(MAX_RECORDS):
        if (data and data[0] != 22) or (len(data) > 1 and data[1] != 3):
            raise NotTls("no record of a handshake")
        if len(data) < 5:
            return None
        length = data[3] * 256 + data[4]
        if length == 0 or length > 2**14:
            raise RemoteProtocolError("a record's length")
        message += data[5 : 5 + length]
        if message and message[0] != 1:
            raise RemoteProtocolError("no ClientHello")
        if len(message) >= 4:
            body = int.from_bytes(message[1:4], "big")
            if 4 + body > MAX_HELLO:
                raise RemoteProtocolError("too long")
            if len(message) >= 4 + body:
                return message[4 : 4 + body]
        if len(data) < 5 + length:
            return None
        data = data[5 + length :]
    raise RemoteProtocolError("too many records")


def meaning_of(data: bytes) -> ClientHello | None:
    body = message_of(data)
    if body is None:
        if len(data) >= MAX_HELLO:
            raise RemoteProtocolError("too long")
        return None
    if len(body) < 2 + 32:
        raise RemoteProtocolError("too short")
    _, body = vector(body[2 + 32 :], 1)
    _, body = vector(body, 2)
    _, body = vector(body, 1)
    found: list[tuple[bytes, bytes]] = []
    extensions = vector(body, 2)[0] if body else b""
    while extensions:
        kind, (content, rest) = extensions[:2], vector(extensions[2:], 2)
        if kind in [earlier for earlier, _ in found]:
            raise RemoteProtocolError("twice")
        found.append((kind, content))
        extensions = rest
    by_kind = dict(found)
    return ClientHello(name_in(by_kind.get(b"\0\0")), protocols_in(by_kind.get(b"\0\x10")))


def name_in(content: bytes | None) -> str | None:
    if content is None:
        return None
    entry = only_vector(content, 2)
    if not entry:
        raise RemoteProtocolError("too short")
    name = only_vector(entry[1:], 2)
    try:
        host = normalise_host(name.decode("latin-1"))
    except InvalidRequest:
        return None
    return None if entry[0] != 0 or is_address(host) else host


def protocols_in(content: bytes | None) -> tuple[str, ...]:
    if content is None:
        return ()
    rest, names = only_vector(content, 2), []
    while rest:
        name, rest = vector(rest, 1)
        names.append(name.decode("latin-1"))
    if not names or "" in names:
        raise RemoteProtocolError("no protocol")
    return tuple(names)


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

    expected = told(meaning_of)
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


def pairs_in(header: bytes) -> list[tuple[bytes, bytes]]:
    """Return what is parted by semicolons, without blanks around it, as name and value."""
    pairs = [part.strip(b" \t").split(b"=", 1) for part in header.split(b";")]
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


@settings(max_examples=500)
@given(st.lists(_headers, max_size=2))
def test_a_cookie_is_found_where_parting_the_headers_finds_it(headers: list[bytes]) -> None:
    values = [value for header in headers for name, value in pairs_in(header) if name == NAME]
    plain = [value for value in values if re.fullmatch(rb"[A-Za-z0-9_-]+", value)]

    for _ in range(2):
        assert is_ambiguous(headers, NAME) == (len(values) > 1)
        assert find_cookie(headers, NAME) == (plain[0] if plain and len(values) == 1 else None)


@settings(max_examples=500)
@given(_headers)
def test_what_is_left_of_a_cookie_header_is_all_that_is_not_ours(header: bytes) -> None:
    parts = header.split(b";")
    kept = [part for part in parts if not is_ours(part.split(b"=", 1)[0].strip(b" \t"))]
    if kept and kept[0] is not parts[0]:
        kept[0] = kept[0].lstrip(b" \t")

    for _ in range(2):
        assert strip_cookies(header) == b";".join(kept)
