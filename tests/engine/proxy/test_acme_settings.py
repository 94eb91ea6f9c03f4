"""What the operator says of ACME: files that are read, and what is said of those that can't be used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tport.engine.config.model import Acme, Eab, Secret
from tport.engine.errors import ConfigError
from tport.engine.proxy.acme_settings import acme_settings, read_authority


def with_key(path: Path) -> Acme:
    return Acme(enabled=True, eab=Eab(kid="kid-1", hmac=Secret(str(path))))


def test_the_key_of_an_account_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("c2l4dGVlbiBieXRlcy4uLg\n")

    settings = acme_settings(with_key(tmp_path / "key"))

    assert settings is not None
    assert settings.external is not None
    assert settings.external.hmac == "c2l4dGVlbiBieXRlcy4uLg"
    assert settings.external.hmac not in repr(settings)


def test_a_key_that_stands_in_the_file_of_settings_is_taken_as_it_is() -> None:
    eab = Eab(kid="kid-1", hmac=Secret("c2l4dGVlbiBieXRlcy4uLg"))
    settings = acme_settings(Acme(enabled=True, eab=eab))

    assert settings is not None
    assert settings.external is not None
    assert settings.external.hmac == "c2l4dGVlbiBieXRlcy4uLg"


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_key_that_others_can_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, told: bool
) -> None:
    (tmp_path / "key").write_text("c2l4dGVlbiBieXRlcy4uLg")
    (tmp_path / "key").chmod(mode)

    with caplog.at_level(logging.WARNING):
        acme_settings(with_key(tmp_path / "key"))

    assert ("can be read by others" in caplog.text) is told


def test_what_is_no_key_is_refused_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key at all!")

    with pytest.raises(ConfigError, match=r"/key: is no HMAC key"):
        acme_settings(with_key(tmp_path / "key"))


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"\xff", "no PEM file"), (b"nonsense", "can't be read|no authority")],
)
def test_an_authority_that_cannot_be_used_is_told_by_its_file(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    """It never means: trust somebody else."""
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)

    with pytest.raises(ConfigError, match=said) as refused:
        read_authority(tmp_path / "ca.pem")
    assert "ca.pem" in str(refused.value)
