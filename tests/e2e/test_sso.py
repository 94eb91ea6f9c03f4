"""Signing in by real identity providers, in Chromium: roles and traits arrive at the application."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from playwright.sync_api import Browser, Page

from tests.e2e.browser import Watch, open_context, see
from tests.e2e.github import CLIENT, SECRET, open_github
from tests.e2e.harness import DOMAIN, Cluster, need, program, wait_for_port, wait_until
from tests.e2e.pages import faults, invalid, need_judges
from tests.e2e.site import Answer, Site, serve
from tests.ports import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
MOCK = ROOT / ".test" / "oidc-provider-mock" / "bin" / "oidc-provider-mock"
CERTIFIED = ROOT / ".test" / "oidc-provider"
PEOPLE = (
    {"sub": "ann", "email": "ann@x.test", "email_verified": True, "groups": ["dev"], "env": "dev"},
    {"sub": "sam", "email": "sam@x.test", "email_verified": True, "groups": ["sales"]},
    {
        "sub": "eva",
        "email": "eva@x.test",
        "email_verified": True,
        "groups": ["by-env"],
        "env": "dev",
    },
)
# Pictures of the pages that the way to a provider and back leads to.
SSO_PAGES = (
    "login-sso",
    "login-sso-alone",
    "signed-out",
    "sso-denied",
    "sso-refused",
    "sso-tested",
    "sso-test-done",
)
BY_ENV = """\
kind: role
version: v7
metadata: {name: by-env}
spec:
  allow:
    app_labels:
      env: '{{external.env}}'
"""


@dataclass(frozen=True)
class Provider:
    """A running provider, and the connector to it that was made."""

    issuer: str
    name: str


@pytest.fixture(scope="module", autouse=True)
def shown(cluster: Cluster) -> Iterator[Site]:
    """Applications: the debug one, and two that are sent traits, each for what another claim opens."""
    with serve(lambda _: Answer("<h1>Reached</h1>")) as site:
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: yes
  debug_app: true
  apps:
  - name: shown
    uri: {site.url}
    labels: {{env: dev}}
    rewrite: &traits
      headers:
      - "X-External-Trait: {{{{external.env}}}}"
      - "X-Teams: {{{{external.github_teams}}}}"
  - name: production
    uri: {site.url}
    labels: {{env: prod}}
    rewrite: *traits
"""
        )
        role = cluster.folder / "by-env.yaml"
        role.write_text(BY_ENV)
        cluster.tell("create", role)
        for app in ("dumper", "shown", "production"):
            cluster.wait_for_app(app, agent)
        yield site


@pytest.fixture(scope="module")
def mock(cluster: Cluster) -> Provider:
    need("oidc-provider-mock", MOCK.exists(), "make test-deps")
    port = free_port()
    claims = [f"--user-claims={json.dumps(person)}" for person in PEOPLE]
    process = cluster.spawn([str(MOCK), f"--port={port}", *claims])
    wait_for_port(port, process)
    issuer = f"http://127.0.0.1:{port}"
    make_connector(cluster, "mock", issuer, "Mock")
    return Provider(issuer, "mock")


@pytest.fixture(scope="module")
def certified(cluster: Cluster) -> Provider:
    """npm's oidc-provider: certified, with sessions, RP-initiated and back-channel logout."""
    node = program("node")
    need("node", node, "apt-get install nodejs")
    need("oidc-provider", CERTIFIED.exists(), "make test-deps")
    port = free_port()
    key = rsa.generate_private_key(65537, 2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key))
    del jwk["key_ops"]  # it both signs with it and verifies
    back = f"{cluster.url}/v1/webapi/oidc"
    folder = cluster.folder / "certified"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "e2e" / "oidc_provider.mjs", folder)
    (folder / "node_modules").symlink_to(CERTIFIED / "node_modules")
    process = cluster.spawn(
        [
            node,
            str(folder / "oidc_provider.mjs"),
            str(port),
            f"{back}/callback/certified",
            f"{cluster.url}/web/login?signed-out",
            f"{back}/logout/certified",
        ],
        env={
            "JWK": json.dumps({**jwk, "kid": "one", "use": "sig", "alg": "RS256"}),
            "GROUPS": "dev",
            "NODE_EXTRA_CA_CERTS": str(cluster.ca()),
        },
        cwd=folder,
    )
    process.wait_for("listening at")
    issuer = f"http://127.0.0.1:{port}"
    make_connector(cluster, "certified", issuer, "Certified")
    return Provider(issuer, "certified")


