"""What reads bytes from outside, and what must hold of it whatever they are.

Each target takes any bytes. It raises only when a promise is broken: what a parser refuses, it
refuses by an error that is meant, and what it takes, a second and plainer reader takes likewise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from tests.engine.proto.references import (
    cookies_named,
    end_of_head,
    meaning_of_hello,
    others_in,
)
from tests.security.plain_http import Doubtful, Unfinished, read_chunks, read_request
from tport.engine.access.patterns import STAR, compile_pattern
from tport.engine.access.templates import MAX_HEADER_VALUE, MAX_VALUES, parse_template
from tport.engine.config.load import parse_config
from tport.engine.config.resolve import Machine
from tport.engine.config.resources import read_resources
from tport.engine.defaults import MAX_TRAILERS
from tport.engine.errors import (
    ConfigError,
    InvalidRequest,
    LimitExceeded,
    RemoteProtocolError,
)
from tport.engine.proto.body import BodyReader, ChunkedReader
from tport.engine.proto.client_hello import parse_client_hello
from tport.engine.proto.cookies import (
    allowed_set_cookie,
    find_cookie,
    host_only,
    is_ambiguous,
    is_ours,
    strip_cookies,
)
from tport.engine.proto.device_token import presented_secret
from tport.engine.proto.forwarded import client_address, parse_network
from tport.engine.proto.head import (
    find_head_end,
    judge_request_head,
    judge_response_head,
    parse_request_head,
    parse_response_head,
)
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.host import normalise_host, split_host
from tport.engine.proto.proxy_protocol import parse_proxy_header
from tport.engine.proto.tunnel import (
    Accepted,
    Inbox,
    Offers,
    ResponseHead,
    answer_decoder,
    control_decoder,
    pack,
    request_decoder,
)
from tport.engine.proto.websocket_frames import FrameReader
from tport.engine.proto.yamux import Connection
from tport.engine.proto.yamux_events import DataReceived, Event

CORPUS: Final = Path(__file__).with_name("corpus")
LONGEST: Final = 4096  # bytes of an input; every parser is asked for more somewhere else

COOKIE: Final = b"__Host-tport_app_0a1b2c3d"
REFUSED: Final = "refused"
TRAITS: Final = {
    "env": ("prod", "a\r\nX: y", "{{external.team}}", "\xff", ""),
    "email": ("alice@example.com", "no address", "@", "a@b@c"),
    "many": tuple("abcdefghijklmnop"),
    "long": ("x" * 9000,),
}
MACHINE: Final = Machine(
    env={}, home=Path("/home/alice"), cwd=Path("/srv"), hostname="testhost", is_root=False
)


@dataclass(frozen=True)
class Target:
    """
    Attributes:
        run: raises when a promise is broken.
        seeds: what to begin with, beside the corpus.
        words: pieces that an input is likely to need.
    """

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()

    def inputs(self, name: str) -> list[bytes]:
        """Return the seeds and the corpus of the target that has this name."""
        return [*self.seeds, *read_corpus(name)]


def read_corpus(name: str) -> list[bytes]:
    """Return what earlier runs found for a target: in its file, a line for each in hex."""
    file = CORPUS / f"{name}.txt"
    return [bytes.fromhex(line) for line in file.read_text().splitlines()] if file.exists() else []


def told(read: Callable[[], object], *refusals: type[Exception]) -> object:
    """Return what `read` says, or REFUSED for an error that is meant."""
    try:
        return read()
    except refusals:
        return REFUSED


def parted(data: bytes) -> list[bytes]:
    """Cut an input in two, where its first byte says."""
    at = data[0] if data else 0
    return [data[1 : 1 + at], data[1 + at :]]


# --- HTTP ------------------------------------------------------------------------------------------


def request_head(data: bytes) -> None:
    """Quickly, in full, and by a reader without leniency: nobody takes what another doesn't."""
    end = find_head_end(data)
    assert end == end_of_head(data)
    head = data[:end] if end >= 0 else data
    quick = told(lambda: parse_request_head(head), BadHead)
    assert quick == told(lambda: judge_request_head(head.removeprefix(b"\r\n")), BadHead)
    try:
        request = parse_request_head(head)
    except BadHead:
        return
    if b"-" in request.method or not request.host:
        return  # two methods of RFC 3253, and HTTP/1.0 without a Host: known to be plain enough
    try:
        plain = read_request(head, None).request
    except Unfinished:
        assert request.framing.length != 0, "a body that only we know of"
    else:
        assert (plain.method, plain.target) == (request.method, request.target)
        assert request.framing.length == 0, "a body that only we don't know of"


