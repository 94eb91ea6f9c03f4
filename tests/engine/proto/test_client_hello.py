import ssl
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.defaults import MAX_CLIENT_HELLO
from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.client_hello import HTTPS_ONLY, ClientHello, NotTls, parse_client_hello


def hello_of(server_name: str | None, alpn: list[str], **versions: ssl.TLSVersion) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    for name, version in versions.items():
        setattr(context, name, version)
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


HELLO = hello_of("Grafana.Proxy.Test", ["h2", "http/1.1"])
MEANING = ClientHello("grafana.proxy.test", ("h2", "http/1.1"))
BODY = HELLO[5:]


def records(message: bytes, size: int) -> bytes:
    return b"".join(
        b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
        for piece in (message[at : at + size] for at in range(0, len(message), size))
    )


def made(extensions: bytes, *, rest: bytes = b"") -> bytes:
    """A ClientHello by hand."""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += len(extensions).to_bytes(2, "big") + extensions + rest
    return records(b"\x01" + len(body).to_bytes(3, "big") + body, 16384)


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def sni(name: bytes, kind: int = 0) -> bytes:
    entry = bytes([kind]) + len(name).to_bytes(2, "big") + name
    return extension(0, len(entry).to_bytes(2, "big") + entry)


@pytest.mark.parametrize(
    ("name", "alpn", "meaning"),
    [
        ("Grafana.Proxy.Test", ["h2", "http/1.1"], MEANING),
        (None, ["tport-tunnel/1"], ClientHello(None, ("tport-tunnel/1",))),
        ("proxy.test", [], ClientHello("proxy.test", ())),
        ("127.0.0.1", [], ClientHello(None, ())),
    ],
)
def test_what_openssl_asks_for_is_understood(
    name: str | None, alpn: list[str], meaning: ClientHello
) -> None:
    assert parse_client_hello(hello_of(name, alpn)) == meaning
    assert (
        parse_client_hello(hello_of(name, alpn, maximum_version=ssl.TLSVersion.TLSv1_2)) == meaning
    )


@given(cut=st.integers(0, len(HELLO)), after=st.binary(max_size=50))
def test_it_means_the_same_wherever_the_network_cuts_it(cut: int, after: bytes) -> None:
    assert parse_client_hello(HELLO[:cut]) == (MEANING if cut == len(HELLO) else None)
    assert parse_client_hello(HELLO + after) == MEANING


@given(size=st.integers(len(BODY) // 31 + 1, len(BODY)))
def test_it_means_the_same_however_it_is_spread_over_records(size: int) -> None:
    spread = records(BODY, size)

    assert parse_client_hello(spread) == MEANING
    assert parse_client_hello(spread[:-1]) is None


@given(
    st.binary(max_size=400) | st.binary(max_size=400).map(lambda b: b"\x16\x03\x01\x01\0\x01" + b)
)
@example(b"")
def test_any_bytes_are_a_hello_or_need_more_or_are_refused(data: bytes) -> None:
    try:
        parse_client_hello(data)
    except RemoteProtocolError:
        pass


@given(st.data())
def test_a_broken_hello_never_does_more_than_be_refused(data: st.DataObject) -> None:
    broken = bytearray(HELLO)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_client_hello(bytes(broken))
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    ("data", "http"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"POST /x", True),
        (b"GE", True),
        (b"OPTIONS * HTTP/1.1\r\n", True),
        (b"SSH-2.0-OpenSSH_9\r\n", False),
        (b"\x80\x2e\x01\x03\x01", False),  # SSLv2
        (b"\0\0\0\0", False),
        (b"\x16\x02\x01\0\x05hello", False),
        (b"\x16\x03\x01\0\x04\x01\0\x10\0\x15\x03\x01", False),  # a hello, then an alert
    ],
)
def test_what_is_no_tls_is_told_apart_by_its_first_bytes(data: bytes, http: bool) -> None:
    with pytest.raises(NotTls) as refused:
        parse_client_hello(data)

    assert refused.value.http is http


def test_the_answer_to_plain_http_is_whole() -> None:
    head, _, body = HTTPS_ONLY.partition(b"\r\n\r\n")

    assert b"Content-Length: %d\r\n" % len(body) in head


@pytest.mark.parametrize(
    "name", [b"a_b.test", b"", b"a\0.test", b"x" * 300, b"\xff.test", b"[::1]"]
)
def test_a_name_that_is_no_host_name_is_none(name: bytes) -> None:
    assert parse_client_hello(made(sni(name))) == ClientHello(None, ())


@pytest.mark.parametrize(
    ("name", "normal"),
    [(b"PROXY.test.", "proxy.test"), (b"xn--bcher-kva.test", "xn--bcher-kva.test")],
)
def test_a_name_comes_in_its_one_form(name: bytes, normal: str) -> None:
    """TLS-11: as Host does."""
    assert parse_client_hello(made(sni(name))) == ClientHello(normal, ())


def test_extensions_we_do_not_know_are_no_concern_of_ours() -> None:
    grease = extension(0x0A0A, b"") + extension(0xFAFA, b"\0" * 2000)

    assert parse_client_hello(made(grease + sni(b"proxy.test"))) == ClientHello("proxy.test", ())


@pytest.mark.parametrize(
    "data",
    [
        made(sni(b"a.test") + sni(b"b.test")),
        made(sni(b"a.test") + extension(16, b"\0\0")),
        made(extension(16, b"\0\x01\0")),
        made(extension(16, b"\0\x03\x02h")),
        made(extension(16, b"\0\x03\x02h2!")),
        made(extension(0, b"\0\x09\0\0\x06a.test!")),
        made(b"\0"),
        records(b"\x02\0\0\x02\x03\x03", 100),  # a ServerHello
        records(b"\x01\0\0\x02\x03\x03", 100),  # ends early
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        records(b"\x01\xff\xff\xff", 100),
        records(BODY, 5),
    ],
)  # fmt: skip
def test_a_hello_that_contradicts_itself_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_client_hello(data)


def test_a_client_that_never_comes_to_an_end_is_stopped() -> None:
    endless = records(b"\x01\0\x3f\xfc" + bytes(MAX_CLIENT_HELLO), 16384)[:MAX_CLIENT_HELLO]

    with pytest.raises(RemoteProtocolError, match="over 16384 bytes"):
        parse_client_hello(endless)


def test_bytes_that_trickle_in_cost_little() -> None:
    """Every prefix is looked at once: that must not be quadratic in anything that hurts."""
    hello = made(extension(0xFAFA, bytes(8000)))
    started = time.process_time()

    for end in range(len(hello)):
        assert parse_client_hello(hello[:end]) is None

    assert time.process_time() - started < 2
