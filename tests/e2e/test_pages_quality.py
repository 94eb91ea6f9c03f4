"""Each page of the proxy's own host: for everybody (WCAG 2.2 AA), valid, quick, calm, on phone and desk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.browser import Watch, open_browser, open_context, see, sign_in, trust
from tests.e2e.harness import DOMAIN, PASSWORD, Cluster, start_cluster
from tests.e2e.pages import MAX_FIRST_VISIT, faults, invalid, need_judges, weigh
from tests.e2e.test_sso import SSO_PAGES
from tests.security.test_web_matrix import ROWS
from tport.engine.access.totp import parse_secret_text, time_step, totp_code

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Linked:
    """A page whose address holds an id: `page` links to it, or to what it is below."""

    page: str
    below: str = ""


ROUTES: Final = sorted(path for method, path in ROWS if method == "GET")
# No pages of their own: what is read by programs; redirects; what another's page fetches.
NOT_PAGES: Final = frozenset(
    {
        "/",
        "/web",
        "/.well-known/jwks.json",
        "/favicon.ico",
        "/healthz",
        "/robots.txt",
        "/static/{name}",
        "/web/app/{name}/icon",
        "/v1/openapi.json",
        "/web/audit/export",
        "/webapi/cas",
        "/webapi/find",
        "/webapi/ping",
        "/web/login/sso/{kind}/{name}",
        "/web/prove/sso",
        "/web/sso/test/{id}",
    }
)
VISITS: Final[dict[str, str | Linked]] = {
    "/web/account": "/web/account",
    "/web/account/device/{id}": Linked("/web/account"),
    "/web/account/device/{id}/remove": Linked("/web/account", "/remove"),
    "/web/account/devices/add": "/web/account/devices/add",
    "/web/account/password": "/web/account/password",
    "/web/account/recovery-codes": "/web/account/recovery-codes",
    "/web/account/session/{id}/end": Linked("/web/account/sessions"),
    "/web/account/sessions": "/web/account/sessions",
    "/web/account/token/{id}/revoke": Linked("/web/account/tokens"),
    "/web/account/tokens": "/web/account/tokens",
    "/web/account/tokens/add": "/web/account/tokens/add",
    "/web/agents": "/web/agents",
    "/web/app/{name}/favourite": "/web/app/dumper/favourite",
    "/web/app/{name}/check": "/web/app/dumper/check",
    "/web/apps/add": "/web/apps/add",
    "/web/apps/add/{name}": "/web/apps/add/wiki",
    "/web/audit": "/web/audit",
    "/web/certificates": "/web/certificates",
    "/web/cluster/{cluster}/apps": f"/web/cluster/{DOMAIN}/apps",
    "/web/join": "/web/join",
    "/web/launch": "/web/launch?state=broken",
    "/web/lock/{name}/lift": Linked("/web/locks"),
    "/web/locks": "/web/locks",
    "/web/locks/add": "/web/locks/add",
    "/web/logout": "/web/logout",
    "/web/prove": "/web/prove?next=/web/account",
    "/web/proved": "/web/proved",
    "/web/request": "/web/request",  # 404: there is nothing to see
    "/web/requests": "/web/requests",
    "/web/requests/{id}": Linked("/web/requests"),
    "/web/role/{name}": "/web/role/access",
    "/web/role/{name}/delete": "/web/role/access/delete",
    "/web/role/{name}/yaml": "/web/role/access/yaml",
    "/web/roles": "/web/roles",
    "/web/roles/add": "/web/roles/add",
    "/web/roles/add-yaml": "/web/roles/add-yaml",
    "/web/session/{id}/end": Linked("/web/sessions"),
    "/web/sessions": "/web/sessions",
    "/web/settings": "/web/settings",
    "/web/settings/sign-in": "/web/settings/sign-in",
    "/web/settings/sign-in/reset": "/web/settings/sign-in/reset",
    "/web/token/{id}/delete": Linked("/web/tokens"),
    "/web/tokens": "/web/tokens",
    "/web/tokens/add": "/web/tokens/add",
    "/web/user/{name}": "/web/user/bob",
    "/web/user/{name}/remove": "/web/user/bob/remove",
    "/web/user/{name}/reset": "/web/user/bob/reset",
    "/web/users": "/web/users",
    "/web/users/add": "/web/users/add",
    "/web/users/token/{id}/revoke": Linked("/web/users/tokens"),
    "/web/users/tokens": "/web/users/tokens",
}
# Looked at in tests of their own below: who is signed in never sees them, or an act leads there.
ELSEWHERE: Final = frozenset(
    {
        "/web/login",
        "/web/login/second",
        "/web/invite/{token}",
        "/web/check/{id}",
        # in test_sso.py, with pictures SSO_PAGES
        "/v1/webapi/{kind}/callback",
        "/v1/webapi/{kind}/callback/{name}",
    }
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One where people may have a second factor, and have something to look at."""
    need_judges()
    folder = tmp_path_factory.mktemp("cluster")
    with start_cluster(folder, second_factor="optional") as cluster:
        agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
        cluster.wait_for_app("dumper", agent)
        cluster.add_user("locked")
        (folder / "lock.yaml").write_text(
            "kind: lock\nversion: v2\nmetadata: {name: out}\n"
            "spec: {target: {user: locked}, message: ask the office}\n"
        )
        cluster.tell("create", "-f", folder / "lock.yaml")
        cluster.token("wiki")
        yield cluster