def connector_yaml(cluster: Cluster, name: str, issuer: str, display: str) -> str:
    secret = cluster.folder / f"{name}.secret"
    secret.touch(0o600)
    secret.write_text(SECRET + "\n")
    return f"""\
kind: oidc
version: v3
metadata: {{name: {name}}}
spec:
  display: {display}
  issuer_url: {issuer}
  client_id: {CLIENT}
  client_secret: file://{secret}
  scope: [email, profile]
  prompt: none
  claims_to_roles:
  - {{claim: groups, value: dev, roles: [access]}}
  - {{claim: groups, value: by-env, roles: [by-env]}}
"""


def make_connector(cluster: Cluster, name: str, issuer: str, display: str) -> None:
    file = cluster.folder / f"{name}.yaml"
    file.write_text(connector_yaml(cluster, name, issuer, display))
    cluster.tell("create", file)


@contextmanager
def visitor(browser: Browser) -> Iterator[tuple[Page, Watch]]:
    with open_context(browser, viewport={"width": 1280, "height": 800}) as (context, watch):
        yield context.new_page(), watch


def assert_calm_here(watch: Watch) -> None:
    """Hold that no page of ours brought a warning about; the provider's are its own affair."""
    assert [line for line in (*watch.failed, *watch.complaints) if DOMAIN in line] == []


def is_for_everybody(cluster: Cluster, page: Page, name: str) -> None:
    """Hold a page of ours to what each is held to: WCAG, valid HTML, narrow and wide, light and dark."""
    assert name in SSO_PAGES
    need_judges()
    assert faults(page, name) == []
    assert invalid(cluster.folder / f"html-{name}", {name: page.content()}) == []


def at_mock(page: Page, sub: str) -> None:
    page.get_by_role("button", name=sub, exact=True).click()


def at_certified(page: Page, name: str) -> None:
    """Sign in at the provider's own pages, and consent."""
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("anything")
    page.get_by_role("button", name=re.compile("sign-in", re.I)).click()
    page.get_by_role("button", name=re.compile("continue", re.I)).click()


def sent(site: Site) -> tuple[Message, dict[str, Any]]:
    """Return the headers of the last request for a page that reached an application, and its JWT's claims."""
    headers = [request.headers for request in site.seen if request.path != "/favicon.ico"][-1]
    token = headers["Teleport-Jwt-Assertion"]
    return headers, jwt.decode(token, options={"verify_signature": False})


def told(page: Page) -> dict[str, str]:
    """Return the headers that the debug application shows."""
    see(page, "It works")
    return {
        row.locator("th").inner_text(): row.locator("td").inner_text()
        for row in page.locator("tr").all()
    }


def test_a_provider_signs_in_to_the_very_page_and_its_claims_arrive_there(
    cluster: Cluster, browser: Browser, mock: Provider
) -> None:
    with visitor(browser) as (page, watch):
        page.goto(cluster.app_url("dumper", "/deep/page?q=1"))
        page.get_by_role("link", name="Sign in with Mock").click()
        at_mock(page, "ann")
        headers = told(page)
        assert page.url == cluster.app_url("dumper", "/deep/page?q=1")
        assert_calm_here(watch)

    claims = jwt.decode(headers["teleport-jwt-assertion"], options={"verify_signature": False})
    assert claims["username"] == "ann@x.test"
    assert claims["roles"] == ["access"]
    assert claims["traits"]["groups"] == ["dev"]
    assert claims["traits"]["env"] == ["dev"]
    assert '"origin": "oidc/mock"' in cluster.tell("users", "ls", "--format=json")


def test_a_claim_arrives_as_a_header_and_in_the_jwt_from_the_mock(
    cluster: Cluster, browser: Browser, mock: Provider, shown: Site
) -> None:
    with visitor(browser) as (page, watch):
        page.set_extra_http_headers({"X-External-Trait": "forged", "X-Teams": "acme/owners"})
        page.goto(cluster.app_url("shown"))
        page.get_by_role("link", name="Sign in with Mock").click()
        at_mock(page, "ann")
        see(page, "Reached")
        assert_calm_here(watch)
    headers, claims = sent(shown)
    assert headers.get_all("X-External-Trait") == ["dev"]
    assert headers.get_all("X-Teams") is None  # whoever has no such trait sends none either
    assert (claims["username"], claims["roles"]) == ("ann@x.test", ["access"])
    assert claims["traits"]["env"] == ["dev"]


