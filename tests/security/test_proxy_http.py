"""HTTP-01 to HTTP-13 through a whole proxy and agent: what is refused, and what an application sees.

Every request here comes with a live session: nothing but the rule under test keeps it out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable

import pytest
import trio

from tests.browser import Browser
from tests.stack import (
    Answer,
    Person,
    Stack,
    open_stack,
    read_all,
    read_answer,
    without_secrets,
)
from tport.engine.types.app import Header, Rewrite

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
ACCEPT = base64.b64encode(
    hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
).decode()
SWITCH = (
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
TEMPLATES = Rewrite(
    headers=(
        Header(name="X-External-Trait", value="{{external.env}}"),
        Header(name="X-Team", value="{{external.team}}"),
        Header(name="Authorization", value="Bearer {{internal.jwt}}"),
    )
)


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(rewrite=TEMPLATES, drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    person = await stack.user("alice", traits={"team": ("blue",)})
    await person.open("echo")
    stack.raw_app.answers(FINE)
    assert (await person.get("raw")).status == 200  # known to answer by plain HTTP from now on
    stack.raw_app.heads.clear()
    return person


def message(alice: Person, app: str, line: str, *headers: str, host: str | None = None) -> bytes:
    """Write a request by its first line and headers, good but for what the caller makes of it."""
    stack = alice.stack
    lines = [line, f"Host: {stack.host(app)}:{stack.port}" if host is None else host]
    lines += [f"Cookie: {alice.cookie(app)}", *headers]
    return "\r\n".join([*filter(None, lines), "", ""]).encode("latin-1")


def get(alice: Person, *headers: str, app: str = "echo", target: str = "/") -> bytes:
    return message(alice, app, f"GET {target} HTTP/1.1", *headers)


def post(alice: Person, *headers: str, body: bytes = b"") -> bytes:
    return message(alice, "echo", "POST / HTTP/1.1", *headers) + body


def connection_naming(header: str) -> Callable[[Person], bytes]:
    return lambda alice: get(alice, f"Connection: close, {header}")


CHUNKED = "Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

# Table 1.2a of the requirements: the request, and tport's column.
CORPUS: dict[str, tuple[Callable[[Person], bytes], int]] = {
    "HTTP-01 CL and TE": (lambda a: post(a, "Content-Length: 5", CHUNKED, body=END), 400),
    "HTTP-01 TE and CL": (lambda a: post(a, CHUNKED, "Content-Length: 5", body=END), 400),
    "HTTP-02 two equal": (lambda a: post(a, "Content-Length: 0", "Content-Length: 0"), 400),
    "HTTP-02 two": (lambda a: post(a, "Content-Length: 0", "Content-Length: 9"), 400),
    "HTTP-02 a list": (lambda a: post(a, "Content-Length: 5, 5", body=b"hello"), 400),
    "HTTP-02 +5": (lambda a: post(a, "Content-Length: +5", body=b"hello"), 400),
    "HTTP-02 0x5": (lambda a: post(a, "Content-Length: 0x5", body=b"hello"), 400),
    "HTTP-02 1_0": (lambda a: post(a, "Content-Length: 1_0", body=b"hello12345"), 400),
    "HTTP-02 empty": (lambda a: post(a, "Content-Length:"), 400),
    "HTTP-02 30 digits": (lambda a: post(a, "Content-Length: " + "0" * 30), 400),
    "HTTP-02 10**15": (lambda a: post(a, f"Content-Length: {10**15}"), 413),
    "HTTP-03 space before the colon": (lambda a: post(a, "Content-Length : 0"), 400),
    "HTTP-03 obs-fold": (lambda a: get(a, "X: a", " b"), 400),
    "HTTP-03 obs-fold of TE": (lambda a: post(a, "Transfer-Encoding:", "\tchunked", body=END), 400),
    "HTTP-03 bare LF": (lambda a: get(a).replace(b"\r\n", b"\n"), 400),
    "HTTP-03 one bare LF": (lambda a: get(a, "X: a\nY: b"), 400),
    "HTTP-03 bare CR": (lambda a: get(a, "X: a\rY: b"), 400),
    "HTTP-03 NUL": (lambda a: get(a, "X: a\0b"), 400),
    "HTTP-03 empty name": (lambda a: get(a, ": b"), 400),
    "HTTP-05 identity": (lambda a: post(a, "Transfer-Encoding: identity"), 501),
    "HTTP-05 gzip, chunked": (lambda a: post(a, "Transfer-Encoding: gzip, chunked", body=END), 501),
    "HTTP-05 xchunked": (lambda a: post(a, "Transfer-Encoding: xchunked", body=END), 501),
    # The table has 501 for VT too; a control character is refused before its meaning.
    "HTTP-05 VT": (lambda a: post(a, "Transfer-Encoding: \x0bchunked", body=END), 400),
    "HTTP-05 twice": (lambda a: post(a, CHUNKED, CHUNKED, body=END), 400),
    "HTTP-05 in 1.0": (lambda a: post(a, CHUNKED, body=END).replace(b"/1.1", b"/1.0", 1), 400),
    "HTTP-06 absolute": (lambda a: get(a, target="http://evil.test/"), 400),
    "HTTP-06 absolute, ours": (lambda a: get(a, target=a.stack.url("echo")), 400),
    "HTTP-06 CONNECT": (lambda a: message(a, "echo", "CONNECT evil:443 HTTP/1.1"), 405),
    "HTTP-06 TRACE": (lambda a: message(a, "echo", "TRACE / HTTP/1.1"), 405),
    "HTTP-06 asterisk": (lambda a: message(a, "echo", "OPTIONS * HTTP/1.1"), 400),
    "HTTP-06 fragment": (lambda a: get(a, target="/a#b"), 400),
    "HTTP-06 0xff": (lambda a: get(a, target="/\xff"), 400),
    "HTTP-06 no slash": (lambda a: get(a, target="a"), 400),
    "HTTP-06 long": (lambda a: get(a, target="/" + "a" * 8192), 414),
    "HTTP-06 lower-case method": (lambda a: message(a, "echo", "get / HTTP/1.1"), 400),
    "HTTP-06 odd method": (lambda a: message(a, "echo", "GE(T / HTTP/1.1"), 400),
    "HTTP-06 1.9": (lambda a: message(a, "echo", "GET / HTTP/1.9"), 505),
    "HTTP-06 2.0": (lambda a: message(a, "echo", "GET / HTTP/2.0"), 505),
    "HTTP-06 PRI": (lambda a: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP-06 0.9": (lambda a: b"GET /\r\n\r\n", 400),
    "HTTP-07 none": (lambda a: message(a, "echo", "GET / HTTP/1.1", host=""), 400),
    "HTTP-07 two equal": (lambda a: get(a, f"Host: {a.stack.host('echo')}"), 400),
    "HTTP-07 two": (lambda a: get(a, "Host: evil.test"), 400),
    "HTTP-07 empty": (lambda a: message(a, "echo", "GET / HTTP/1.1", host="Host:"), 400),
    "HTTP-07 junk": (
        lambda a: message(a, "echo", "GET / HTTP/1.1", host="Host: a b/@evil?#"),
        400,
    ),
    "HTTP-07 injected": (
        lambda a: message(a, "echo", "GET / HTTP/1.1", host='Host: a";for=1'),
        400,
    ),
    "HTTP-08 websocket and h2c": (
        lambda a: get(a, *UPGRADE).replace(b": websocket", b": websocket, h2c"),
        400,
    ),
    "HTTP-08 POST": (lambda a: get(a, *UPGRADE).replace(b"GET", b"POST", 1), 400),
    "HTTP-08 body": (lambda a: get(a, *UPGRADE, "Content-Length: 3") + b"abc", 400),
    "HTTP-08 version 8": (lambda a: get(a, *UPGRADE).replace(b": 13", b": 8"), 400),
    "HTTP-08 short key": (lambda a: get(a, *UPGRADE).replace(KEY.encode(), b"c2hvcnQ="), 400),
    "HTTP-08 no key": (lambda a: get(a, *UPGRADE).replace(b"Sec-WebSocket-Key", b"X-Key"), 400),
    "HTTP-10 y 100-continue": (
        lambda a: post(a, "Expect: y 100-continue", "Content-Length: 5", body=b"hello"),
        417,
    ),
    "HTTP-10 obfuscated": (
        lambda a: post(a, "Expect: 100-continue, 100-continue", "Content-Length: 0"),
        417,
    ),
    **{
        f"HTTP-11 Connection: {name}": (connection_naming(name), 400)
        for name in (
            *("X-Forwarded-Host", "Teleport-Jwt-Assertion", "Cookie", "Authorization"),
            *("Host", "x_forwarded_for", "Content-Length"),
        )
    },
}  # fmt: skip


async def test_what_two_servers_could_read_in_two_ways_reaches_no_application(
    stack: Stack, alice: Person
) -> None:
    """HTTP-01, HTTP-02, HTTP-03, HTTP-05, HTTP-06, HTTP-07, HTTP-08, HTTP-10, HTTP-11.

    Behind each refused request stands a good one: that is no request any more either.
    """
    smuggled = get(alice, target="/smuggled")
    wrong: dict[str, object] = {}
    for name, (make, status) in CORPUS.items():
        answer = await stack.raw(stack.host("echo"), make(alice) + smuggled)
        if (answer.status, answer.closed) != (status, True) or stack.echo.seen:
            wrong[name] = (answer.status, answer.closed, stack.echo.seen[:])
        stack.echo.seen.clear()

    assert wrong == {}
    assert (await alice.get("echo")).status == 200  # the session was good all along


async def test_http_01_a_refused_request_is_the_last_of_its_connection(
    stack: Stack, alice: Person
) -> None:
    smuggled = get(alice, target="/x")
    both = post(alice, "Content-Length: 5", CHUNKED, body=END)

    async with await stack.connect(stack.host("echo")) as tls:
        await tls.send_all(both + smuggled)
        said = await read_all(tls)

    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 400 ")
    assert stack.echo.seen == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"5;a\r\nhello\r\n0\r\n\r\n", b"5;a\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
        *(b"5 \r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n"),
        b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n",
    ],
)
async def test_http_04_a_body_of_doubtful_chunks_is_no_whole_request(
    stack: Stack, alice: Person, body: bytes
) -> None:
    """HTTP-04: 400 and closed; what the application began to read never ends well."""
    answer = await stack.raw(
        stack.host("echo"), post(alice, CHUNKED, body=body) + get(alice, target="/smuggled")
    )

    assert (answer.status, answer.closed) == (400, True)
    assert stack.echo.seen == []


async def test_http_04_trailers_go_no_further(stack: Stack, alice: Person) -> None:
    """HTTP-04: nor do they become headers, and the next request is read where they end."""
    body = b"5\r\nhello\r\n0\r\nTeleport-Jwt-Assertion: x\r\nX-Trailer: y\r\n\r\n"

    async with await stack.connect(stack.host("echo")) as tls:
        await tls.send_all(post(alice, CHUNKED, "Trailer: X-Trailer", body=body))
        first = await read_answer(tls)
        await tls.send_all(get(alice, target="/second"))
        second = await read_answer(tls)

    assert (first.status, first.body, second.status) == (200, b"hello", 200)
    with_body, without = stack.echo.seen
    assert (with_body.body, without.target) == (b"hello", b"/second")
    for seen in stack.echo.seen:
        assert seen.values(b"x-trailer") == []
        assert seen.values(b"trailer") == []
        assert b"x" not in seen.values(b"teleport-jwt-assertion")


def dateless(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers without the second at which they were sent."""
    return [(name, "now" if name == "date" else value) for name, value in headers]


