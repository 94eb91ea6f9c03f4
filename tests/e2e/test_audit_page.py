"""The Audit page in Chromium: found, opened, followed live; and all but the last without script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import open_browser, open_context, sign_in, trust
from tests.e2e.harness import PASSWORD, Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser(cluster: Cluster) -> Iterator[Browser]:
    agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
    cluster.wait_for_app("dumper", agent)
    trust(cluster, f"--config={cluster.file}")
    cluster.signed_in("alice").open(cluster.app_url("dumper", "/of-alice?secret=sesame"))
    cluster.signed_in("olga", "auditor")
    with open_browser(cluster.home) as browser:
        yield browser


def open_audit(page: Page, cluster: Cluster) -> None:
    page.goto(f"{cluster.url}/web/login")
    sign_in(page, "olga", PASSWORD)
    page.get_by_role("link", name="Audit", exact=True).click()
    expect(page.locator("h1")).to_have_text("Audit")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_request_is_found_and_opened_on_a_phone_and_on_a_desk(
    cluster: Cluster, browser: Browser, script: bool, width: int
) -> None:
    size = {"width": width, "height": 800}
    with open_context(browser, java_script_enabled=script, viewport=size) as (context, watch):
        page = context.new_page()
        open_audit(page, cluster)
        page.get_by_role("link", name="Application requests").click()
        page.get_by_text("Filter", exact=True).click()
        page.get_by_label("User", exact=True).fill("alice")
        page.get_by_label("Words").fill("of-alice")
        page.get_by_role("button", name="Search").click()

        [entry] = page.locator(".entry").all()
        expect(entry.locator(".what")).to_contain_text("GET /of-alice")
        expect(entry.get_by_text("status_code")).to_be_hidden()
        entry.locator("summary").click()
        expect(entry.get_by_text("status_code")).to_be_visible()
        assert "sesame" not in page.content()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        expect(page.get_by_role("link", name="Reload")).to_be_visible()
        expect(page.get_by_role("button", name="Follow live")).to_have_count(1 if script else 0)
        assert watch.complaints == []


def test_what_happens_appears_by_itself_while_it_is_followed(
    cluster: Cluster, browser: Browser
) -> None:
    with open_context(browser) as (context, watch):
        page = context.new_page()
        open_audit(page, cluster)
        before = page.locator(".entry").count()
        page.get_by_role("button", name="Follow live").click()

        cluster.add_user("seen-live")
        expect(page.locator(".entry").first).to_contain_text("name: seen-live")
        cluster.add_user("seen-live-too")
        expect(page.locator(".entry").first).to_contain_text("name: seen-live-too")
        expect(page.locator(".entry")).to_have_count(before + 2)
        page.get_by_role("button", name="Following live").click()
        expect(page.get_by_role("button", name="Follow live")).to_be_visible()
        assert watch.complaints == []


@pytest.mark.parametrize("requests", [False, True], ids=["events", "requests"])
def test_a_row_that_came_live_is_the_row_that_the_page_has_after_reloading(
    cluster: Cluster, browser: Browser, requests: bool
) -> None:
    """What was refused, what holds lists and numbers, and what an attacker wrote, too."""
    with open_context(browser) as (context, _):
        page = context.new_page()
        open_audit(page, cluster)
        if requests:
            page.get_by_role("link", name="Application requests").click()
        page.get_by_role("button", name="Follow live").click()
        before = page.locator(".entry").count()
        if requests:
            person = cluster.signed_in("live-requests")
            person.open(cluster.app_url("dumper", "/a%E2%80%AEb?x=<b>"))
            came = page.locator(".entry", has_text="live-requests")
        else:
            page.evaluate(_DENIED)
            came = page.locator(".entry", has_text="<img src=x>")
        expect(came.first).to_be_visible()
        assert page.locator(".entry").count() > before
        live = {row["uid"]: row for row in page.evaluate(_ROWS) if row["isNew"]}
        page.reload()
        drawn = {row["uid"]: {**row, "isNew": True} for row in page.evaluate(_ROWS)}

        assert live
        assert live == {uid: drawn[uid] for uid in live}


# A right that nobody has, by a name that says more to a page that trusts it; written down as refused.
_DENIED = """() => fetch("/v1/check_right", {
    method: "POST",
    headers: {"content-type": "application/json"},
    body: JSON.stringify({verb: "see", kind: "<img src=x>\\u202e\\u0007"}),
})"""
# Each row as people read it: every text and class in it, blanks told apart from none.
_ROWS = """() => [...document.querySelectorAll(".entry")].map(row => ({
    uid: row.dataset.uid,
    isNew: row.classList.contains("new"),
    texts: [...row.querySelectorAll(".when, .what b, .told, .who, .app, dt, dd, .badge")].map(
        part => [part.className, part.textContent.replace(/\\s+/g, " ").trim()]
    ).filter(([, text]) => text),
}))"""


def test_what_is_found_is_taken_away_as_json_lines(cluster: Cluster, browser: Browser) -> None:
    with open_context(browser, accept_downloads=True) as (context, _):
        page = context.new_page()
        open_audit(page, cluster)
        with page.expect_download() as started:
            page.get_by_role("link", name="Export").click()

        assert started.value.suggested_filename.endswith(".jsonl")
        assert '"event":"user.create"' in started.value.path().read_text()