def test_a_claim_arrives_as_a_header_and_in_the_jwt_from_the_certified_provider(
    cluster: Cluster, browser: Browser, certified: Provider, shown: Site
) -> None:
    with visitor(browser) as (page, watch):
        page.goto(cluster.app_url("shown"))
        page.get_by_role("link", name="Sign in with Certified").click()
        at_certified(page, "cyd")
        see(page, "Reached")
        assert_calm_here(watch)
    headers, claims = sent(shown)
    assert headers.get_all("X-External-Trait") == ["dev"]
    assert (claims["username"], claims["roles"]) == ("cyd@x.test", ["access"])
    assert (claims["traits"]["env"], claims["traits"]["groups"]) == (["dev"], ["dev"])


def test_a_claim_opens_what_a_roles_labels_say_and_nothing_else(
    cluster: Cluster, browser: Browser, mock: Provider, shown: Site
) -> None:
    with visitor(browser) as (page, _):
        page.goto(cluster.app_url("shown"))
        page.get_by_role("link", name="Sign in with Mock").click()
        at_mock(page, "eva")
        see(page, "Reached")
        assert sent(shown)[1]["roles"] == ["by-env"]
        before = pages_of(shown)
        page.goto(cluster.app_url("production"))
        see(page, "You may not open this")
        assert pages_of(shown) == before


def pages_of(site: Site) -> int:
    """How often a page was asked for; the browser asks for an icon of its own, when it likes."""
    return sum(request.path == "/" for request in site.seen)


def test_whom_no_mapping_fits_reads_what_came_and_which_claims_count(
    cluster: Cluster, browser: Browser, mock: Provider
) -> None:
    with visitor(browser) as (page, _):
        page.goto(cluster.url)
        see(page, "Sign in")
        is_for_everybody(cluster, page, "login-sso")
        page.get_by_role("link", name="Sign in with Mock").click()
        at_mock(page, "sam")
        see(page, "You are not signed in")
        text = page.locator("main").inner_text()
        assert "groups: sales" in text
        assert "groups: none of what it says gives you one" in text
        # Which values do is not for everybody who has an account there.
        assert "by-env" not in text
        assert not re.search(r"\bdev\b", text)
        is_for_everybody(cluster, page, "sso-refused")
        page.get_by_role("link", name="Other ways to sign in").click()
        see(page, "Sign in")


def test_who_says_no_at_the_provider_is_told_so(
    cluster: Cluster, browser: Browser, mock: Provider
) -> None:
    with visitor(browser) as (page, _):
        page.goto(cluster.url)
        page.get_by_role("link", name="Sign in with Mock").click()
        page.get_by_role("button", name="Deny").click()
        see(page, "You are not signed in")
        # This one sends no `state` along with its error, so that it can be of anybody's sign-in.
        assert "did not sign you in: access_denied" in page.locator("main").inner_text()
        page.get_by_role("link", name="Try again").wait_for()
        is_for_everybody(cluster, page, "sso-denied")


def test_leaving_leads_to_the_providers_own_way_out_and_back(
    cluster: Cluster, browser: Browser, certified: Provider
) -> None:
    with visitor(browser) as (page, watch):
        page.goto(cluster.url)
        page.get_by_role("link", name="Sign in with Certified").click()
        at_certified(page, "bob")
        see(page, "Applications")
        page.goto(f"{cluster.url}/web/logout")
        page.get_by_role("button", name="Sign out").click()
        see(page, "You are signed out")
        is_for_everybody(cluster, page, "signed-out")
        page.get_by_role("link", name="Sign out of Certified, too").click()
        page.get_by_role("button", name=re.compile("yes", re.I)).click()
        page.get_by_text("You are signed out, here and in every").wait_for()
        page.get_by_role("link", name="Sign in with Certified").click()
        page.locator("input[name=login]").wait_for()  # it asks again who it is
        assert_calm_here(watch)


def test_who_leaves_at_the_provider_is_signed_out_here(
    cluster: Cluster, browser: Browser, certified: Provider
) -> None:
    with visitor(browser) as (page, _):
        page.goto(cluster.url)
        page.get_by_role("link", name="Sign in with Certified").click()
        at_certified(page, "eve")
        see(page, "Applications")
        page.goto(f"{certified.issuer}/session/end")
        page.get_by_role("button", name=re.compile("yes", re.I)).click()

        def is_out() -> bool:
            return "eve@x.test" not in cluster.tell("sessions", "ls", "--format=json")

        wait_until(is_out, "the session ended")
        page.goto(cluster.url)
        see(page, "Sign in")