async def test_http_07_an_unknown_application_looks_like_one_without_access(stack: Stack) -> None:
    """HTTP-07: to strangers and to a person without roles; nothing tells which names exist."""
    await stack.outsider("mallory")
    mallory = Browser(stack)
    await mallory.sign_in("mallory")
    shown = []
    for name in ("echo", "none"):
        first = await mallory.ask(stack.url(name), context=stack.context(verify=False))
        last = await mallory.go(first.header("location"))
        page = without_secrets(last.body)
        shown.append(
            (
                (first.status, [header for header, _ in first.headers]),
                (
                    last.status,
                    dateless(last.headers),
                    page.replace(stack.host(name).encode(), b"HOST"),
                ),
            )
        )

    known, unknown = shown
    assert known[0] == unknown[0]
    assert known[0][0] == 302
    assert known[1] == unknown[1]
    assert known[1][0] == 403


async def test_http_07_the_application_is_told_the_address_people_use(
    stack: Stack, alice: Person
) -> None:
    """HTTP-07: Host comes from configuration; X-Forwarded-Host is the registered public address."""
    answer = await alice.get(
        "echo", **{"X-Forwarded-Host": "evil.test", "Forwarded": "host=evil.test"}
    )

    assert answer.status == 200
    [seen] = stack.echo.seen
    assert seen.values(b"x-forwarded-host") == [f"{stack.host('echo')}:{stack.port}".encode()]
    assert seen.values(b"host") == [f"127.0.0.1:{stack.echo.port}".encode()]
    assert seen.values(b"forwarded") == []


