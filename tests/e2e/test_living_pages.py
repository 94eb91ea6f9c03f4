"""What becomes, in Chromium, of an application's page and its parts when the session there is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.browser import Watch, sign_in, sign_out
from tests.e2e.harness import PASSWORD, Cluster
from tests.e2e.site import Answer, Request, Site, serve

pytestmark = pytest.mark.e2e

# What docs/configuration.md asks of such a policy for the notice, and what the parts of the page need.
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self';"
    " img-src 'self'; manifest-src 'self'; worker-src 'self'"
)
PAGE = """<!doctype html>
<title>Draft</title>
<link rel="icon" href="/icon.png">
<script src="/.tport/notice.js" defer></script>
<script src="/draft.js" defer></script>
<h1>Draft</h1>
<textarea aria-label="Draft"></textarea>
<button>Save</button>
<p role="status"></p>
"""
DRAFT = """
document.querySelector("button").onclick = async () => {
    const body = document.querySelector("textarea").value;
    const answer = await fetch("/save", { method: "POST", body });
    const told = answer.ok ? await answer.text() : (await answer.json()).reason;
    document.querySelector("[role=status]").textContent =
        `${answer.status} ${answer.redirected} ${told}`;
};
navigator.serviceWorker.register("/worker.js");
"""
WORKER = 'addEventListener("install", () => skipWaiting());'
MANIFEST = json.dumps({"name": "Draft", "start_url": "/", "display": "standalone"})


def draft(request: Request) -> Answer:
    """A page that saves what is typed there, with all that makes it installable."""
    if request.path == "/":
        return Answer(PAGE, headers=(("Content-Security-Policy", POLICY),))
    if request.path.endswith(".js"):
        script = DRAFT if request.path == "/draft.js" else WORKER
        return Answer(script, kind="text/javascript")
    if request.path.endswith(".webmanifest"):
        return Answer(MANIFEST, kind="application/manifest+json")
    if request.path.endswith(".png"):
        return Answer(kind="image/png")
    return Answer("saved", kind="text/plain")


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    with serve(draft) as site:
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: yes
  apps:
  - name: draft
    uri: {site.url}
    session_notice: yes
"""
        )
        cluster.wait_for_app("draft", agent)
        yield site


@pytest.fixture
def page(cluster: Cluster, site: Site, person: tuple[BrowserContext, Watch]) -> Page:
    """The page, open, by a clock that the test turns."""
    page = person[0].new_page()
    page.clock.install()
    with page.expect_response("**/.tport/session") as asked:
        page.goto(cluster.app_url("draft"))
    asked.value.finished()
    return page


def posted(site: Site) -> list[bytes]:
    return [request.body for request in site.seen if request.method == "POST"]


def let_a_minute_pass(page: Page) -> None:
    """Until the notice's script has asked again."""
    with page.expect_response("**/.tport/session"):
        page.clock.run_for(61_000)


def sign_in_again(page: Page, who: str, url: str) -> None:
    """Sign in to tport, in a tab of its own, on the way to the application."""
    tab = page.context.new_page()
    tab.goto(url)
    sign_in(tab, who, PASSWORD)
    tab.get_by_role("heading", name="Draft").wait_for()
    tab.close()


def test_what_a_page_posts_after_its_session_ended_is_told_so_and_the_page_lives_on(
    cluster: Cluster, site: Site, page: Page, who: str
) -> None:
    """401 and JSON: no redirect, nothing reaches the application, nothing typed is lost."""
    url = cluster.app_url("draft")
    text, status = page.get_by_label("Draft"), page.get_by_role("status")
    text.fill("what took an hour")

    sign_out(page.context, cluster.url)
    page.get_by_role("button", name="Save").click()

    expect(status).to_have_text("401 false session-over")
    assert posted(site) == []
    assert page.url == url
    expect(text).to_have_value("what took an hour")

    sign_in_again(page, who, url)
    page.get_by_role("button", name="Save").click()

    expect(status).to_have_text("200 false saved")
    assert posted(site) == [b"what took an hour"]


