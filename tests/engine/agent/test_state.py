"""What an agent keeps is its owner's alone, whole or not at all, and never half believed."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from tests.certs import Cluster
from tests.fakes import START
from tport.engine.agent.state import FILE, AgentState, joined_state, load_state, save_state
from tport.engine.api.answers import Joined
from tport.engine.errors import ConfigError


def state(host_id: str = "a1") -> AgentState:
    cluster = Cluster(now=START)
    pair = cluster.pair("agent")
    joined = Joined(
        host_id=host_id,
        certificate=pair.chain,
        authorities=cluster.authorities,
        renew_at=START + timedelta(hours=12),
        expires=START + timedelta(hours=24),
    )
    return joined_state(joined, pair.key, "proxy.test:3080")


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    saved = state()
    save_state(tmp_path, saved)

    assert load_state(tmp_path) == saved
    assert saved.pair.chain == saved.certificate


def test_the_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    save_state(tmp_path, state())
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_saving_that_fails_leaves_the_old_state(tmp_path: Path) -> None:
    old = state()
    save_state(tmp_path, old)
    trap = tmp_path / f"{FILE}.new"
    trap.symlink_to(tmp_path / "elsewhere")  # somebody waits for the key to be written there

    with pytest.raises(ConfigError):
        save_state(tmp_path, state("a2"))
    assert load_state(tmp_path) == old
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=FILE) as told:
        load_state(tmp_path)
    assert "join again" in told.value.hint


@pytest.mark.parametrize("authorities", [[], ["nonsense"]])
def test_without_authorities_to_verify_by_it_is_no_state(
    tmp_path: Path, authorities: list[str]
) -> None:
    data = json.loads(msgspec.json.encode(state()))
    data["authorities"]["host"] = authorities
    (tmp_path / FILE).write_text(json.dumps(data))
    with pytest.raises(ConfigError):
        load_state(tmp_path)


def test_the_key_is_not_in_what_is_printed() -> None:
    assert "PRIVATE" not in repr(state())


@pytest.mark.parametrize(
    ("hours", "is_due"),
    [(-2, True), (0, False), (11, False), (12, True), (25, True)],
)
def test_a_certificate_from_the_future_is_due_at_once(hours: int, *, is_due: bool) -> None:
    """R-13: made while the clock of auth was ahead; else nobody would renew it before that time comes."""
    assert state().is_due(START + timedelta(hours=hours)) is is_due
