"""What a person sees in a browser, from the first command to signing out. No warning is ignored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import jwt
import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import (
    assert_calm,
    open_browser,
    open_context,
    see,
    sign_in,
    sign_up,
    trust,
)
from tests.e2e.client import Client
from tests.e2e.harness import DOMAIN, PASSWORD, Cluster, Tport, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.e2e


def test_one_command_and_one_link_lead_to_a_signed_in_application_within_a_minute(
    tport: Tport,
) -> None:
    """`tport up` in an empty home, as the owner lives it: link, password, Applications, dumper."""
    start = time.monotonic()
    port = free_port()
    process = tport.start("up", "--port", str(port))
    process.wait_for("/web/invite/")
    link = process.stdout.strip()
    trust(tport)

    with open_browser(tport.home) as browser, open_context(browser) as (context, watch):
        page = context.new_page()
        sign_up(page, link, PASSWORD)
        page.get_by_role("link", name="dumper").click()
        see(page, "It works")
        took = time.monotonic() - start

        assert page.url == f"https://dumper.{DOMAIN}:{port}/"
        cells = {
            row.locator("th").inner_text(): row.locator("td").inner_text()
            for row in page.locator("tr").all()
        }
        assert_calm(watch)

    client = Client(tport.output("ca", "export"), port)
    keys = json.loads(client.request("GET", f"https://{DOMAIN}:{port}/.well-known/jwks.json").body)
    assert cells["x-forwarded-host"] == f"dumper.{DOMAIN}:{port}"
    assert "tport" not in cells.get("cookie", "")
    check_token(cells["teleport-jwt-assertion"], keys, audience="http://localhost/")
    assert took < 60
    assert process.stop() == 143
    assert "lost touch" not in process.stderr


def check_token(token: str, keys: dict[str, object], *, audience: str) -> dict[str, object]:
    """Verify an application's token with nothing but the published keys, as an application would."""
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, object] = jwt.decode(
        token, key, algorithms=["ES256"], audience=audience, issuer=DOMAIN
    )
    assert claims["sub"] == claims["username"]
    return claims


@pytest.fixture(scope="module")
def dumper(cluster: Cluster) -> Cluster:
    """A cluster with the debug app, trusted by its home's browsers."""
    agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
    cluster.wait_for_app("dumper", agent)
    trust(cluster, f"--config={cluster.file}")
    return cluster


@pytest.fixture(scope="module")
def browser(dumper: Cluster) -> Iterator[Browser]:
    with open_browser(dumper.home) as browser:
        yield browser


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_an_application_s_own_address_signs_a_person_in_on_the_way(
    dumper: Cluster, browser: Browser, script: bool
) -> None:
    """A deep link, unknown browser: sign in, and be where the link pointed. With and without scripts."""
    name = f"deep-{script}".lower()
    dumper.signed_in(name)
    target = dumper.app_url("dumper", "/a%20b/c?x=1&y=%2F#part")

    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        page.goto(target)
        expect(page).to_have_title(f"Sign in · {DOMAIN}")
        sign_in(page, name, PASSWORD)
        see(page, "It works")

        assert page.url.partition("#")[0] == target.partition("#")[0]
        assert "GET /a%20b/c?x=1&y=%2F HTTP/1.1" in page.inner_text("body")
        assert_calm(watch)


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_their_screen_and_can_be_left_by_signing_out(
    dumper: Cluster, browser: Browser, width: int
) -> None:
    """Nothing scrolls sideways; signing out closes the application too, in every tab."""
    name = f"screen-{width}"
    with open_context(browser, viewport={"width": width, "height": 800}) as (context, watch):
        page = context.new_page()
        sign_up(page, dumper.add_user(name), PASSWORD)
        assert_fits(page.evaluate("[document.documentElement.scrollWidth, innerWidth]"))
        tab = context.new_page()
        tab.goto(dumper.app_url("dumper"))
        see(tab, "It works")
        assert_fits(tab.evaluate("[document.documentElement.scrollWidth, innerWidth]"))

        page.locator("details.me > summary").click()
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_title(f"Sign in · {DOMAIN}")
        tab.goto(dumper.app_url("dumper"))
        expect(tab).to_have_title(f"Sign in · {DOMAIN}")
        assert_calm(watch)


