"""`tport join`: an application's machine shows a code, an editor types it in Chromium, and it serves."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import open_context, see, sign_in
from tests.e2e.harness import PASSWORD, Cluster
from tests.e2e.started_upstream import start_upstream

pytestmark = pytest.mark.e2e

CODE = re.compile(r"^  ([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})$", re.MULTILINE)
WORD = re.compile(r"If the machine asks for a word, it is: ([0-9A-Z]{6})\b")
WAITS = "waiting for the word on standard input"


def test_a_machine_joins_by_a_code_that_an_editor_types(cluster: Cluster, browser: Browser) -> None:
    """No token, no file: and what it may offer is what the editor saw, whose page has the word."""
    upstream = start_upstream(cluster)
    command = ["join", cluster.address, upstream.url, "--name=jira"]
    folder = f"--data-dir={cluster.folder / 'joined'}"
    joining = cluster.start(*command, folder, typing=True)
    joining.wait_for("/web/join")
    [code] = CODE.findall(joining.stdout)
    cluster.signed_in("olga", "editor,access")

    with open_context(browser) as (context, watch):
        page = context.new_page()
        page.goto(f"{cluster.url}/web/join")
        sign_in(page, "olga", PASSWORD)
        page.get_by_label("Code").fill("0000 0000 0000")
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("alert").get_by_text("No machine that shows this code").wait_for()
        page.get_by_label("Code").fill(code.lower().replace("-", " "))
        page.get_by_role("button", name="Go on").click()
        see(page, "Let this machine join?")
        assert upstream.url in page.inner_text("main")
        page.get_by_role("button", name="Let it join").click()
        see(page, "It may join")
        [word] = WORD.findall(page.inner_text("main"))
        joining.wait_for(WAITS)
        joining.type("000000", word.lower())
        cluster.wait_for_app("jira", joining)
        page.goto(cluster.app_url("jira"))
        assert "hello" in page.inner_text("body")
        assert watch.certificate_errors == []

    joining.stop()
    again = cluster.start(*command, folder)
    again.wait_for("joined once")
    assert CODE.findall(again.stdout) == []
    again.stop()


def test_a_machine_that_is_refused_is_told_so_and_ends(cluster: Cluster) -> None:
    upstream = start_upstream(cluster)
    folder = f"--data-dir={cluster.folder / 'refused'}"
    joining = cluster.start("join", cluster.address, upstream.url, "--name=nope", folder)
    joining.wait_for("/web/join")
    [code] = CODE.findall(joining.stdout)

    told = cluster.command("tokens", "approve", code, "--refuse")

    assert told.returncode == 0, told.stderr
    assert "asks to offer nope" in told.stderr
    assert joining.wait() == 3
    assert "refused to let this machine join" in joining.stderr


def test_a_machine_that_is_told_another_word_keeps_nothing(cluster: Cluster) -> None:
    """As it would be when somebody sat between; with the pin no word is asked for."""
    upstream = start_upstream(cluster)
    data = cluster.folder / "between"
    command = ["join", cluster.address, upstream.url, "--name=wiki", f"--data-dir={data}"]
    joining = cluster.start(*command, typing=True)
    joining.wait_for("/web/join")
    [code] = CODE.findall(joining.stdout)
    told = cluster.command("tokens", "approve", code)
    assert told.returncode == 0, told.stderr
    joining.wait_for(WAITS)
    joining.type(told.stdout.strip()[:5], "K7Q4XM", code)

    assert joining.wait() == 3
    assert "nothing was kept" in joining.stderr
    assert "somebody sits between" in joining.stderr
    assert list(data.rglob("agent.json")) == []

    pin = cluster.tell("tokens", "add", "--type=app", "--format=text").partition(".")[2]
    joining = cluster.start(*command, f"--ca-pin=sha256:{pin}")
    joining.wait_for("/web/join")
    [code] = CODE.findall(joining.stdout)
    assert cluster.command("tokens", "approve", code).returncode == 0
    cluster.wait_for_app("wiki", joining)
    assert WAITS not in joining.stderr
    joining.stop()


def test_a_code_that_no_machine_shows_lets_nobody_in(cluster: Cluster) -> None:
    done = cluster.command("tokens", "approve", "3K7M-QZ0A-9XWB")

    assert done.returncode == 4
    assert "somebody sits between" in done.stderr
