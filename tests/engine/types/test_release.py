"""Which versions work together."""

from __future__ import annotations

import pytest

from tport.engine.types.release import fit


@pytest.mark.parametrize(
    ("version", "beside", "fits"),
    [
        ("0.4.1", "0.4.1", "same"),
        ("0.4.9", "0.4.1", "same"),
        ("0.4", "0.4.0rc1", "same"),
        ("0.3.9", "0.4.0", "older"),
        ("0.5.0.dev1", "0.4.0", "newer"),
        ("0.2.0", "0.4.0", "too old"),
        ("0.10.0", "0.8.0", "too new"),
        ("1.0.0", "0.9.0", "too new"),
        ("0.9.0", "1.0.0", "too old"),
        ("", "0.4.0", "unknown"),
        ("0.4.0", "git", "unknown"),
        ("4", "4.0", "unknown"),
        ("0.4.0\n", "0.4.0", "unknown"),
    ],
)
def test_one_minor_step_is_near_and_more_is_not(version: str, beside: str, fits: str) -> None:
    assert fit(version, beside=beside) == fits
