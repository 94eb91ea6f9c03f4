"""Codes of authenticator apps, against the RFC's own vectors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.totp import (
    PERIOD,
    matching_step,
    new_totp_secret,
    otpauth_uri,
    parse_secret_text,
    secret_text,
    time_step,
    totp_code,
)

SECRET = b"12345678901234567890"  # of RFC 6238, appendix B
NOW = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
NEVER = -1

secrets = st.binary(min_size=20, max_size=20)
moments = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_vectors_of_rfc_6238_hold(seconds: int, code: str) -> None:
    """They have eight digits; six are their last six."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert totp_code(SECRET, time_step(moment)) == code[-6:]


@given(secret=secrets, now=moments, off=st.integers(-4, 4))
def test_a_clock_may_be_one_step_off_and_no_more(secret: bytes, now: datetime, off: int) -> None:
    step = time_step(now) + off
    found = matching_step(secret, totp_code(secret, step), now=now, after=NEVER)
    if abs(off) <= 1:
        assert found is not None
        assert totp_code(secret, found) == totp_code(secret, step)
    else:  # unless two steps share a code by chance
        assert found is None or totp_code(secret, found) == totp_code(secret, step)


@given(secret=secrets, now=moments, off=st.integers(-1, 1), before=st.integers(0, 2))
def test_a_code_of_a_step_that_was_used_or_of_one_before_it_counts_no_more(
    secret: bytes, now: datetime, off: int, before: int
) -> None:
    used = time_step(now) + off
    old = totp_code(secret, used - before)
    found = matching_step(secret, old, now=now, after=used)
    assert found is None or found > used


@given(text=st.text(max_size=12))
def test_what_is_no_code_matches_nothing_and_breaks_nothing(text: str) -> None:
    codes = {totp_code(SECRET, time_step(NOW) + off) for off in (-1, 0, 1)}
    found = matching_step(SECRET, text, now=NOW, after=NEVER)
    assert (found is not None) == ("".join(text.split()).replace("-", "") in codes)


def test_spaces_as_apps_show_them_are_fine_and_other_digits_are_not() -> None:
    code = totp_code(SECRET, time_step(NOW))
    spaced = f" {code[:3]} {code[3:]}\n"
    assert matching_step(SECRET, spaced, now=NOW, after=NEVER) == time_step(NOW)
    arabic = code.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    assert matching_step(SECRET, arabic, now=NOW, after=NEVER) is None


def test_the_code_holds_for_its_period_and_changes_with_the_next() -> None:
    first = time_step(NOW)
    assert time_step(NOW + timedelta(seconds=PERIOD)) == first + 1
    assert totp_code(SECRET, first) != totp_code(SECRET, first + 1)


@given(secret=secrets)
def test_a_secret_typed_by_hand_is_the_same_secret(secret: bytes) -> None:
    text = secret_text(secret)
    typed = " ".join(text[at : at + 4] for at in range(0, len(text), 4)).lower()
    assert parse_secret_text(typed) == secret
    assert "=" not in text


def test_the_qr_codes_text_says_whose_it_is_and_where() -> None:
    uri = otpauth_uri(SECRET, user="a@b", issuer="my cluster")
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parts.path == "/my%20cluster%3Aa%40b"
    values = parse_qs(parts.query)
    assert parse_secret_text(values["secret"][0]) == SECRET
    assert values["issuer"] == ["my cluster"]
    assert "+" not in parts.query, "apps read it as a plus"


def test_secrets_are_long_and_no_two_are_alike() -> None:
    made = {new_totp_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {20}
