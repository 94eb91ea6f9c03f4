"""Whether an application answers is seen where people look, soon after its server stops or starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import open_browser, open_context, sign_in, trust
from tests.e2e.client import Client
from tests.e2e.harness import DOMAIN, PASSWORD, TPORT, Cluster, wait_until
from tests.e2e.site import Answer, Request, serve
from tests.ports import free_port

pytestmark = pytest.mark.e2e

SOON = 20.0  # s; 15 are promised, the rest is for a busy machine


@pytest.fixture(scope="module")
def editor(cluster: Cluster) -> Client:
    return cluster.signed_in("erin", "editor,access")


@pytest.fixture(scope="module")
def browser(cluster: Cluster, editor: Client) -> Iterator[Browser]:
    trust(cluster, f"--config={cluster.file}")
    with open_browser(cluster.home) as browser:
        yield browser


def hello(request: Request) -> Answer:
    return Answer("<h1>Wiki</h1>")


def listed(cluster: Cluster, name: str) -> dict[str, Any]:
    rows = json.loads(cluster.tell("apps", "ls", "--format=json"))
    [row] = [row for row in rows if row["name"] == name]
    return dict(row)


def test_a_server_that_stops_is_down_with_the_cause_and_up_again_when_it_starts(
    cluster: Cluster, editor: Client
) -> None:
    """Nobody asks for anything meanwhile, and the server hears of nothing."""
    applications = f"{cluster.url}/web/cluster/{DOMAIN}/apps"

    def page(url: str) -> str:
        return unescape(editor.open(url).text)

    with serve(hello) as site:
        port = site.port
        cluster.start_agent("wiki", site.url)
        wait_until(lambda: "up since" in page(applications), "the page says up", SOON)
        assert listed(cluster, "wiki")["state"] == "up"

    wait_until(lambda: "down since" in page(applications), "the page says down", SOON)
    cause = f"http://127.0.0.1:{port} can't be reached: 127.0.0.1:{port}: connection refused"
    assert f"{cause}." in page(f"{cluster.url}/web/agents")
    row = listed(cluster, "wiki")
    assert (row["state"], row["last_error"]) == ("down", cause)
    assert row["since"] <= row["last_failed"]
    assert f"down: {cause}" in cluster.tell("apps", "ls")
    assert "wiki (down)" in cluster.tell("status")
    assert json.loads(cluster.tell("status", "--format=json"))["apps_down"] == ["wiki"]
    assert cause in page(cluster.app_url("wiki"))
    told = editor.request("GET", cluster.app_url("wiki"), {"Accept": "application/json"})
    assert told.status == 502
    assert json.loads(told.text)["cause"] == cause
    since = json.loads(told.text)["since"]
    assert since[:19] == row["since"][:19], "since it stopped, not since somebody asked"

    with serve(hello, port=port) as site:
        wait_until(lambda: "down since" not in page(applications), "it is up again", SOON)
        assert "up since" in page(applications)
        icon = "(icon)"  # the page shows it, and an agent fetches it: that is no look
        assert [one for one in site.seen if icon not in str(one.headers["User-Agent"])] == []
        assert editor.open(cluster.app_url("wiki")).status == 200
        assert listed(cluster, "wiki")["last_error"] == cause, "it did fail"


def test_who_adds_an_application_that_does_not_run_sees_why_and_when_it_does(
    cluster: Cluster, browser: Browser
) -> None:
    port = free_port()
    with open_context(browser) as (context, watch):
        page = context.new_page()
        page.goto(f"{cluster.url}/web/login")
        sign_in(page, "erin", PASSWORD)
        page.get_by_role("link", name="Add an application").click()
        page.get_by_label("Name").fill("late")
        page.get_by_label("Where it is").fill(f"http://127.0.0.1:{port}")
        page.get_by_role("button", name="Show the command").click()
        command = page.locator("#command").inner_text()
        path = f"{Path(TPORT).parent}:{cluster.env['PATH']}"
        cluster.spawn(
            ["sh", "-c", command],
            env={"PATH": path, "TPORT_DATA_DIR": str(cluster.folder / "late")},
        )
        failed = page.locator("li.failed")
        expect(failed).to_contain_text(f"127.0.0.1:{port}: connection refused")
        expect(failed).to_contain_text("The agent goes on trying")

        with serve(hello, port=port):
            expect(page.locator("h1")).to_have_text("Check of late")
            expect(page.get_by_role("heading", name="Connection")).to_contain_text("works")
        assert watch.complaints == []