async def test_http_08_no_upgrade_but_websocket_is_passed_on(stack: Stack, alice: Person) -> None:
    h2c = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    )

    answer = await stack.raw(stack.host("echo"), get(alice, *h2c))

    assert (answer.status, answer.header("upgrade")) == (200, "")
    [seen] = stack.echo.seen
    assert [seen.values(n) for n in (b"upgrade", b"http2-settings", b"connection")] == [[], [], []]


async def test_http_09_bytes_after_an_unconfirmed_upgrade_are_no_request(
    stack: Stack, alice: Person
) -> None:
    """HTTP-09: the application answers 426; one answer, closed, one request seen."""
    stack.raw_app.answers(
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nno"
    )
    request = get(alice, *UPGRADE, app="raw") + get(alice, app="raw", target="/admin")

    async with await stack.connect(stack.host("raw")) as tls:
        await tls.send_all(request)
        said = await read_all(tls)

    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 426 ")
    assert len(stack.raw_app.heads) == 1
    assert b"/admin" not in stack.raw_app.heads[0]


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(ACCEPT.encode(), b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        SWITCH.replace(b"Sec-WebSocket-Accept", b"X-Accept"),
        SWITCH.replace(b"websocket", b"h2c"),
    ],
)
async def test_http_09_a_switch_that_does_not_fit_is_a_broken_application(
    stack: Stack, alice: Person, answer: bytes
) -> None:
    stack.raw_app.answers(answer)

    got = await stack.raw(stack.host("raw"), get(alice, *UPGRADE, app="raw"))

    assert (got.status, got.closed) == (502, True)