def response_head(data: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        quick = told(lambda m=method: parse_response_head(data, request_method=m), BadHead)  # type: ignore[misc]
        assert quick == told(lambda m=method: judge_response_head(data, m), BadHead)  # type: ignore[misc]


def chunks(data: bytes) -> None:
    """Wherever it is cut, and as a reader without leniency reads it."""
    pieces = parted(data)
    whole = _body(ChunkedReader(tiny_chunks=True), [data[1:]])
    assert _body(ChunkedReader(tiny_chunks=True), pieces) == whole
    try:
        plain: object = (*read_chunks(data[1:]), True)
    except Doubtful:
        plain = REFUSED
    except Unfinished:
        plain = None
    if plain is None:
        assert whole == REFUSED or not whole[2], "an end that only we see"
    elif len(data) < MAX_TRAILERS:
        assert whole == plain


def _body(reader: BodyReader, pieces: Sequence[bytes]) -> tuple[bytes, bytes, bool] | str:
    """Return the payload, what is left, and whether the body is whole."""
    payload = after = b""
    for piece in pieces:
        if reader.done:
            after += piece
        else:
            try:
                payload += reader.feed(piece)
            except RemoteProtocolError:
                return REFUSED
    return payload, reader.leftover + after, reader.done


def cookies(data: bytes) -> None:
    headers = data.split(b"\n")
    values = cookies_named(COOKIE, headers)
    assert is_ambiguous(headers, COOKIE) == (len(values) > 1)
    found = find_cookie(headers, COOKIE)
    if found is not None:
        assert values == [found]
    assert strip_cookies(data) == others_in(data)
    assert strip_cookies(strip_cookies(data)) == strip_cookies(data)
    assert allowed_set_cookie(data) != is_ours(data.split(b";")[0])
    assert host_only(host_only(data)) == host_only(data)


def hosts(data: bytes) -> None:
    try:
        host, port = split_host(data)
    except InvalidRequest:
        return
    assert normalise_host(host) == host
    assert split_host(host.encode() if port is None else b"%b:%d" % (host.encode(), port)) == (
        host,
        port,
    )


def clients(data: bytes) -> None:
    """Whoever forwards, what comes out is an address."""
    trusted = [parse_network("10.0.0.0/8"), parse_network("2000::/3")]
    headers = [(b"x-forwarded-for", line) for line in data.split(b"\n")]
    ip_address(client_address("10.0.0.1", headers, trusted))
    secret = presented_secret([(b"authorization", data)])
    assert secret is None or secret.isascii()
    header = told(lambda: parse_proxy_header(data), RemoteProtocolError)
    assert header == REFUSED or header is None or header.length <= len(data)  # type: ignore[attr-defined]


def websocket_frames(data: bytes) -> None:
    def frames(pieces: Sequence[bytes]) -> object:
        reader = FrameReader(1000)
        return [frame for piece in pieces for frame in reader.feed(piece)]

    whole = told(lambda: frames([data[1:]]), RemoteProtocolError)
    assert told(lambda: frames(parted(data)), RemoteProtocolError) == whole


# --- TLS and the tunnel ------------------------------------------------------------------------------


def client_hello(data: bytes) -> None:
    expected = told(lambda: meaning_of_hello(data), RemoteProtocolError)
    for _ in range(2):
        assert told(lambda: parse_client_hello(data), RemoteProtocolError) == expected


def yamux(data: bytes) -> None:
    """Wherever frames are cut they mean the same; what is owed to the peer stays small."""

    def events(pieces: Sequence[bytes]) -> list[Event]:
        connection = Connection(client=bool(data[:1] > b"\x80"), max_streams=8)
        found = [event for piece in pieces for event in connection.receive_data(piece)]
        assert len(connection.data_to_send()) <= 64 * 1024
        assert connection.stream_count <= 8
        return joined(found)

    whole = told(lambda: events([data[1:]]), RemoteProtocolError, LimitExceeded)
    assert told(lambda: events(parted(data)), RemoteProtocolError, LimitExceeded) == whole


def joined(events: Sequence[Event]) -> list[Event]:
    """Return the events with what came of a stream in a row as one piece."""
    found: list[Event] = []
    for event in events:
        match event, found[-1:]:
            case DataReceived(stream_id=now, data=more), [DataReceived(stream_id=last, data=data)]:
                if now == last:
                    found[-1] = DataReceived(now, data + more)
                    continue
        found.append(event)
    return found


def tunnel_messages(data: bytes) -> None:
    decoders: list[msgspec.msgpack.Decoder[object]] = [
        control_decoder,  # type: ignore[list-item]
        request_decoder,  # type: ignore[list-item]
        answer_decoder,  # type: ignore[list-item]
    ]
    for decoder in decoders:

        def messages(pieces: Sequence[bytes], decoder: msgspec.msgpack.Decoder[object]) -> object:
            inbox, found = Inbox(), []
            for piece in pieces:
                inbox.feed(piece)
                while (message := inbox.take(decoder)) is not None:
                    found.append(message)
            return found, inbox.rest()

        whole = told(lambda d=decoder: messages([data[1:]], d), RemoteProtocolError)  # type: ignore[misc]
        assert told(lambda d=decoder: messages(parted(data), d), RemoteProtocolError) == whole  # type: ignore[misc]
        if isinstance(whole, tuple):
            for message in whole[0]:
                assert messages([pack(message)], decoder) == ([message], b"")


# --- What administrators write -----------------------------------------------------------------------


def templates(data: bytes) -> None:
    """A header's value is printable, short, and one of few."""
    try:
        template = parse_template(data.decode("latin-1"))
    except InvalidRequest:
        return
    values, skipped = template.render_header({"username": ("alice",), "jwt": ("x.y.z",)}, TRAITS)
    assert len(values) <= MAX_VALUES
    assert values or skipped
    for value in values:
        assert re.fullmatch(r"[\x20-\x7e]*", value)
        assert len(value) <= MAX_HEADER_VALUE


def patterns(data: bytes) -> None:
    """A pattern and a value, parted by a line feed; a glob is what `re` makes of it."""
    pattern, _, value = data.decode("latin-1").partition("\n")
    try:
        matches = compile_pattern(pattern)
    except InvalidRequest:
        return
    does = matches(value)
    if not (pattern.startswith("^") and pattern.endswith("$")) and STAR not in pattern:
        assert does == fits_glob(pattern, value)


def fits_glob(pattern: str, value: str) -> bool:
    """Tell whether a value fits: by all places in it that could be reached so far."""
    places = {0}
    for char in pattern:
        if char == "*":
            places = set(range(min(places), len(value) + 1)) if places else places
        else:
            places = {place + 1 for place in places if value[place : place + 1] == char}
    return len(value) in places


def config(data: bytes) -> None:
    """A file is taken, or each complaint says where."""
    text = data.decode("utf-8", "replace")

    def read() -> None:
        parse_config(text, name="FILE", folder=Path("/etc"), machine=MACHINE)

    assert all(re.match(r"FILE:\d+:\d+: ", line) for line in complaints(read))


def resources(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = complaints(lambda: read_resources(text, name="FILE"))
    assert all(re.match(r"FILE(:\d+:\d+)?: ", line) for line in found)


def complaints(read: Callable[[], object]) -> list[str]:
    """Return what is wrong with a file, a line each."""
    try:
        read()
    except ConfigError as error:
        return str(error).split("\n")
    return []


HEAD = b"POST /a?b HTTP/1.1\r\nHost: a.test:443\r\nCookie: a=b\r\nContent-Length: 3\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LINES = (
    *(b"\r\n", b"\r\n\r\n", b"Host: a\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n"),
    *(b"HTTP/1.0", b"HTTP/1.1", b"Connection: ", b"close", b"Upgrade", b"Expect: 100-continue\r\n"),
)
SNI = bytes.fromhex("0000000b0009000006612e74657374")
ALPN = bytes.fromhex("0010000e000c02683208687474702f312e31")
HELLO_BODY = b"\x03\x03" + bytes(32) + b"\0\0\x02\x13\x01\x01\0\0\x21" + SNI + ALPN
HELLO = b"\x16\x03\x01\0\x4f\x01\0\0\x4b" + HELLO_BODY
FILE = b"""auth_service: {enabled: yes, cluster_name: a.test}
proxy_service: {enabled: yes, public_addr: a.test:443}
app_service:
  enabled: yes
  apps:
  - {name: grafana, uri: "http://localhost:3000", rewrite: {headers: ["X-A: {{external.env}}"]}}
"""
ROLE = b"""kind: role
version: v5
metadata: {name: dev}
spec: {allow: {app_labels: {env: [dev, "^a.*$"]}}}
"""

TARGETS: Final[dict[str, Target]] = {
    "request-head": Target(request_head, [HEAD, HANDSHAKE, b"GET / HTTP/1.0\r\n\r\n"], LINES),
    "response-head": Target(
        response_head,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"HTTP/1.1 304 \r\nX: y\r\n\r\n"],
        LINES,
    ),
    "chunks": Target(
        chunks,
        [b"\x03" b"5\r\nhello\r\n0\r\nX: y\r\n\r\nGET", b"\x001\r\nx\r\n"],
        (b"\r\n", b"0\r\n\r\n", b"5\r\n", b"X: y\r\n", b"ffffffff"),
    ),
    "cookies": Target(
        cookies,
        [b"a=b; " + COOKIE + b"=v; c", b"a=b; Domain=x; Path=/"],
        (COOKIE, b"__Host-tport_", b"; ", b"=", b"Domain=", b"\n"),
    ),
    "hosts": Target(hosts, [b"A.test.:443", b"[::1]:80", b"127.0.0.1"], (b"[::", b"]:", b"xn--")),
    "clients": Target(
        clients,
        [b"10.0.0.2, 192.0.2.1\n[::1]:80", b"Basic dDp0", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"],
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", b"Bearer tport_", b"PROXY TCP6 "),
    ),
    "websocket-frames": Target(
        websocket_frames, [b"\x01\x81\x05hello", b"\x02\x81\x81abcdx\x88\x02\x03\xe8"], (b"\x81\x7e",)
    ),
    "client-hello": Target(client_hello, [HELLO, HELLO[:-1]], (SNI, ALPN, b"\x16\x03\x01")),
    "yamux": Target(
        yamux,
        [
            b"\xff" + bytes.fromhex("000000010000000200000003") + b"abc",
            b"\x00" + bytes.fromhex("000100010000000100000000000000040000000100000000"),
            b"\x05" + bytes.fromhex("0002000100000000000000070003000000000000 00000000"),
        ],
        (bytes.fromhex("00000001 00000001"), bytes.fromhex("00010004"), b"\0\2\0\1"),
    ),
    "tunnel-messages": Target(
        tunnel_messages, [
            b"\x02" + pack(Accepted()),
            b"\x20" + pack(ResponseHead(status=200, reason=b"", headers=b"a: b\r\n", length=3)),
            b"\x08" + pack(Offers(apps=())) + b"rest",
        ], (b"\x91\xa8accepted", b"\x94\xa8response", b"\x9c\xa7request", b"\xa4type")
    ),
    "templates": Target(
        templates,
        [
            b"Bearer {{internal.jwt}}",
            b'{{regexp.replace(external.env, "^p(.*)$", "x-$1")}}',
            b"{{email.local(external.email)}}-{{external.many}}",
        ],
        (b"{{", b"}}", b"internal.", b"external.", b"email.local(", b"regexp.replace(", b'"', b"`"),
    ),
    "patterns": Target(
        patterns, [b"prod-*\nprod-1", b"^(a|b)+[^c-e]{2,3}$\nabfg"], (b"^", b"$", b"(?:", b"\\d")
    ),
    "config": Target(config, [FILE], (b"\n- ", b": ", b"&a ", b"*a", b"<<: ", b"!!", b"---\n")),
    "resources": Target(resources, [ROLE], (b"kind: ", b"spec: ", b"\n---\n", b"user", b"app")),
}  # fmt: skip
