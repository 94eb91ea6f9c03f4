"""The ClientHello: which name and which protocols a TLS client asks for, before TLS. Sans-IO.

It is read to choose the context (certificate, and whether the client must show one), and then
handed to OpenSSL as it came. Nothing here decides whether the handshake is good.

Source: RFC 8446 §4.1.2 and §5.1; server_name RFC 6066 §3; ALPN RFC 7301 §3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final

from tport.engine.defaults import MAX_CLIENT_HELLO
from tport.engine.errors import InvalidRequest, RemoteProtocolError
from tport.engine.proto.host import is_address, normalise_host

MAX_RECORDS: Final = 32  # over how many records a client may spread it; nobody honest needs 3
HTTPS_ONLY: Final = (  # the whole answer to plain HTTP on the TLS port
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 50\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTPS: use https:// in the link.\n"
)

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _HOST_NAME = 0, 16, 0
_EXTENSION = Struct("!HH")  # its kind, and the length of what follows
_NAMES = Struct("!HBH")  # of the list; then of its one name: kind, length
_BEYOND = "ClientHello with a length that leads beyond its end"
_MAX_FRAGMENT = 2**14
_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ")


class NotTls(RemoteProtocolError):
    """What came is no TLS. `http`: it is plain HTTP, whose sender can be told (HTTPS_ONLY)."""

    def __init__(self, message: str, *, http: bool = False) -> None:
        super().__init__(message)
        self.http = http


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for.

    Attributes:
        server_name: SNI in its normal form; None: none sent, or an address, or no host name.
        alpn: the protocols offered, in the client's order; empty: none.
    """

    server_name: str | None
    alpn: tuple[str, ...]


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Read the start of a connection; None: more bytes are needed.

    What comes after the ClientHello is not looked at.

    Raises:
        NotTls: no TLS client begins so.
        RemoteProtocolError: TLS, but broken or too large.
    """
    message = _handshake_message(data)
    if message is None:
        if len(data) >= MAX_CLIENT_HELLO:
            raise RemoteProtocolError(f"ClientHello over {MAX_CLIENT_HELLO} bytes")
        return None
    extensions = _extensions(_extension_block(message))
    return ClientHello(
        server_name=_server_name(extensions.get(_SERVER_NAME)),
        alpn=_protocols(extensions.get(_ALPN)),
    )


def _handshake_message(data: bytes) -> bytes | None:
    """Return the body of the ClientHello, put together from its records; None: incomplete."""
    if data[:1] not in (b"", b"\x16"):
        http = any(data.startswith(m) or m.startswith(data[:8]) for m in _METHODS)
        raise NotTls("plain HTTP on a TLS port" if http else "this is no TLS", http=http)
    message, at = bytearray(), 0
    for _ in range(MAX_RECORDS):
        header = data[at : at + 5]
        if header[:1] not in (b"", bytes([_HANDSHAKE])) or header[1:2] not in (b"", b"\x03"):
            raise NotTls("this is no TLS")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= _MAX_FRAGMENT:
            raise RemoteProtocolError(f"TLS record of {length} bytes")
        message += data[at + 5 : at + 5 + length]
        if message[0:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise RemoteProtocolError("the first TLS message is no ClientHello")
        end = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and end > MAX_CLIENT_HELLO:
            raise RemoteProtocolError(f"ClientHello over {MAX_CLIENT_HELLO} bytes")
        if len(message) >= 4 and len(message) >= end:
            return bytes(message[4:end])
        at += 5 + length
        if at > len(data):
            return None
    raise RemoteProtocolError(f"ClientHello in more than {MAX_RECORDS} records")


def _extension_block(message: bytes) -> bytes:
    """Return the extensions of a ClientHello, or b"" if it has none; what is behind them is left out."""
    try:
        at = 2 + 32  # behind legacy_version and random
        at += 1 + message[at]  # legacy_session_id
        at += 2 + int.from_bytes(message[at : at + 2], "big")  # cipher_suites
        at += 1 + message[at]  # legacy_compression_methods
    except IndexError:
        raise RemoteProtocolError(_BEYOND) from None
    if at == len(message):
        return b""
    begin = at + 2
    end = begin + int.from_bytes(message[at:begin], "big")
    if begin > len(message) or end > len(message):
        raise RemoteProtocolError(_BEYOND)
    return message[begin:end]


def _extensions(data: bytes) -> dict[int, bytes]:
    found, at, end = dict[int, bytes](), 0, len(data)
    while at < end:
        if at + _EXTENSION.size > end:
            raise RemoteProtocolError(_BEYOND)
        kind, length = _EXTENSION.unpack_from(data, at)
        if kind in found:
            raise RemoteProtocolError(f"ClientHello with extension {kind} twice")
        at += _EXTENSION.size + length
        if at > end:
            raise RemoteProtocolError(_BEYOND)
        found[kind] = data[at - length : at]
    return found


def _server_name(extension: bytes | None) -> str | None:
    if extension is None:
        return None
    if len(extension) < _NAMES.size:
        raise RemoteProtocolError(_BEYOND)
    listed, kind, length = _NAMES.unpack_from(extension)
    # One name; RFC 6066 forbids a second of the same kind, and there is one kind.
    if listed != len(extension) - 2 or length != len(extension) - _NAMES.size:
        raise RemoteProtocolError("ClientHello whose server name has another length than it says")
    name = extension[_NAMES.size :]
    if kind != _HOST_NAME:
        return None
    try:
        host = normalise_host(name.decode("latin-1"))
    except InvalidRequest:
        return None
    return None if is_address(host) else host


@lru_cache(maxsize=256)  # the same few again and again; names, which strangers invent, are not kept
def _protocols(extension: bytes | None) -> tuple[str, ...]:
    if extension is None:
        return ()
    outer = _Reader(extension)
    reader, names = _Reader(outer.vector(2)), list[str]()
    outer.end()
    while reader.left:
        name = reader.vector(1)
        if not name:
            raise RemoteProtocolError("ClientHello offers a protocol without a name")
        names.append(name.decode("latin-1"))
    if not names:
        raise RemoteProtocolError("ClientHello offers an empty list of protocols")
    return tuple(names)


class _Reader:
    """A cursor over bytes that are all there: running out is the sender's fault."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def skip(self, count: int) -> bytes:
        if count > self.left:
            raise RemoteProtocolError(_BEYOND)
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.skip(size), "big")

    def vector(self, size: int) -> bytes:
        """Take what a length of `size` bytes says."""
        return self.skip(self.number(size))

    def end(self) -> None:
        if self.left:
            raise RemoteProtocolError("ClientHello with bytes to spare in an extension")
