"""The PROXY protocol, versions 1 and 2: whom a load balancer says it connects for. Sans-IO.

Source: haproxy.org, proxy-protocol.txt; section numbers in brackets below. It is read once, before
TLS, and only from peers that the operator lists: anybody else could be anybody (TLS-12).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final, NamedTuple

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.forwarded import without_mapping

MAX_V1: Final = 107  # bytes, with CR LF [2.1]
MAX_V2: Final = 536  # bytes; what fits into one packet whatever the network [2.2]

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = Struct("!12sBBH")  # signature, version and command, family and transport, length [2.2]
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESSES: Final = {_TCP4: 12, _TCP6: 36}  # bytes of two addresses and two ports


class ProxyHeader(NamedTuple):
    """What a header says.

    Attributes:
        source: the client's IP address; "": the balancer speaks for itself, or doesn't know.
        length: bytes of the header; what follows them is the client's.
    """

    source: str
    length: int


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header that `data` begins with; None: some of it is missing.

    Raises:
        RemoteProtocolError: there is none, or it is broken or too long.
    """
    if data.startswith(_V1[: len(data)]):
        return _version_1(data)
    if data.startswith(_V2[: len(data)]):
        return _version_2(data)
    raise RemoteProtocolError("there is no PROXY header")


def _version_1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:MAX_V1].partition(b"\r\n")
    if not end:
        if len(data) >= MAX_V1:
            raise RemoteProtocolError(f"a PROXY line is longer than {MAX_V1} bytes")
        return None
    length = len(line) + 2
    words = line.split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return ProxyHeader("", length)  # whatever follows is to be ignored [2.1]
    try:
        _, family, source, destination, *ports = (word.decode("ascii") for word in words)
        if family not in ("TCP4", "TCP6"):
            raise ValueError
        address = IPv4Address(source) if family == "TCP4" else IPv6Address(source)
        type(address)(destination)
        if len(ports) != 2 or not all(_is_port(port) for port in ports):
            raise ValueError
    except ValueError:
        raise RemoteProtocolError("a PROXY line makes no sense") from None
    return ProxyHeader(without_mapping(address), length)


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEAD.size:
        return None
    _, command, family, rest = _HEAD.unpack_from(data)
    length = _HEAD.size + rest
    if length > MAX_V2:
        raise RemoteProtocolError(f"a PROXY header is longer than {MAX_V2} bytes")
    if command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError(f"a PROXY header has version and command {command:#x}")
    known = command == _PROXY and family != _UNSPECIFIED
    if known and rest < _ADDRESSES.get(family, MAX_V2):
        raise RemoteProtocolError(f"a PROXY header has family {family:#x} in {rest} bytes")
    if len(data) < length:
        return None
    if not known:
        return ProxyHeader("", length)
    address: IPv4Address | IPv6Address
    if family == _TCP4:
        address = IPv4Address(data[_HEAD.size : _HEAD.size + 4])
    else:
        address = IPv6Address(data[_HEAD.size : _HEAD.size + 16])
    return ProxyHeader(without_mapping(address), length)


def _is_port(text: str) -> bool:
    return text.isdigit() and len(text) <= 5 and int(text) <= 65535
