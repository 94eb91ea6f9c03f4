"""`workers: auto` counts what may be used, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tport.engine.config.cpus import usable_cpus


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/old\n0::/system.slice/tport.service\n")
    return own


def group(folder: Path, limit: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("cpu.max").write_text(f"{limit}\n")


def test_without_a_quota_the_scheduler_tells(tmp_path: Path, own: Path) -> None:
    assert usable_cpus(tmp_path / "nothing", tmp_path) == 8
    assert usable_cpus(own, tmp_path / "nothing") == 8


def test_the_least_of_all_quotas_counts_and_a_part_of_a_cpu_whole(
    tmp_path: Path, own: Path
) -> None:
    groups = tmp_path / "groups"
    group(groups / "system.slice" / "tport.service", "max 100000")
    assert usable_cpus(own, groups) == 8

    group(groups / "system.slice", "250000 100000")
    assert usable_cpus(own, groups) == 3

    group(groups, "150000 100000")
    assert usable_cpus(own, groups) == 2

    group(groups / "system.slice" / "tport.service", "10000 100000")
    assert usable_cpus(own, groups) == 1


def test_what_can_not_be_read_is_no_quota(tmp_path: Path, own: Path) -> None:
    for text in ("", "nonsense", "1 0", "-1 100000"):
        group(tmp_path / "system.slice" / "tport.service", text)
        assert 1 <= usable_cpus(own, tmp_path) <= 8
