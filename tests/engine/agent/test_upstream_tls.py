"""What is wrong with TLS to an application is said in words, or as it was said to us."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tport.engine.agent.upstream_tls import MAX_PEM, in_plain_words, upstream_context
from tport.engine.errors import ConfigError, ConnectionProblem
from tport.engine.types.app import App, UpstreamTls


def caused_by(cause: Exception | None) -> ConnectionProblem:
    problem = ConnectionProblem("as TLS said it", hint="as it was")
    problem.__cause__ = cause
    return problem


def unverified(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.reason = code, "CERTIFICATE_VERIFY_FAILED"
    return error


def unheard_of() -> ssl.SSLError:
    error = ssl.SSLError(1, "unheard of")
    error.reason = "UNHEARD_OF"
    return error


def test_an_expired_certificate_is_said_to_have_expired() -> None:
    problem = in_plain_words(caused_by(unverified(10)), "wiki.test")

    assert "expired" in str(problem)


@pytest.mark.parametrize("cause", [None, OSError("reset"), unverified(9999), unheard_of()])
def test_what_has_no_words_of_ours_stays_as_it_was_said(cause: Exception | None) -> None:
    problem = caused_by(cause)

    assert in_plain_words(problem, "wiki.test") is problem


def test_a_file_too_large_for_certificates_is_named_and_not_read_whole(tmp_path: Path) -> None:
    large = tmp_path / "ca.pem"
    with large.open("wb") as file:
        file.truncate(MAX_PEM * 1000)
    app = App(name="wiki", uri="https://wiki.test", tls=UpstreamTls(ca_file=str(large)))
    with pytest.raises(ConfigError, match="larger than") as told:
        upstream_context(app)

    assert str(large) in str(told.value)