async def test_http_09_a_switch_nobody_asked_for_is_a_broken_application(
    stack: Stack, alice: Person
) -> None:
    stack.raw_app.answers(SWITCH)

    got = await stack.raw(stack.host("raw"), get(alice, app="raw"))

    assert got.status == 502


async def test_http_09_after_a_good_switch_bytes_pass_both_ways(
    stack: Stack, alice: Person
) -> None:
    """HTTP-09: also those that came with the request and with the answer, in their order."""
    received = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        data = (await stack.raw_app.take_head(stream)).partition(b"\r\n\r\n")[2]
        await stream.send_all(SWITCH + b"\x81\x05first")
        while b"GET /admin" not in data:
            data += await stream.receive_some()
        await stream.send_all(b"\x81\x06second")
        received.set()

    stack.raw_app.script = script
    async with await stack.connect(stack.host("raw")) as tls:
        await tls.send_all(get(alice, *UPGRADE, app="raw") + b"GET /admin")
        answer = await read_answer(tls)
        said = answer.body + await read_all(tls)

    assert answer.status == 101
    assert said == b"\x81\x05first\x81\x06second"
    assert received.is_set()
    assert len(stack.raw_app.heads) == 1


async def test_http_10_expect_is_answered_here_and_not_passed_on(
    stack: Stack, alice: Person
) -> None:
    async with await stack.connect(stack.host("echo")) as tls:
        await tls.send_all(post(alice, "Expect: 100-continue", "Content-Length: 5"))
        goes_on = await read_answer(tls)
        await tls.send_all(b"hello")
        answer = await read_answer(tls)

    assert (goes_on.status, answer.status, answer.body) == (100, 200, b"hello")
    [seen] = stack.echo.seen
    assert seen.values(b"expect") == []


