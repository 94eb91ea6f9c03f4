"""Cookies that a hostile application on the same site could plant (WEB-01, WEB-02, WEB-04)."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.proto.cookies import (
    allowed_set_cookie,
    find_cookie,
    is_ambiguous,
    is_ours,
    strip_cookies,
)

NAME = b"__Host-tport_app_0a1b2c3d"
PLAIN = (string.ascii_letters + string.digits + "_-").encode()


@pytest.mark.parametrize(
    "planted",
    [
        b"\xe2\x80\x80" + NAME + b"=evil",
        b"$Version=1;\x0b" + NAME + b"=evil",
        NAME.lower() + b"=evil",
        NAME + b" =evil",
        NAME + b'="evil"',
        NAME + b'="ev\\151l"',
        NAME + b"=ev il",
        NAME + b"=",
        NAME,
        b"a=" + NAME + b"=evil",
        b"=" + NAME + b"=evil",
    ],
)
def test_web_01_only_the_exact_bytes_are_our_cookie(planted: bytes) -> None:
    """WEB-01."""
    assert find_cookie([planted], NAME) is None


@pytest.mark.parametrize("values", [(b"good", b"evil"), (b"evil", b"good"), (b"good", b'"x"')])
def test_web_01_of_two_cookies_with_our_name_none_counts(values: tuple[bytes, bytes]) -> None:
    """WEB-01: in one header or in two."""
    first, second = (NAME + b"=" + value for value in values)

    for headers in ([first + b"; " + second], [first, second]):
        assert find_cookie(headers, NAME) is None
        assert is_ambiguous(headers, NAME)


@pytest.mark.parametrize(
    "odd", [b"bad[]=1", b"=x=y", b"\x80" * 8192, b'a="b', b"", b";;", b"\xe4="]
)
def test_web_02_an_odd_cookie_beside_ours_changes_nothing(odd: bytes) -> None:
    """WEB-02."""
    assert find_cookie([odd + b"; " + NAME + b"=good"], NAME) == b"good"
    assert find_cookie([NAME + b"=good; " + odd], NAME) == b"good"


@given(st.binary() | st.lists(st.sampled_from([NAME, b"=", b";", b" ", b"good"])).map(b"".join))
@example(NAME + b"=good;")
def test_web_02_any_bytes_hold_our_cookie_or_not(header: bytes) -> None:
    """WEB-02: found if and only if the exact pair is there, once; never an exception."""
    pairs = [pair.strip(b" \t") for pair in header.split(b";")]
    ours = [pair for pair in pairs if pair.startswith(NAME + b"=")]
    value = ours[0].removeprefix(NAME + b"=") if len(ours) == 1 else b""

    assert find_cookie([header], NAME) == (value if value and not value.strip(PLAIN) else None)


@pytest.mark.parametrize(
    "value",
    [
        b"__Host-tport_app=evil",
        b"__host-TPORT_web_1=evil; Path=/",
        b" \t__Host-tport_app=evil",
        b"\xe2\x80\x80__Host-tport_app=evil",
        b"\xa0__Host-tport_app =evil",
        b"=__Host-tport_app=evil",
        b"= __Host-tport_app=evil",
        b"__Host-tport_app",
    ],
)
def test_web_04_an_app_cannot_set_our_cookies(value: bytes) -> None:
    """WEB-04: not even the nameless cookie that is sent back as if it had our name."""
    assert not allowed_set_cookie(value)


@pytest.mark.parametrize("value", [b"session=__Host-tport_app=1", b"a=b; Path=/", b"__Host-x=1"])
def test_web_04_an_app_sets_its_own_cookies(value: bytes) -> None:
    """WEB-04."""
    assert allowed_set_cookie(value)


@given(st.binary())
def test_web_04_no_cookie_of_ours_reaches_an_app(header: bytes) -> None:
    """WEB-04."""
    rest = strip_cookies(header + b";" + NAME + b"=secret;" + header)

    assert not any(is_ours(pair.partition(b"=")[0].strip(b" \t")) for pair in rest.split(b";"))
    assert b"=secret" not in rest
