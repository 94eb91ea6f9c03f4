"""Applications that sign people in themselves, at another site: the way there, and above all back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

from tests.e2e.browser import Watch
from tests.e2e.examples import start_as_shown
from tests.e2e.harness import Cluster
from tests.e2e.oidc import open_portal, open_provider
from tests.e2e.site import Site

pytestmark = pytest.mark.e2e


@dataclass
class Portals:
    """One application, three times.

    Attributes:
        by_redirect: people come back to it by a redirect; its entry is a name and a URI.
        by_form: they come back with a form of the provider's; the same.
        shown: with a form too, its entry is that of the example.
    """

    by_redirect: Site
    by_form: Site
    shown: Site


@pytest.fixture(scope="module")
def portals(cluster: Cluster) -> Iterator[Portals]:
    with ExitStack() as stack:
        provider = stack.enter_context(open_provider())
        by_redirect = stack.enter_context(open_portal(provider, "query"))
        by_form, shown = (stack.enter_context(open_portal(provider, "form_post")) for _ in range(2))
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: yes
  apps:
  - name: by-redirect
    uri: {by_redirect.url}
  - name: by-form
    uri: {by_form.url}
"""
        )
        start_as_shown(cluster, "own-sign-in", shown.port)
        cluster.wait_for_app("by-form", agent)
        yield Portals(by_redirect, by_form, shown)


def sign_in_at_provider(page: Page, url: str) -> Request:
    """Go from the application to the provider and back; return the request that comes back."""
    page.goto(url)
    page.get_by_role("link", name="Sign in at the provider").click()
    page.get_by_label("username").fill("Carol")
    with page.expect_request("**/callback*") as back:
        page.get_by_role("button", name="Continue").click()
    return back.value


def callbacks(site: Site) -> list[tuple[str, str, bool]]:
    """What came back to an application: method, where from, and whether cookies of ours came along."""
    return [
        (
            request.method,
            request.headers["Sec-Fetch-Site"],
            "tport" in request.headers.get("Cookie", ""),
        )
        for request in site.seen
        if request.path == "/callback"
    ]


def test_an_application_that_is_come_back_to_by_a_redirect_signs_people_in_as_it_is(
    cluster: Cluster, portals: Portals, person: tuple[BrowserContext, Watch]
) -> None:
    page = person[0].new_page()

    sign_in_at_provider(page, cluster.app_url("by-redirect"))

    expect(page.get_by_role("heading")).to_have_text("Hello, Carol")
    assert page.url == cluster.app_url("by-redirect")
    assert callbacks(portals.by_redirect) == [("GET", "cross-site", False)]


def test_one_that_is_come_back_to_with_a_form_does_so_by_cookie_same_site_none(
    cluster: Cluster, portals: Portals, person: tuple[BrowserContext, Watch]
) -> None:
    """examples/own-sign-in.yaml: the session's cookie comes along with another site's form."""
    page = person[0].new_page()

    back = sign_in_at_provider(page, cluster.app_url("portal"))

    expect(page.get_by_role("heading")).to_have_text("Hello, Carol")
    assert page.url == cluster.app_url("portal")
    assert "__Host-tport_app_" in back.all_headers()["cookie"]
    assert callbacks(portals.shown) == [("POST", "cross-site", False)]


def test_without_it_the_form_is_stopped_on_a_page_that_says_what_to_do(
    cluster: Cluster, portals: Portals, person: tuple[BrowserContext, Watch]
) -> None:
    """The browser keeps our cookie back, and sends the application's own, which is SameSite=None."""
    page = person[0].new_page()

    back = sign_in_at_provider(page, cluster.app_url("by-form"))

    expect(page.get_by_role("heading")).to_have_text("Not sent: sign in and try again")
    expect(page.get_by_text("cookie_same_site: none")).to_be_visible()
    answer = back.response()
    assert answer is not None
    assert answer.status == 401
    cookies = back.all_headers()["cookie"]
    assert "login=" in cookies
    assert "__Host-tport_app_" not in cookies
    assert callbacks(portals.by_form) == []

    page.goto(cluster.app_url("by-form"))
    expect(page.get_by_role("heading")).to_have_text("Who are you?")  # still signed in to tport