async def test_http_10_an_early_answer_ends_the_connection(stack: Stack, alice: Person) -> None:
    """HTTP-10: 401 to the head of an upload of 10 MB; the next connection is a new beginning."""
    stack.raw_app.answers(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    head = message(alice, "raw", "POST /upload HTTP/1.1", f"Content-Length: {10_000_000}")

    async with await stack.connect(stack.host("raw")) as tls:
        await tls.send_all(head + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await read_answer(tls)
        left = await read_all(tls)
    stack.raw_app.answers(FINE)
    after = await alice.get("raw")

    assert (answer.status, answer.body, answer.closed, left) == (401, b"no", True, b"")
    assert (after.status, after.body) == (200, b"fine")
    assert [head.partition(b" HTTP")[0] for head in stack.raw_app.heads] == [
        b"POST /upload",
        b"GET /",
    ]


async def test_http_11_what_connection_lists_is_dropped_and_nothing_else(
    stack: Stack, alice: Person
) -> None:
    request = get(
        alice, "Connection: close, X-Id", "X-Id: 1", "Keep-Alive: 5", "TE: trailers", "X-Stays: 2"
    )

    answer = await stack.raw(stack.host("echo"), request)

    assert answer.status == 200
    [seen] = stack.echo.seen
    for gone in (b"x-id", b"connection", b"keep-alive", b"te"):
        assert seen.values(gone) == []
    assert seen.values(b"x-stays") == [b"2"]
    assert len(seen.values(b"teleport-jwt-assertion")) == 1
    assert seen.values(b"x-forwarded-for") == [b"127.0.0.1"]


RESERVED = (
    *("Teleport-Jwt-Assertion", "X-Teleport-Jwt", "X-Teleport-Anything", "Tport-Anything"),
    *("Cf-Access-Token", "Cf-Access-Jwt-Assertion", "X-Forwarded-For", "X-Forwarded-Host"),
    *("X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl"),
    *("X-Forwarded-Uri", "X-Forwarded-User", "Forwarded", "X-Real-Ip", "X-Client-Cert"),
    *("X-Client-Cert-Dn", "X-Ssl-Client-Verify", "Proxy", "X-External-Trait", "X-Team"),
    "Authorization",
)
OURS = {
    "teleport-jwt-assertion",
    "authorization",
    "x-team",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
}


async def test_http_12_13_no_spelling_of_a_reserved_name_brings_a_clients_value(
    stack: Stack, alice: Person
) -> None:
    """HTTP-12, HTTP-13: a server that folds names (CGI, WSGI, PHP) sees our values and no other."""
    spellings = (
        str,
        str.lower,
        str.upper,
        lambda name: name.replace("-", "_"),
        lambda name: name.replace("-", "."),
        lambda name: name.replace("-", "_", 1),
        lambda name: f"{name}_",
    )
    wrong = []
    for spell in spellings:
        await stack.raw(stack.host("echo"), get(alice, *(f"{spell(n)}: evil" for n in RESERVED)))
        seen = stack.echo.seen.pop()
        folded: dict[str, list[bytes]] = {}
        for name, value in seen.headers:
            key = name.decode().lower().replace("_", "-").replace(".", "-").rstrip("-")
            folded.setdefault(key, []).append(value)
        for reserved in RESERVED:
            values = folded.get(reserved.lower(), [])
            if b"evil" in values or len(values) != (reserved.lower() in OURS):
                wrong.append((spell(reserved), values))

    assert wrong == []


async def test_http_13_a_template_without_its_trait_removes_the_clients_header(
    stack: Stack, alice: Person
) -> None:
    await alice.get("echo", **{"X-External-Trait": "admin", "X-Team": "red"})

    [seen] = stack.echo.seen
    assert seen.values(b"x-external-trait") == []
    assert seen.values(b"x-team") == [b"blue"]


async def test_http_13_a_websocket_s_handshake_has_the_configured_headers_and_no_others(
    stack: Stack, alice: Person
) -> None:
    evil = ("X-Team: red", "X-External-Trait: admin", "Authorization: Bearer evil")
    await stack.raw(stack.host("echo"), get(alice, *UPGRADE, *evil))

    [seen] = stack.echo.seen
    assert seen.values(b"sec-websocket-key") == [KEY.encode()]
    assert seen.values(b"x-team") == [b"blue"]
    assert seen.values(b"x-external-trait") == []
    [bearer] = seen.values(b"authorization")
    assert [bearer] == [b"Bearer " + jwt for jwt in seen.values(b"teleport-jwt-assertion")]


async def test_http_13_reserved_names_are_stripped_from_websockets_and_for_the_debug_app_too(
    stack: Stack, alice: Person
) -> None:
    evil = ("Teleport-Jwt-Assertion: evil", "X-Forwarded-For: 6.6.6.6", "Cf-Access-Token: evil")
    stack.raw_app.answers(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
    await alice.open("dumper")

    await stack.raw(stack.host("raw"), get(alice, *UPGRADE, *evil, app="raw"))
    debug = await stack.raw(stack.host("dumper"), get(alice, *evil, app="dumper"))

    [head] = stack.raw_app.heads
    assert b"Sec-Websocket-Key".lower() in head.lower()
    for shown in (head, debug.body):
        assert b"evil" not in shown
        assert b"6.6.6.6" not in shown
        assert b"teleport-jwt-assertion" in shown.lower()


async def test_a_refusal_is_a_page_and_says_why(stack: Stack, alice: Person) -> None:
    """HTTP-01: the person who wrote the client learns what was wrong."""
    answer: Answer = await stack.raw(
        stack.host("echo"), post(alice, "Content-Length: 5", CHUNKED, body=END)
    )

    assert b"exclude each other" in answer.body
