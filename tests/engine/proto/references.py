"""Slow and plain readings, written to be believed at a glance, of what is read quickly.

No cache, no cursor, no pattern that skips ahead; the definitions are those that the modules name.
"""

from __future__ import annotations

import re

from tport.engine.defaults import MAX_CLIENT_HELLO
from tport.engine.errors import InvalidRequest, RemoteProtocolError
from tport.engine.proto.client_hello import MAX_RECORDS, ClientHello, NotTls
from tport.engine.proto.cookies import is_ours
from tport.engine.proto.host import is_address, normalise_host


def end_of_head(data: bytes) -> int:
    """Return where the first empty line ends; -1: there is none."""
    found = re.search(rb"\n\r?\n", data)
    return found.end() if found else -1


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
            if 4 + body > MAX_CLIENT_HELLO:
                raise RemoteProtocolError("too long")
            if len(message) >= 4 + body:
                return message[4 : 4 + body]
        if len(data) < 5 + length:
            return None
        data = data[5 + length :]
    raise RemoteProtocolError("too many records")


def meaning_of_hello(data: bytes) -> ClientHello | None:
    body = message_of(data)
    if body is None:
        if len(data) >= MAX_CLIENT_HELLO:
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


# --- Cookies ---------------------------------------------------------------------------------------


def cookies_named(name: bytes, headers: list[bytes]) -> list[bytes]:
    """Return the values of a cookie: of what is parted by semicolons, without blanks around it."""
    parts = [part.strip(b" \t") for header in headers for part in header.split(b";")]
    pairs = [part.split(b"=", 1) for part in parts]
    return [pair[1] for pair in pairs if len(pair) == 2 and pair[0] == name]


def others_in(header: bytes) -> bytes:
    """Return a Cookie header without our cookies, and else as it was."""
    parts = header.split(b";")
    kept = [part for part in parts if not is_ours(part.split(b"=", 1)[0].strip(b" \t"))]
    if kept and kept[0] is not parts[0]:
        kept[0] = kept[0].lstrip(b" \t")
    return b";".join(kept)
