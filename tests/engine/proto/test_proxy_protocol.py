"""TLS-12: the PROXY header, read whole or refused."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.proxy_protocol import MAX_V1, MAX_V2, ProxyHeader, parse_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"
LONGEST = (
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(MAX_V1 - 2, b"x") + b"\r\n"
)


def version_2(family: int, addresses: bytes, *, command: int = 0x21, more: bytes = b"") -> bytes:
    rest = addresses + more
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


TCP4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + b"\xdc\x04\x01\xbb"
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + b"\xdc\x04\x01\xbb"
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") * 2 + b"\xdc\x04\x01\xbb"

GOOD = [
    (LINE, "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (LONGEST, ""),
    (version_2(0x11, TCP4), "192.0.2.7"),
    (version_2(0x21, TCP6), "2001:db8::7"),
    (version_2(0x21, MAPPED), "192.0.2.7"),
    (version_2(0x11, TCP4, more=b"\x04\x00\x03abc"), "192.0.2.7"),
    (version_2(0x11, TCP4, more=b"x" * (MAX_V2 - 28)), "192.0.2.7"),
    (version_2(0x00, b""), ""),
    (version_2(0x11, TCP4, command=0x20), ""),
    (version_2(0x00, b"", command=0x20), ""),
]


@pytest.mark.parametrize(("header", "source"), GOOD)
@pytest.mark.parametrize("behind", [b"", b"\x16\x03\x01"])
def test_a_header_says_whom_the_connection_is_from(
    header: bytes, source: str, behind: bytes
) -> None:
    assert parse_proxy_header(header + behind) == ProxyHeader(source, len(header))


@pytest.mark.parametrize("header", [header for header, _ in GOOD])
def test_until_it_is_whole_it_says_nothing(header: bytes) -> None:
    assert all(parse_proxy_header(header[:cut]) is None for cut in range(len(header)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n",
        b"PROXI",
        b"proxy TCP4",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 -2\r\n",
        b"PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 localhost 1 2\r\n",
        b"PROXY TCP4 \xff 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n\n\r\n",
        b"PROXY " + b"x" * 101,
        LONGEST.replace(b"\r\n", b"x\r\n"),
        SIGNATURE + b"\x11\x11\x00\x0c" + TCP4,
        SIGNATURE + b"\x22\x11\x00\x0c" + TCP4,
        version_2(0x11, TCP4[:-1]),
        version_2(0x21, TCP4),
        version_2(0x12, TCP4),
        version_2(0x31, b"x" * 216),
        SIGNATURE + b"\x21\x11\x02\x09",
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\r\n\r\n\x00\r\nQUIX",
    ],
)
def test_what_is_none_or_broken_or_too_long_is_refused_as_soon_as_that_shows(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_proxy_header(data)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(b"PROXY ".__add__),
        st.binary(max_size=60).map(SIGNATURE.__add__),
        st.text("PROXY TCP46UNKNW.:0123456789\r\n", max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_a_header_or_the_beginning_of_one_or_refused(data: bytes) -> None:
    """And what more bytes bring never changes what was said before."""
    verdicts = []
    for cut in range(len(data) + 1):
        try:
            verdicts.append(parse_proxy_header(data[:cut]))
        except RemoteProtocolError:
            return
    said = [verdict for verdict in verdicts if verdict is not None]
    assert len(set(said)) <= 1
    if said:
        assert verdicts.index(said[0]) == said[0].length <= MAX_V2