@pytest.fixture(scope="module")
def browser(cluster: Cluster) -> Iterator[Browser]:
    trust(cluster, f"--config={cluster.file}")
    with open_browser(cluster.home) as browser:
        yield browser


@dataclass
class Signed:
    """A browser in which an editor and auditor is signed in, and what it noticed since."""

    cluster: Cluster
    context: BrowserContext
    watch: Watch
    page: Page

    def address(self, visit: str | Linked, route: str) -> str:
        if isinstance(visit, str):
            return f"{self.cluster.url}{visit}"
        linked = re.escape(route.removesuffix(visit.below))
        pattern = re.compile(re.sub(r"\\{\w+\\}", r"[^/?]+", linked))
        self.page.goto(f"{self.cluster.url}{visit.page}")
        links = [link.get_attribute("href") or "" for link in self.page.locator("a").all()]
        [first, *_] = [link for link in links if pattern.fullmatch(link)]
        return urljoin(self.page.url, first + visit.below)


@pytest.fixture(scope="module")
def signed(cluster: Cluster, browser: Browser) -> Iterator[Signed]:
    """An editor with a device token, a session at an application, and a request to decide."""
    cluster.signed_in("bob", "auditor")
    with open_context(browser) as (context, watch):
        page = context.new_page()
        page.goto(cluster.add_user("erin", "editor,auditor,access"))
        choose_password(page)
        set_up_app(page)
        page.goto(cluster.app_url("dumper"))
        page.goto(f"{cluster.url}/web/account/tokens/add")
        page.get_by_label("Which program it is for").fill("backup")
        page.get_by_role("button", name="Make the token").click()
        page.locator("code").first.wait_for()
        ask_for_access(browser, cluster)
        yield Signed(cluster, context, watch, page)


def choose_password(page: Page) -> None:
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The same password again").fill(PASSWORD)
    page.get_by_role("button", name="Set password and sign in").click()


def set_up_app(page: Page) -> None:
    """Take an authenticator app for a second factor; ends on the page with recovery codes."""
    see(page, "Protect your account")
    page.get_by_text("The camera").click()
    secret = parse_secret_text(page.locator("#totp-secret").inner_text())
    page.get_by_label("Code", exact=True).fill(totp_code(secret, time_step(datetime.now(UTC))))
    page.get_by_role("button", name="Set up the app").click()
    expect(page.locator("body")).to_contain_text("recovery codes")


def ask_for_access(browser: Browser, cluster: Cluster) -> None:
    """Bob, who may not open the application, says what he needs it for."""
    with open_context(browser) as (context, _):
        page = context.new_page()
        page.goto(cluster.app_url("dumper"))
        sign_in(page, "bob", PASSWORD)
        if (skip := page.get_by_role("button", name="Not now")).is_visible():
            skip.click()
        see(page, "You may not open this")
        page.get_by_label("What do you need it for?").fill("salaries")
        page.get_by_role("button", name="Ask for access").click()
        page.get_by_text("You asked for access").wait_for()


def test_every_route_is_visited_or_is_no_page() -> None:
    """A new page without a visit fails here."""
    assert sorted({*NOT_PAGES, *VISITS, *ELSEWHERE}) == ROUTES
    assert len(NOT_PAGES) + len(VISITS) + len(ELSEWHERE) == len(ROUTES)


def test_every_page_has_its_picture_in_the_documents() -> None:
    """A new page without one fails here; `python -m docs.images.sheets` takes them."""
    docs = Path(__file__).parents[2] / "docs"
    shown = re.findall(r"\(images/pages/([\w-]+)\.webp\)", (docs / "pages.md").read_text("utf-8"))

    assert {*(picture_of(route) for route in VISITS), *SSO_PAGES} <= set(shown)
    assert sorted(file.stem for file in (docs / "images" / "pages").iterdir()) == sorted(shown)


