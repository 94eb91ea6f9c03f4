"""How people sign in, changed on a running cluster by commands: in force at once, never against the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Cluster, start_cluster

pytestmark = pytest.mark.e2e

OPTIONAL = "kind: cap\nspec: {second_factor: optional}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose file says nothing of second factors."""
    with start_cluster(tmp_path, second_factor="") as cluster:
        yield cluster


def decided(cluster: Cluster) -> tuple[str, str, str]:
    """Return the second factor that is in force, and what decides it."""
    [found] = [
        each
        for each in json.loads(cluster.tell("settings", "ls", "--format=json"))
        if each["setting"] == "auth_service.authentication.second_factor"
    ]
    return found["value"], found["origin"], found["where"]


def test_it_is_made_changed_and_removed_and_says_whom_it_concerns(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add_user("alice")
    assert decided(cluster) == ("on", "default", "")
    assert "kind: cluster_auth_preference" not in cluster.tell("get", "all")

    made = cluster.command("create", "-", input=OPTIONAL)
    assert made.returncode == 0, made.stderr
    assert "next sign-in: 0 of 1 users show a second factor" in made.stderr
    assert "1 need a password alone" in made.stderr
    assert decided(cluster) == ("optional", "resource", "cluster_auth_preference")
    shown = cluster.tell("get", "cap")
    assert "teleport.dev/origin: dynamic" in shown
    assert shown.strip() in cluster.tell("get", "all")
    assert cluster.command("create", "-", input=OPTIONAL).returncode == 6

    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/optional/webauthn/" "$1"\n')
    editor.chmod(0o700)
    edited = cluster.run(f"--config={cluster.file}", "edit", "cap", env={"EDITOR": str(editor)})
    assert edited.returncode == 0, edited.stderr
    assert "1 must first set one up" in edited.stderr
    assert decided(cluster)[0] == "webauthn"
    old = cluster.command("create", "-f", "-", input=shown)
    assert old.returncode == 6, "it says a revision that is no more"

    assert cluster.command("rm", "cap").returncode == 0
    assert decided(cluster) == ("on", "default", "")
    assert cluster.command("rm", "cap").returncode == 4
    assert cluster.command("rm", "--if-exists", "cap").returncode == 0


def test_what_the_file_sets_is_refused_with_its_line(tmp_path: Path) -> None:
    with start_cluster(tmp_path, second_factor="otp") as cluster:
        line = cluster.file.read_text().partition("second_factor")[0].count("\n") + 1
        place = f"{cluster.file}:{line}"
        assert decided(cluster) == ("otp", "file", place)

        refused = cluster.command("create", "-f", "-", input=OPTIONAL)

        assert refused.returncode != 0
        assert f"second_factor is set to otp in {place}, which counts" in refused.stderr
        assert "hint: change it there and restart auth" in refused.stderr
        assert decided(cluster) == ("otp", "file", place)
