"""How people sign in, changed on a running cluster by commands and in the browser: in force at once, never against the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import open_browser, open_context, see, sign_in, sign_up, trust
from tests.e2e.harness import PASSWORD, Cluster, start_cluster

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


def test_an_editor_tightens_it_in_the_browser_and_a_colleague_is_led_to_set_one_up(
    cluster: Cluster,
) -> None:
    """By the page: who will be asked, saved, shown as stored, and in force at the next sign-in."""
    cluster.command("create", "-", input=OPTIONAL)
    trust(cluster, f"--config={cluster.file}")
    cluster.signed_in("bob")
    with open_browser(cluster.home) as browser:
        with open_context(browser) as (context, watch):
            page = context.new_page()
            sign_up(page, cluster.add_user("erin", "editor"), PASSWORD)
            page.get_by_role("link", name="Settings").click()
            page.get_by_role("link", name="Change how people sign in").click()
            page.get_by_role("radio", name="Required A code").check()
            page.get_by_role("button", name="Who will be asked?").click()
            expect(page.locator("#who")).to_contain_text("2 must set up a second factor first")
            page.get_by_role("button", name="Save").click()
            see(page, "Settings")
            expect(page.get_by_role("status")).to_contain_text("2 users set one up")
            assert watch.complaints == []
        assert decided(cluster) == ("on", "resource", "cluster_auth_preference")
        with open_context(browser) as (context, _):
            page = context.new_page()
            page.goto(f"{cluster.url}/web/login")
            sign_in(page, "bob", PASSWORD)
            see(page, "Protect your account")
            expect(page.get_by_role("button", name="Not now")).to_have_count(0)