@pytest.mark.parametrize("route", VISITS)
def test_a_page_is_for_everybody_and_calm(signed: Signed, route: str) -> None:
    address = signed.address(VISITS[route], route)
    check(signed.context, signed.watch, signed.page, address, picture_of(route))


def picture_of(route: str) -> str:
    """Name the picture of a page: /web/user/{name}/reset is user-reset."""
    parts = [part for part in route.split("/") if part and part != "web" and part[0] != "{"]
    return "-".join(parts) + ("-one" if route.endswith("}") else "")


def check(context: BrowserContext, watch: Watch, page: Page, address: str, name: str) -> None:
    """Hold one page to all that a page is held to. `name`: of its picture, if one is kept."""
    watch.complaints.clear()
    watch.answers.clear()
    page.goto("about:blank")  # else the last page's live parts are counted in
    sizes = weigh(context, page, address)
    check_shown(watch, page, name, expected_error=page.locator("main.narrow h1").count() > 0)
    assert 0 < sum(sizes.values()) <= MAX_FIRST_VISIT, sizes


def check_shown(watch: Watch, page: Page, name: str, *, expected_error: bool = False) -> None:
    """Hold the page that is shown to it."""
    assert faults(page, name) == []
    assert watch.failed == []
    # Chromium complains of each page that is answered 4xx, which error pages are.
    said = [line for line in watch.complaints if not (expected_error and "status of 4" in line)]
    assert said == []
    assert {urlsplit(url).netloc for url, _ in watch.answers} <= {urlsplit(page.url).netloc}


def test_every_page_is_valid_html(signed: Signed, cluster: Cluster) -> None:
    documents = {}
    for route, visit in VISITS.items():
        answer = signed.page.goto(signed.address(visit, route))
        assert answer is not None
        assert answer.headers["content-type"] == "text/html; charset=utf-8", route
        documents[route] = answer.text()

    assert invalid(cluster.folder / "html", documents) == []
    assert len(documents) == len(VISITS)


def test_the_way_in_is_for_everybody_and_calm(cluster: Cluster, browser: Browser) -> None:
    """Sign-in, invite, second factor, recovery codes, and the question for the second step."""
    texts: dict[str, str] = {}
    with open_context(browser) as (context, watch):
        page = context.new_page()
        check(context, watch, page, cluster.add_user("carol"), "invite")
        texts["invite"] = page.content()
        choose_password(page)
        see(page, "Protect your account")
        check_shown(watch, page, "enrol")
        texts["enrol"] = page.content()
        set_up_app(page)
        check_shown(watch, page, "recovery-codes-made")
        texts["codes"] = page.content()
    with open_context(browser) as (context, watch):
        page = context.new_page()
        check(context, watch, page, f"{cluster.url}/web/login", "login")
        texts["login"] = page.content()
        sign_in(page, "carol", "wrong")
        expect(page.get_by_role("alert")).to_be_visible()
        check_shown(watch, page, "login-failed", expected_error=True)
        watch.complaints.clear()
        sign_in(page, "carol", PASSWORD)
        page.get_by_label("Code", exact=True).wait_for()
        assert urlsplit(page.url).path == "/web/login/second"
        check_shown(watch, page, "login-second")
        texts["second"] = page.content()

    assert invalid(cluster.folder / "html-way-in", texts) == []


def test_what_acts_lead_to_is_for_everybody_and_calm(signed: Signed, cluster: Cluster) -> None:
    """What is shown once, a check of an application, a form with a fault, and no such page."""
    page, watch = signed.page, signed.watch
    watch.answers.clear()
    texts: dict[str, str] = {}

    def look(name: str, heading: str) -> None:
        see(page, heading)
        check_shown(watch, page, name.replace(" ", "-"), expected_error=True)
        texts[name] = page.content()
        watch.complaints.clear()

    page.goto(f"{cluster.url}/web/users/add")
    page.get_by_label("User name").fill("dan")
    page.get_by_label("access").check()
    page.get_by_role("button", name="Make the invite link").click()
    look("user invited", "dan is invited")
    page.goto(f"{cluster.url}/web/users/add")
    page.get_by_label("User name").fill("dan")
    page.get_by_label("access").check()
    page.get_by_role("button", name="Make the invite link").click()
    look("user exists", "Add a user")
    page.goto(f"{cluster.url}/web/tokens/add")
    page.get_by_label("Only for this application").fill("shop")
    page.get_by_role("button", name="Make the token").click()
    look("token made", "A join token for shop")
    page.goto(f"{cluster.url}/web/agents")
    page.get_by_role("button", name="Check dumper").click()
    look("check", "Check of dumper")
    assert urlsplit(page.url).path.startswith("/web/check/")
    page.goto(f"{cluster.url}/web/account/tokens/add")
    page.get_by_label("Which program it is for").fill("calendar")
    page.get_by_role("button", name="Make the token").click()
    look("device token made", "The token “calendar” for")
    page.goto(f"{cluster.url}/web/nothing")
    look("not found", "")

    assert invalid(cluster.folder / "html-acts", texts) == []