def test_the_notice_is_shown_when_the_session_ends_and_goes_when_there_is_one_again(
    cluster: Cluster, page: Page, who: str
) -> None:
    """Within a minute, under a strict policy; its link opens a tab, so that what was typed stays."""
    notice = page.get_by_role("alert")
    let_a_minute_pass(page)
    expect(notice).to_have_count(0)

    sign_out(page.context, cluster.url)
    let_a_minute_pass(page)

    expect(notice).to_have_text("Your session has ended. Sign in, then come back here.")
    with page.context.expect_page() as opened:
        notice.get_by_role("link", name="Sign in").click()
    sign_in(opened.value, who, PASSWORD)
    opened.value.get_by_role("heading", name="Draft").wait_for()
    let_a_minute_pass(page)

    expect(notice).to_have_count(0)
    assert page.url == opened.value.url == cluster.app_url("draft")


@dataclass
class Traffic:
    """What Chromium's network says; also of requests whose answers no page sees.

    Attributes:
        statuses: path → the last status.
        redirected: paths that were.
    """

    statuses: dict[str, int] = field(default_factory=dict)
    redirected: list[str] = field(default_factory=list)

    def answered(self, event: dict[str, Any]) -> None:
        self.statuses[urlsplit(event["response"]["url"]).path] = event["response"]["status"]

    def sent(self, event: dict[str, Any]) -> None:
        if "redirectResponse" in event:
            self.redirected.append(urlsplit(event["redirectResponse"]["url"]).path)


ADD_LINK = """([rel, href, crossOrigin]) => {
    const link = document.createElement("link");
    Object.assign(link, { rel, href, crossOrigin });
    document.head.append(link);
}"""
WORKERS = """async (another) => {
    const old = await navigator.serviceWorker.ready;
    const tell = (promise) => promise.then(() => "done", (problem) => problem.message);
    return [
        await tell(old.update()),
        await tell(navigator.serviceWorker.register(another)),
        Boolean(old.active),
    ];
}"""


def test_a_manifest_an_icon_and_a_service_worker_are_never_redirected(
    cluster: Cluster, site: Site, page: Page
) -> None:
    """With the session they come from the application; without it they are 401, and what was there stays."""
    network, traffic = page.context.new_cdp_session(page), Traffic()
    network.on("Network.responseReceived", traffic.answered)
    network.on("Network.requestWillBeSent", traffic.sent)
    network.send("Network.enable")

    def fetch_manifest(path: str, cross_origin: str | None) -> str:
        page.evaluate("document.querySelector('[rel=manifest]')?.remove()")
        page.evaluate(ADD_LINK, ["manifest", path, cross_origin])
        return str(network.send("Page.getAppManifest")["data"])

    def fetch_icon(path: str) -> int:
        with page.expect_response(f"**{path}") as icon:
            page.evaluate(ADD_LINK, ["icon", path, None])
        return icon.value.status

    assert fetch_manifest("/1.webmanifest", "use-credentials") == MANIFEST
    assert fetch_manifest("/2.webmanifest", None) == ""  # Chromium sends no cookies then
    assert fetch_icon("/1.png") == 200
    assert page.evaluate(WORKERS, "/1.js") == ["done", "done", True]

    sign_out(page.context, cluster.url)
    site.seen.clear()

    assert fetch_manifest("/3.webmanifest", "use-credentials") == ""
    assert fetch_icon("/3.png") == 401
    updated, registered, there = page.evaluate(WORKERS, "/3.js")
    assert "HTTP response code (401)" in updated
    assert "HTTP response code (401)" in registered
    assert there
    assert {path: code for path, code in traffic.statuses.items() if "manifest" in path} == {
        "/1.webmanifest": 200,
        "/2.webmanifest": 401,
        "/3.webmanifest": 401,
    }
    assert traffic.redirected == []
    assert site.seen == []