def assert_fits(sizes: list[int]) -> None:
    content, window = sizes
    assert content <= window


def test_leaving_one_application_makes_its_cookie_worthless_and_only_that(
    dumper: Cluster, browser: Browser
) -> None:
    """After /teleport-logout the old cookie opens nothing; the person is still signed in to tport."""
    with open_context(browser) as (context, watch):
        page = context.new_page()
        sign_up(page, dumper.add_user("leaver"), PASSWORD)
        page.goto(dumper.app_url("dumper"))
        see(page, "It works")
        url = dumper.app_url("dumper")
        [old] = [c for c in context.cookies(url) if c["name"].startswith("__Host-tport_app_")]

        page.goto(dumper.app_url("dumper", "/teleport-logout"))

        assert [c for c in context.cookies(url) if c["name"] == old["name"]] == []
        thief = dumper.client()
        answer = thief.request("GET", url, {"Cookie": f"{old['name']}={old['value']}"})
        assert answer.status == 401
        assert b"It works" not in answer.body
        page.goto(dumper.url)
        see(page, "Applications")
        assert_calm(watch)


def test_a_cookie_is_out_of_reach_for_scripts_and_other_hosts(
    dumper: Cluster, browser: Browser
) -> None:
    with open_context(browser) as (context, _):
        page = context.new_page()
        sign_up(page, dumper.add_user("cookies"), PASSWORD)
        page.goto(dumper.app_url("dumper"))
        see(page, "It works")
        ours = [c for c in context.cookies() if "tport" in c["name"]]

        assert {c["domain"] for c in ours} == {DOMAIN, f"dumper.{DOMAIN}"}
        for cookie in ours:
            assert cookie["name"].startswith("__Host-")
            assert cookie["secure"]
            assert cookie["httpOnly"]
            assert cookie["sameSite"] == "Lax"


def test_a_person_whose_roles_open_nothing_is_told_so(dumper: Cluster, browser: Browser) -> None:
    """The application's address shows a page that names the application, the person and what to do."""
    with open_context(browser) as (context, watch):
        page = context.new_page()
        sign_up(page, dumper.add_user("nobody", "auditor"), PASSWORD)
        expect(page.locator("body")).to_contain_text("none of your roles opens one")

        answer = page.goto(dumper.app_url("dumper"))

        assert answer is not None
        assert answer.status == 403
        body = page.inner_text("body")
        assert "nobody" in body
        assert f"dumper.{DOMAIN}" in body
        assert watch.certificate_errors == []


def test_without_trust_the_browser_refuses_the_cluster(dumper: Cluster, tport: Tport) -> None:
    """The other tests' calm means something: a home that wasn't told to trust gets the warning."""
    with open_browser(tport.home) as browser, open_context(browser) as (context, _):
        with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
            context.new_page().goto(dumper.url)


def test_a_role_taken_away_counts_in_the_open_page(dumper: Cluster, browser: Browser) -> None:
    """Within 5 s a reload of the page shows the refusal; given back, it works again without signing in."""
    with open_context(browser) as (context, watch):
        page = context.new_page()
        sign_up(page, dumper.add_user("moved"), PASSWORD)
        page.goto(dumper.app_url("dumper"))
        see(page, "It works")

        dumper.tell("users", "update", "--roles=auditor", "moved")
        wait_until(lambda: status_of(page.reload()) != 200, "a refusal")
        assert "moved" in page.inner_text("body")

        dumper.tell("users", "update", "--roles=access", "moved")
        wait_until(lambda: status_of(page.reload()) == 200, "the application again")
        see(page, "It works")
        assert watch.certificate_errors == []


def status_of(response: object) -> int:
    status = getattr(response, "status", 0)
    assert isinstance(status, int)
    return status
