import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import InvalidRequest
from tport.engine.proto.host import is_address, normalise_host, split_host


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (b"grafana.proxy.test", ("grafana.proxy.test", None)),
        (b"GRAFANA.Proxy.Test.:443", ("grafana.proxy.test", 443)),
        (b"localhost:3080", ("localhost", 3080)),
        (b"127.0.0.1:3080", ("127.0.0.1", 3080)),
        (b"[::1]", ("[::1]", None)),
        (b"[2001:DB8:0::1]:8443", ("[2001:db8::1]", 8443)),
        (b"xn--bcher-kva.example", ("xn--bcher-kva.example", None)),
    ],
)
def test_a_host_header_becomes_a_normal_host_and_a_port(
    said: bytes, means: tuple[str, int | None]
) -> None:
    assert split_host(said) == means


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b".", b"a..b", b"-a.test", b"a-.test", b"a_b.test", b"a b", b"user@a.test"),
        *(b"a.test\n", b"a.test:", b"a.test:0443", b"a.test:0", b"a.test:99999", b"a.test:+1"),
        *(b"1.2.3", b"127.1", b"2130706433", b"1.2.3.4.5", b"0x7f.0.0.256", b"01.2.3.4"),
        *(b"[::1", b"::1", b"[::1]x", b"[::1%eth0]", b"[::1]:", b"[a.test]", b"%00"),
        "gr\u0430fana.test".encode(),
        b"a" * 64 + b".test",
        b".".join([b"a" * 60] * 5),
    ],
)
def test_what_is_no_host_is_refused(said: bytes) -> None:
    with pytest.raises(InvalidRequest):
        split_host(said)


def test_a_letter_that_only_lower_cases_to_ascii_is_none() -> None:
    """U+212A, the Kelvin sign, lower-cases to k."""
    with pytest.raises(InvalidRequest):
        normalise_host("\u212aibana.test")


@given(st.text())
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    try:
        host = normalise_host(text)
    except InvalidRequest:
        return
    assert normalise_host(host) == host
    assert split_host(host.encode("ascii")) == (host, None)


def test_addresses_are_told_from_names() -> None:
    assert is_address("127.0.0.1")
    assert is_address("[::1]")
    assert not is_address("localhost")
    assert not is_address("1.example")