def test_a_connector_is_tried_before_it_is_made(
    cluster: Cluster, browser: Browser, mock: Provider
) -> None:
    file = cluster.folder / "tried.yaml"
    file.write_text(connector_yaml(cluster, "tried", mock.issuer, "Tried"))
    trying = cluster.start(f"--config={cluster.file}", "sso", "test", file)
    trying.wait_for("/web/sso/test/")
    with visitor(browser) as (page, _):
        page.goto(trying.stdout.strip())
        at_mock(page, "ann")
        see(page, "That was the test")
        is_for_everybody(cluster, page, "sso-tested")
        page.goto(trying.stdout.splitlines()[0].strip())
        see(page, "You are not signed in")  # done once, it is nobody's to do again
        assert "done already" in page.locator("main").inner_text()
        is_for_everybody(cluster, page, "sso-test-done")
    assert trying.wait() == 0
    assert "user:  ann@x.test" in trying.stdout
    assert "roles: access" in trying.stdout
    assert "dumper" in trying.stdout
    assert "tried" not in cluster.tell("get", "connectors")


def test_a_test_tells_whoever_administers_what_would_have_given_a_role(
    cluster: Cluster, browser: Browser, mock: Provider
) -> None:
    file = cluster.folder / "tried-in-vain.yaml"
    file.write_text(connector_yaml(cluster, "tried", mock.issuer, "Tried"))
    trying = cluster.start(f"--config={cluster.file}", "sso", "test", file)
    trying.wait_for("/web/sso/test/")
    with visitor(browser) as (page, _):
        page.goto(trying.stdout.strip())
        at_mock(page, "sam")
        see(page, "That was the test")
        assert "dev" not in page.locator("main").inner_text()
    assert trying.wait() == 1
    assert re.search(
        r"WOULD MAP +VALUE +ROLES\s+groups +dev +access\s+groups +by-env", trying.stdout
    )
    assert "gives you a role" in trying.stderr


def test_with_one_provider_and_no_passwords_the_way_is_straight(
    cluster: Cluster, browser: Browser, mock: Provider
) -> None:
    preference = cluster.folder / "cap.yaml"
    preference.write_text("kind: cap\nversion: v2\nspec: {allow_local_auth: false}\n")
    made = cluster.tell("get", "oidc", "--with-secrets")
    for name in re.findall(r"name: (\w+)", made):
        if name != "mock":
            cluster.tell("rm", f"oidc/{name}")
    try:
        cluster.tell("create", "-f", preference)
        with visitor(browser) as (page, _):
            page.goto(cluster.app_url("dumper"))
            at_mock(page, "ann")  # no page of ours before it
            told(page)
        with visitor(browser) as (page, _):
            page.goto(f"{cluster.url}/web/login?stay")
            page.get_by_role("link", name="Go on to Mock").wait_for()
            is_for_everybody(cluster, page, "login-sso-alone")
    finally:
        cluster.tell("rm", "cap")
        saved = cluster.folder / "saved.yaml"
        saved.touch(0o600)
        saved.write_text(made)
        cluster.tell("create", "-f", saved)


def test_github_teams_open_what_their_roles_open_and_arrive_there(
    cluster: Cluster, browser: Browser, shown: Site
) -> None:
    with open_github("Octo", {"acme": ["devs", "ops"], "other": []}) as address:
        file = cluster.folder / "octo.yaml"
        file.touch(0o600)
        file.write_text(
            f"""\
kind: github
version: v3
metadata: {{name: octo}}
spec:
  display: GitHub
  client_id: {CLIENT}
  client_secret: {SECRET}
  endpoint_url: {address}
  api_endpoint_url: {address}
  teams_to_roles:
  - {{organization: acme, team: devs, roles: [access]}}
"""
        )
        cluster.tell("create", file)
        with visitor(browser) as (page, watch):
            page.goto(cluster.app_url("shown"))
            page.get_by_role("link", name="Sign in with GitHub").click()
            page.get_by_role("button", name="Authorize tport").click()
            see(page, "Reached")
            assert_calm_here(watch)
        cluster.tell("rm", "github/octo")

    headers, claims = sent(shown)
    assert headers.get_all("X-Teams") == ["acme/devs", "acme/ops"]
    assert headers.get_all("X-External-Trait") is None
    assert (claims["username"], claims["roles"]) == ("octo", ["access"])
    assert claims["traits"]["github_teams"] == ["acme/devs", "acme/ops"]