def test_what_posting_a_role_and_a_lock_leads_to_is_for_everybody_and_calm(
    cluster: Cluster, browser: Browser
) -> None:
    """A preview, a fault at its field, a fault at its line, what was made."""
    texts: dict[str, str] = {}
    cluster.signed_in("ella", "editor")
    with open_context(browser) as (context, watch):
        page = context.new_page()

        def look(name: str, heading: str) -> None:
            see(page, heading)
            check_shown(watch, page, name.replace(" ", "-"), expected_error=True)
            texts[name] = page.content()
            watch.complaints.clear()

        page.goto(f"{cluster.url}/web/roles/add")
        sign_in(page, "ella", PASSWORD)
        if (skip := page.get_by_role("button", name="Not now")).is_visible():
            skip.click()
        page.get_by_label("Name", exact=True).fill("cooks")
        page.get_by_label("Sessions end after").fill("soon")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_be_visible()
        look("role fault", "Add a role")
        page.get_by_label("Sessions end after").fill("1h")
        page.get_by_role("button", name="Who would open what?").click()
        look("role preview", "Who may open what")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text("Role cooks was made")
        look("role made", "cooks")
        page.goto(f"{cluster.url}/web/role/cooks/yaml")
        text = page.get_by_label("The role, as Teleport writes it")
        text.fill(text.input_value() + "\nnonsense: 1\n")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_be_visible()
        look("role yaml fault", "cooks")

        page.goto(f"{cluster.url}/web/locks/add")
        page.get_by_label("Its name").fill("nobody")
        page.get_by_role("button", name="Lock", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        look("lock fault", "Lock somebody out")
        page.get_by_label("Its name").fill("locked")
        page.get_by_label("What they are told").fill("ask Kim")
        page.get_by_role("button", name="Lock", exact=True).click()
        expect(page.get_by_role("status")).to_be_visible()
        look("lock made", "Locks")

    assert len(texts) == 6
    assert invalid(cluster.folder / "html-posted", texts) == []


def test_who_is_refused_or_must_prove_it_anew_is_told_so_on_a_page_for_everybody(
    cluster: Cluster, browser: Browser
) -> None:
    """The refused page, before and after asking for access; the proof by the password alone."""
    texts: dict[str, str] = {}
    cluster.signed_in("ben", "auditor")
    with open_context(browser) as (context, watch):
        page = context.new_page()
        page.goto(cluster.app_url("dumper"))
        sign_in(page, "ben", PASSWORD)
        if (skip := page.get_by_role("button", name="Not now")).is_visible():
            skip.click()
        see(page, "You may not open this")
        for name in ("refused", "refused-asked"):
            watch.answers.clear()
            check_shown(watch, page, name, expected_error=True)
            texts[name] = page.content()
            watch.complaints.clear()
            if (ask := page.get_by_role("button", name="Ask for access")).is_visible():
                page.get_by_label("What do you need it for?").fill("accounts")
                ask.click()
                page.get_by_text("You asked for access").wait_for()
        check(context, watch, page, f"{cluster.url}/web/prove?next=/web/account", "prove-password")
        expect(page.get_by_label("Password")).to_be_visible()
        texts["prove"] = page.content()
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_be_visible()
        watch.answers.clear()
        check_shown(watch, page, "prove-failed", expected_error=True)
        texts["prove failed"] = page.content()

    assert invalid(cluster.folder / "html-refused", texts) == []


def test_the_judges_find_what_is_wrong(cluster: Cluster, browser: Browser) -> None:
    """So that their silence says something."""
    bad = "<title>x</title><p><div>a</div></p><img src=data:,><div style='width: 2000px'>wide</div>"
    with open_context(browser) as (context, _):
        page = context.new_page()
        page.set_content(bad)
        found = "\n".join(faults(page))

    assert "image-alt" in found
    assert "html-has-lang" in found
    assert "at 360 px it scrolls sideways" in found
    assert "close-order" in "\n".join(invalid(cluster.folder / "html-bad", {"bad": bad}))
