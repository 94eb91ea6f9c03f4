"""When certificates by ACME are ordered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.pki.acme_policy import (
    domain_of,
    is_of_account,
    next_try,
    renewal_time,
    window_time,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JITTER = st.floats(0, 1)


def window(start: datetime, end: datetime, jitter: float) -> datetime:
    """Of a certificate that lives for 90 days from NOW on."""
    return window_time(start, end, jitter, not_before=NOW, not_after=NOW + timedelta(days=90))


@given(JITTER)
def test_a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_before(j: float) -> None:
    at = renewal_time(NOW, NOW + timedelta(days=90), j)
    assert timedelta(days=55) <= at - NOW <= timedelta(days=60)


@given(JITTER)
def test_a_ca_that_names_a_window_gets_a_time_in_it(j: float) -> None:
    start, end = NOW + timedelta(days=50), NOW + timedelta(days=52)
    assert start <= window(start, end, j) <= end


@given(JITTER, st.integers(-1000, 1000), st.integers(0, 1000))
def test_no_window_leads_to_a_certificates_first_day_or_its_last(
    j: float, start: int, length: int
) -> None:
    begin = NOW + timedelta(days=start)
    at = window(begin, begin + timedelta(days=length), j)
    assert timedelta(days=1) <= at - NOW <= timedelta(days=81)


@given(JITTER, st.integers(1, 10**6))
def test_waits_after_refusals_are_one_hour_to_a_day(j: float, failures: int) -> None:
    wait = next_try(NOW, failures, j) - NOW
    assert timedelta(hours=1) <= wait <= timedelta(hours=24)


def test_waits_double() -> None:
    hours = [(next_try(NOW, n, 0.0) - NOW) / timedelta(hours=1) for n in range(1, 8)]
    assert hours == [1, 2, 4, 8, 16, 24, 24]


@given(JITTER, st.integers(1, 100), st.floats(0, 7 * 86400))
def test_never_before_the_ca_allows_it(j: float, failures: int, seconds: float) -> None:
    wait = next_try(NOW, failures, j, retry_after=seconds) - NOW
    assert wait >= timedelta(seconds=seconds)


def test_a_ca_that_was_not_reached_is_tried_again_within_minutes_and_each_hour() -> None:
    """However long it was away: when it is back, nobody waits for a day."""
    minutes = [
        (next_try(NOW, n, 0.0, unreached=True) - NOW) / timedelta(minutes=1)
        for n in (1, 2, 3, 4, 6, 7, 100)
    ]
    assert minutes == [1, 2, 4, 8, 32, 60, 60]


AGAIN = "in the last 3h0m0s, retry after 2026-03-01 12:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/"


@pytest.mark.parametrize(
    "words",
    [
        f"too many new orders (300) from this account {AGAIN}#new-orders-per-account",
        f"too many new registrations (10) from this IP address {AGAIN}",
        f"too many new registrations (500) from this /48 subnet of IPv6 addresses {AGAIN}",
        f"too many new registrations (500) from this /48 block of IPv6 addresses {AGAIN}",
        "Error creating new order :: too many new orders recently: see https://letsencrypt.org/docs/rate-limits/",
        "too many registrations for this IP",
        "too many registrations for this IP range",
        "Too many currently pending authorizations.",
    ],
)
def test_a_limit_of_the_account_or_the_address_is_told_by_the_ca_s_words(words: str) -> None:
    assert is_of_account(f"the CA says: {words} (rateLimited)")


@pytest.mark.parametrize(
    "words",
    [
        f"too many certificates (5) already issued for this exact set of identifiers {AGAIN}",
        f"too many certificates (5) already issued for this exact set of domains {AGAIN}",
        "too many certificates (5) already issued for this exact set of domains in the last 168 hours: x.evil.test",
        f'too many certificates (50) already issued for "evil.test" {AGAIN}',
        "too many certificates already issued for: evil.test",
        "too many certificates already issued for exact set of domains: x.evil.test",
        f'too many failed authorizations (5) for "x.evil.test" {AGAIN}',
        "too many failed authorizations recently: see https://letsencrypt.org/docs/failed-validation-limit/",
        f'too many certificates (50) already issued for "from-this-account.evil.test" {AGAIN}',
        "Your account is temporarily prevented from requesting certificates for x.evil.test and possibly others.",
        "Service busy; retry later.",
        "slow down",
        "",
    ],
)
def test_any_other_limit_is_taken_for_one_of_the_name(words: str) -> None:
    """Whoever owns a name can bring it to most of these, by an account of their own."""
    assert not is_of_account(words)


@pytest.mark.parametrize("name", ["example.com", "a.example.com", "*.b.a.example.com"])
def test_all_below_a_domain_counts_as_of_it(name: str) -> None:
    assert domain_of(name) == "example.com"
