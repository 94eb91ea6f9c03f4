"""Who is refused asks on the spot; once somebody allows it, the page opens what was wanted by itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import open_context, see, sign_in
from tests.e2e.harness import PASSWORD, Cluster, start_upstream

pytestmark = pytest.mark.e2e


def test_access_is_asked_for_given_for_a_time_and_the_place_is_kept(
    cluster: Cluster, browser: Browser
) -> None:
    upstream = start_upstream(cluster)
    cluster.start_agent("payroll", upstream.url)
    cluster.signed_in("bob", "auditor")
    place = cluster.app_url("payroll", "/deep/down?x=1")

    refused = cluster.command("why", "bob", "payroll")
    assert refused.returncode == 3
    assert "the role 'auditor' does not open it" in refused.stdout
    assert "give bob the role 'access'" in refused.stderr

    with open_context(browser) as (context, watch):
        page = context.new_page()
        page.goto(place)
        sign_in(page, "bob", PASSWORD)
        see(page, "You may not open this")
        page.get_by_label("What do you need it for?").fill("salaries for November")
        page.get_by_role("button", name="Ask for access").click()
        page.get_by_text("You asked for access").wait_for()
        assert upstream.requests == []

        [_, line] = cluster.tell("requests", "ls").splitlines()
        request, user, host, *_ = line.split()
        assert (user, host) == ("bob", "payroll.tport.localhost")
        assert "salaries for November" in line
        cluster.tell("requests", "approve", request, "--role=access", "--ttl=1h")

        page.wait_for_url(place)
        assert "hello" in page.inner_text("body")
        assert watch.certificate_errors == []
    assert upstream.requests[0] == "GET /deep/down?x=1 HTTP/1.1"
    assert cluster.command("why", "bob", "payroll").returncode == 0
