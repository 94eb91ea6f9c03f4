"""What a file says of second factors, in the older word or the newer list."""

from __future__ import annotations

import pytest

from tests.engine.config.places import read
from tport.engine.errors import ConfigError
from tport.engine.types.factor import FactorKind, FactorPolicy

BOTH: tuple[FactorKind, ...] = ("totp", "webauthn")


def policy(authentication: str) -> FactorPolicy:
    return read(f"auth_service: {{authentication: {authentication}}}").auth_service.second_factor


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("{}", FactorPolicy(kinds=BOTH, required=True)),
        ("{second_factor: on}", FactorPolicy(kinds=BOTH, required=True)),
        ('{second_factor: "on"}', FactorPolicy(kinds=BOTH, required=True)),
        ("{second_factor: off}", FactorPolicy(kinds=(), required=False)),
        ("{second_factor: optional}", FactorPolicy(kinds=BOTH, required=False)),
        ("{second_factor: otp}", FactorPolicy(kinds=("totp",), required=True)),
        ("{second_factor: webauthn}", FactorPolicy(kinds=("webauthn",), required=True)),
        ("{second_factors: [otp, webauthn]}", FactorPolicy(kinds=BOTH, required=True)),
        ("{second_factors: webauthn}", FactorPolicy(kinds=("webauthn",), required=True)),
        ("{second_factors: [otp, otp]}", FactorPolicy(kinds=("totp",), required=True)),
    ],
)
def test_each_spelling_means_what_teleport_means_by_it(said: str, meant: FactorPolicy) -> None:
    assert policy(said) == meant


def test_a_file_that_says_nothing_requires_one() -> None:
    """Safe unless told otherwise, as in Teleport."""
    assert read("").auth_service.second_factor == FactorPolicy(kinds=BOTH, required=True)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("{second_factor: off, second_factors: [otp]}", "the newer spelling of second_factor"),
        ("{second_factors: []}", "expected otp, webauthn or both"),
        ("{second_factors: [sso]}", "for none of them: second_factor: off"),
        ("{second_factors: [sms]}", "expected otp, webauthn or sso, found 'sms'"),
    ],
)
def test_what_contradicts_itself_or_asks_for_nothing_is_refused(said: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        policy(said)


def test_single_sign_on_as_a_factor_is_noted() -> None:
    text = "auth_service: {authentication: {second_factors: [otp, sso]}}"
    [note] = read(text).notes
    assert note.endswith("authentication.second_factors: sso has no effect in tport")


@pytest.mark.parametrize(
    ("said", "seconds"), [("", 3600.0), ("8h", 8 * 3600.0), ("10m", 600.0), ("0s", 0.0)]
)
def test_how_long_one_may_do_nothing(said: str, seconds: float) -> None:
    text = f"auth_service: {{web_idle_timeout: {said}}}" if said else ""
    assert read(text).auth_service.web_idle_timeout == seconds


def test_a_shorter_time_than_what_is_noticed_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 10m to 8760h, or 0s for never, found '30s'"):
        read("auth_service: {web_idle_timeout: 30s}")
