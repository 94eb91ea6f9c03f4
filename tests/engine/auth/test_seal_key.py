"""The key that second factors are sealed with: made once, its owner's alone, and never made anew over another."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from tport.engine.auth.seal_key import open_seal_key
from tport.engine.errors import ConfigError


def test_a_key_is_made_at_the_first_start_and_is_the_same_ever_after(tmp_path: Path) -> None:
    """OPS-04."""
    path = tmp_path / "factors.key"

    first = open_seal_key(path)

    assert open_seal_key(path) == first
    assert len(first) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    ["", "no base64!", "äö", b64encode(b"too short").decode(), b64encode(bytes(33)).decode()],
)
def test_what_is_no_key_stops_the_start_and_stays(tmp_path: Path, content: str) -> None:
    """OPS-04: a new one would make everybody's second factor worthless."""
    path = tmp_path / "factors.key"
    path.write_text(content)

    with pytest.raises(ConfigError, match="is no key for second factors") as refused:
        open_seal_key(path)

    assert refused.value.hint is not None
    assert "backup" in refused.value.hint
    assert path.read_text() == content


def test_a_key_that_cannot_be_read_stops_the_start_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "factors.key"
    path.mkdir()

    with pytest.raises(ConfigError, match=r"factors\.key: can't be used: is a directory"):
        open_seal_key(path)


def test_no_link_leads_the_new_key_elsewhere(tmp_path: Path) -> None:
    """OPS-04: who may write beside it must not get it."""
    elsewhere = tmp_path / "elsewhere"
    tmp_path.joinpath("factors.key.new").symlink_to(elsewhere)

    with pytest.raises(ConfigError, match="can't be used"):
        open_seal_key(tmp_path / "factors.key")

    assert not elsewhere.exists()
