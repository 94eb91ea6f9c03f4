from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.proto.cookies import (
    clear_cookie,
    find_cookie,
    host_only,
    is_ours,
    named,
    set_cookie,
    strip_cookies,
)

NAME = b"__Host-tport_app_0a1b2c3d"


def test_a_cookie_is_found_among_others_and_over_several_headers() -> None:
    assert find_cookie([b"a=1; " + NAME + b"=good;b=2"], NAME) == b"good"
    assert find_cookie([b"a=1", NAME + b"=good"], NAME) == b"good"
    assert find_cookie([], NAME) is None


@pytest.mark.parametrize(
    ("header", "rest"),
    [
        (b"a=1; OURS=x; b=2", b"a=1; b=2"),
        (b"OURS=x; b=2", b"b=2"),
        (b"a=1; OURS=x", b"a=1"),
        (b"a=1;OURS=x;b=2", b"a=1;b=2"),
        (b"OURS=x", b""),
        (b"OURS=x; OURS=y", b""),
        (b"a=1;; b[]=\xff;OURS", b"a=1;; b[]=\xff"),
        (b" a = 1 ;\tb", b" a = 1 ;\tb"),
    ],
)
def test_our_cookies_are_taken_out_and_others_left_to_the_byte(header: bytes, rest: bytes) -> None:
    assert strip_cookies(header.replace(b"OURS", NAME)) == rest


_pair = st.binary().filter(lambda b: b";" not in b and not is_ours(b.partition(b"=")[0]))


@given(st.lists(_pair, min_size=1), st.integers(0))
def test_whatever_the_others_are_only_ours_goes(pairs: list[bytes], place: int) -> None:
    at = place % (len(pairs) + 1)
    ours = NAME + b"=x"
    with_ours = b"; ".join([*pairs[:at], ours, *pairs[at:]])

    rest = strip_cookies(with_ours)

    assert NAME not in rest
    assert rest.lstrip(b" \t") == b"; ".join(pairs).lstrip(b" \t")


def test_a_cookie_is_set_as_its_prefix_demands() -> None:
    assert set_cookie(NAME, b"v", max_age=timedelta(minutes=10)) == (
        NAME + b"=v; Max-Age=600; Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    assert clear_cookie(NAME, same_site="None") == (
        NAME + b"=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=None"
    )


@pytest.mark.parametrize(
    ("name", "value"), [(b"tport", b"v"), (NAME, b"v; Domain=x"), (NAME + b"\r\n", b"v")]
)
def test_what_would_not_stay_one_cookie_is_never_set(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"__Host|no name"):
        set_cookie(name, value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a=1; Domain=proxy.test; Path=/", b"a=1; Path=/"),
        (b"a=1; Path=/; Domain=.proxy.test", b"a=1; Path=/"),
        (b"a=1;DOMAIN = x;Secure", b"a=1;Secure"),
        (b"a=1; domain", b"a=1"),
        (b"a=1; domain=", b"a=1"),
        (b"a=1; Domain=a; Domain=b; HttpOnly", b"a=1; HttpOnly"),
        (b"a=1;\x0b\x00Domain=a", b"a=1"),
        (b"Domain=a; Path=/", b"Domain=a; Path=/"),
        (b"a=Domain=b; Path=/domain; Domains=x", b"a=Domain=b; Path=/domain; Domains=x"),
        (b"a=1;  Path=/ ;;  SameSite=None ", b"a=1;  Path=/ ;;  SameSite=None "),
        (
            b"a=\xff; Expires=Wed, 21 Oct 2026 07:28:00 GMT; domain=x",
            b"a=\xff; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        ),
        (b"", b""),
    ],
)
def test_a_cookie_loses_its_domain_and_not_a_byte_more(value: bytes, expected: bytes) -> None:
    """WEB-03: whom it would reach beyond its own host is none of an application's business."""
    assert host_only(value) == expected


@given(parts=st.lists(st.binary(max_size=12).filter(lambda part: b";" not in part), min_size=1))
def test_no_domain_is_left_and_what_is_left_is_in_order(parts: list[bytes]) -> None:
    left = host_only(b";".join(parts)).split(b";")

    assert left[0] == parts[0]
    rest = iter(parts[1:])
    assert all(part in rest for part in left[1:])
    assert host_only(b";".join(left)) == b";".join(left)


def test_those_of_a_kind_are_named_in_their_order_with_what_they_take() -> None:
    values = [
        b"a=1; __Host-tport_s_x=12;__Host-tport_s_=3",
        b"__Host-tport_s_y=; b__Host-tport_s_z=1",
    ]
    assert named(values, b"__Host-tport_s_") == [
        (b"__Host-tport_s_x", len(b"; __Host-tport_s_x=12")),
        (b"__Host-tport_s_y", len(b"__Host-tport_s_y=")),
    ]
