"""Device tokens are found in three headers, and nothing else is taken for one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.proto.device_token import UNUSABLE, is_device_token, presented_secret
from tport.engine.types.device_token import PREFIX

ONE = PREFIX + "a" * 43
TWO = PREFIX + "b" * 43
SECRETS = st.text("abcXYZ019_-", min_size=43, max_size=43).map(PREFIX.__add__)

Headers = list[tuple[bytes, bytes]]


def bearer(secret: str) -> bytes:
    return b"Bearer " + secret.encode()


def basic(secret: str, user: str = "git") -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{secret}".encode())


@given(SECRETS, st.text(max_size=40).filter(lambda user: ":" not in user))
def test_a_token_is_the_same_in_each_of_the_three_forms(secret: str, user: str) -> None:
    user = user.encode("utf-8", "replace").decode()
    forms: list[Headers] = [
        [(b"authorization", bearer(secret))],
        [(b"authorization", basic(secret, user))],
        [(b"tport-authorization", bearer(secret))],
    ]

    assert [presented_secret([(b"host", b"x"), *form]) for form in forms] == [secret] * 3


@pytest.mark.parametrize(
    "value",
    [
        b"bearer " + ONE.encode(),
        b"BEARER   " + ONE.encode() + b" ",
        b"basic " + base64.b64encode(b":" + ONE.encode()),
        b"BASIC\t" + base64.b64encode(b"x:" + ONE.encode()).rstrip(b"="),
    ],
)
def test_schemes_have_no_case_and_padding_may_be_missing(value: bytes) -> None:
    assert presented_secret([(b"authorization", value)]) == ONE
    assert is_device_token(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer eyJhbGciOiJFUzI1NiJ9.e30.sig",
        b"Bearer TPORT_" + b"a" * 43,
        b"Token tport_" + b"a" * 42,
        b"Basic " + base64.b64encode(b"alice:secret"),
        b"Basic !!!!",
        b"Negotiate YIIB6wYJKoZIhvcSAQICAQBuggHaMIIB1qADAgEF",
    ],
)
def test_any_other_authorization_is_the_applications(value: bytes) -> None:
    assert presented_secret([(b"authorization", value)]) is None
    assert not is_device_token(value)


@pytest.mark.parametrize("rest", [b":", b"", b":x-oauth-basic"])
def test_a_token_may_be_the_user_of_basic_too(rest: bytes) -> None:
    value = b"Basic " + base64.b64encode(ONE.encode() + rest)

    assert presented_secret([(b"authorization", value)]) == ONE
    assert is_device_token(value)


@pytest.mark.parametrize(
    "value",
    [
        ONE.encode(),
        b"Token " + ONE.encode(),
        b"token=" + ONE.encode(),
        b"Basic " + ONE.encode(),
        b"Bearer x" + ONE.encode(),
        b'Digest username="' + ONE.encode() + b'"',
        b"Bearer eyJhbGciOiJFUzI1NiJ9, Bearer " + ONE.encode(),
    ],
)
def test_a_token_where_none_belongs_counts_for_nothing_and_no_application_sees_it(
    value: bytes,
) -> None:
    assert presented_secret([(b"authorization", value)]) == UNUSABLE
    assert is_device_token(value)


def test_the_applications_authorization_goes_beside_a_token_in_ours() -> None:
    headers = [(b"authorization", b"Bearer the-app's"), (b"tport-authorization", bearer(ONE))]

    assert presented_secret(headers) == ONE


@pytest.mark.parametrize(
    "secret",
    ["", "x", "a" * 42, "a" * 44, "a" * 42 + "!", "a" * 42 + "é", "a" * 43 + ", " + ONE],
)
def test_what_begins_as_a_token_and_is_none_counts_as_a_wrong_one(secret: str) -> None:
    """It must not fall through to the cookie: who shows a token means to be judged by it."""
    for value in (bearer(PREFIX + secret), basic(PREFIX + secret)):
        assert presented_secret([(b"authorization", value)]) == UNUSABLE
        assert is_device_token(value)


@pytest.mark.parametrize("value", [b"", b"Bearer x", ONE.encode(), basic(ONE)])
def test_our_own_header_holds_nothing_but_a_bearer(value: bytes) -> None:
    assert presented_secret([(b"tport-authorization", value)]) == UNUSABLE


def test_of_two_tokens_neither_counts_unless_they_are_one() -> None:
    first, second = (b"authorization", bearer(ONE)), (b"authorization", basic(TWO))

    assert presented_secret([first, second]) == UNUSABLE
    assert presented_secret([first, (b"tport-authorization", bearer(TWO))]) == UNUSABLE
    assert presented_secret([first, (b"tport-authorization", bearer(ONE))]) == ONE
    assert presented_secret([first, first]) == ONE


@pytest.mark.parametrize(
    "more",
    [
        [(b"sec-fetch-site", b"cross-site")],
        [(b"sec-fetch-site", b"same-site")],
        [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")],
        [(b"origin", b"https://evil.example.com")],
        [(b"origin", b"null")],
    ],
)
def test_a_basic_secret_that_another_sites_page_has_a_browser_send_does_not_count(
    more: Headers,
) -> None:
    """Browsers remember Basic secrets, and send them with whatever any page asks for."""
    host = (b"host", b"grafana.example.com")

    assert presented_secret([host, (b"authorization", basic(ONE)), *more]) == UNUSABLE
    assert presented_secret([host, (b"authorization", bearer(ONE)), *more]) == ONE


@pytest.mark.parametrize(
    "more",
    [
        [(b"sec-fetch-site", b"none")],
        [(b"sec-fetch-site", b"same-origin")],
        [(b"origin", b"https://Grafana.example.com:3080")],
    ],
)
def test_a_basic_secret_of_the_applications_own_pages_counts(more: Headers) -> None:
    host = (b"host", b"grafana.example.com:3080")

    assert presented_secret([host, (b"authorization", basic(ONE)), *more]) == ONE


NAMES = st.sampled_from([b"authorization", b"tport-authorization", b"cookie", b"host"])
VALUES = st.one_of(
    st.binary(max_size=80),
    st.binary(max_size=80).map(lambda data: b"Basic " + base64.b64encode(data)),
    st.binary(max_size=60).map(lambda data: b"Bearer tport_" + data),
    SECRETS.map(bearer),
    SECRETS.map(basic),
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_whatever_is_sent_a_token_is_found_only_where_it_would_be_stripped(
    headers: Headers,
) -> None:
    secret = presented_secret(headers)
    ours = [
        value
        for name, value in headers
        if name == b"tport-authorization" or (name == b"authorization" and is_device_token(value))
    ]

    assert (secret is not None) == bool(ours)
    if secret:
        assert len(secret) == len(ONE)
