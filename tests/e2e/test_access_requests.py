"""Who is refused asks on the spot; once somebody allows it, the page opens what was wanted by itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import open_context, see, sign_in
from tests.e2e.harness import PASSWORD, Cluster
from tests.e2e.started_upstream import start_upstream

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
        approve = cluster.command("requests", "approve", request, "--role=access", "--ttl=1h")
        assert approve.returncode == 0
        assert "may not open" not in approve.stderr
        assert "auditor,access until 20" in cluster.tell("users", "ls")

        page.wait_for_url(place)
        assert "hello" in page.inner_text("body")
        assert watch.certificate_errors == []
    assert upstream.requests[0] == "GET /deep/down?x=1 HTTP/1.1"
    assert cluster.command("why", "bob", "payroll").returncode == 0


def test_who_gives_a_role_that_opens_nothing_there_is_told_so(
    cluster: Cluster, browser: Browser
) -> None:
    cluster.start_agent("ledger", start_upstream(cluster).url)
    cluster.signed_in("cleo", "auditor")
    with open_context(browser) as (context, _):
        page = context.new_page()
        page.goto(cluster.app_url("ledger"))
        sign_in(page, "cleo", PASSWORD)
        page.get_by_role("button", name="Ask for access").click()
        page.get_by_text("You asked for access").wait_for()
    [_, line] = cluster.tell("requests", "ls").splitlines()

    approved = cluster.command("requests", "approve", line.split()[0], "--role=editor")

    assert approved.returncode == 0
    assert "cleo has the role editor until" in approved.stderr
    assert "yet they still may not open ledger.tport.localhost" in approved.stderr
    assert "hint: what would change that: tport why cleo ledger" in approved.stderr


def test_unlocking_somebody_whom_a_lock_keeps_out_promises_nothing(cluster: Cluster) -> None:
    cluster.signed_in("dora")
    lock = cluster.tell("lock", "--user=dora")

    unlocked = cluster.command("users", "unlock", "Dora")

    assert unlocked.returncode == 0
    assert "may sign in again" not in unlocked.stderr
    assert f"hint: to lift it: tport rm lock/{lock}" in unlocked.stderr
    cluster.tell("rm", f"lock/{lock}")
    assert "dora may sign in again" in cluster.command("users", "unlock", "dora").stderr
