"""AUTH-12, WEB-11, WEB-12 and AZ-08 through a whole proxy: its own pages, and who may change what there."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from tests.browser import Browser, hidden_fields
from tests.security.conftest import MovableClock
from tests.stack import DOMAIN, PASSWORD, Answer, Person, Stack
from tport.engine.types.app import App
from tport.engine.types.resource import AppResource

MARKUP = "<img src=x onerror=alert(1)>"
CSP = "content-security-policy"
PAGES = (
    *("/web/users", "/web/users/add", "/web/user/erin", "/web/roles", "/web/roles/add"),
    *("/web/role/access", "/web/role/access/yaml", "/web/tokens", "/web/tokens/add"),
    *("/web/agents", "/web/apps/add", "/web/sessions", "/web/locks", "/web/locks/add"),
    *("/web/requests", "/web/join", "/web/device-tokens", "/web/account/sessions"),
    *("/web/account", "/web/account/password", "/web/account/devices/add", "/web/account/tokens"),
    *("/web/audit", "/web/audit?log=requests", "/web/prove", "/web/logout", "/web", "/nowhere"),
    *("/web/user/nobody", "/web/launch", "/web/login?next=/web/users", "/v1/openapi.json"),
)


@pytest.fixture
async def editor(stack: Stack) -> Browser:
    await stack.user("erin", roles=("editor", "auditor", "access"))
    opened = Browser(stack)
    await opened.sign_in("erin")
    return opened


class Elements(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# --- WEB-11 -----------------------------------------------------------------------------------------------


async def test_web_11_every_page_refuses_frames_sniffing_and_script_of_others(
    stack: Stack, editor: Browser
) -> None:
    """Those of an administrator too: no script or style in a page, none from elsewhere."""
    wrong = {}
    for path in PAGES:
        answer = await editor.ask(f"{stack.proxy_url}{path}")
        if problem := _unprotected(answer):
            wrong[path] = problem

    assert wrong == {}


def _unprotected(answer: Answer) -> str:
    """Return what is missing, "" when nothing is."""
    csp = dict(part.strip().partition(" ")[::2] for part in answer.header(CSP).split(";"))
    wanted = {"default-src": "'none'", "base-uri": "'none'", "frame-ancestors": "'none'"}
    headers = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "same-origin",
        "access-control-allow-origin": "",
    }
    for name, value in wanted.items():
        if csp.get(name) != value:
            return f"{name}: {csp.get(name)}"
    for name, value in headers.items():
        if answer.header(name) != value:
            return f"{name}: {answer.header(name)}"
    if "unsafe" in answer.header(CSP) or csp.get("script-src", "'self'") != "'self'":
        return answer.header(CSP)
    if not answer.header("content-type").startswith("text/html"):
        return ""
    for tag, attributes in Elements(answer.body.decode()).found:
        if tag == "script" and not str(attributes.get("src")).startswith("/static/"):
            return f"<script> {attributes}"
        by_hash = "style-src 'sha256-" in answer.header(CSP)
        if (tag == "style" and not by_hash) or any(
            name.startswith("on") or name == "style" for name in attributes
        ):
            return f"<{tag}> {attributes}"
    return ""


@pytest.mark.parametrize(
    "token", ["x$(id)", "%0d%0aSet-Cookie:x=1", "a%2f..%2fb", "%3Cscript%3E", "a" * 4000]
)
async def test_web_11_an_odd_token_in_a_path_is_not_found_and_not_repeated(
    stack: Stack, token: str
) -> None:
    for path in ("/web/invite/", "/scripts/", "/web/app/"):
        answer = await Browser(stack).ask(f"{stack.proxy_url}{path}{token}")

        assert answer.status == 404
        assert b"$(id)" not in answer.body
        assert b"<script>" not in answer.body
        assert not any(line.startswith("x=1") for line in answer.all("set-cookie"))


# --- WEB-12 -----------------------------------------------------------------------------------------------


async def test_web_12_what_applications_and_people_say_of_themselves_is_text(
    stack: Stack, editor: Browser
) -> None:
    """A description and a label that an application brings, a trait, a lock's message, a user agent."""
    app = App(
        name="evil",
        uri="http://127.0.0.1:1",
        description=MARKUP,
        labels={"team": MARKUP},
    )
    await stack.admin.put_resource(resource=AppResource(app=app), mode="create")
    await stack.admin.create_user(name="bob", roles=("access",), traits={"team": (MARKUP,)})
    mallory = Browser(stack)
    await stack.user("mallory")
    await mallory.submit(
        f"{stack.proxy_url}/web/login",
        {"username": "mallory", "password": PASSWORD},
        {"User-Agent": MARKUP},
    )

    for path in ("/web/agents", "/web/user/bob", "/web/sessions", "/web/users?q=" + MARKUP, "/web"):
        answer = await editor.go(f"{stack.proxy_url}{path.replace(' ', '%20')}")
        for tag, attributes in Elements(answer.body.decode()).found:
            assert tag != "img" or attributes.get("src") != "x", path
            assert not any(name.startswith("on") for name in attributes), path


# --- AUTH-12 ----------------------------------------------------------------------------------------------

SENSITIVE = {
    "a user": ("/web/users/add", {"name": "mole", "role:editor": "on"}),
    "a link": ("/web/user/alice/reset", {}),
    "a role": ("/web/roles/add", {"name": "all"}),
    "a token": ("/web/tokens/add", {"life": "60", "uses": "1"}),
    "a password": (
        "/web/account/password",
        {"current": PASSWORD, "password": "new " + PASSWORD, "confirm": "new " + PASSWORD},
    ),
}


@pytest.mark.parametrize("what", SENSITIVE)
async def test_auth_12_a_session_that_was_left_open_changes_nothing_without_a_new_proof(
    stack: Stack, alice: Person, editor: Browser, clock: MovableClock, what: str
) -> None:
    """Its form, filled in before, comes back with the way to the proof."""
    path, fields = SENSITIVE[what]
    page = await editor.ask(f"{stack.proxy_url}{path}")
    users, tokens = await stack.admin.list_users(), await stack.admin.list_tokens()
    clock.ahead += timedelta(minutes=5, seconds=1)

    answer = await editor.submit(f"{stack.proxy_url}{path}", fields, page=page)

    assert answer.status == 401
    assert b'href="/web/prove?' in answer.body
    assert await stack.admin.list_users() == users
    assert "all" not in {role.name for role in await stack.admin.list_roles()}
    assert await stack.admin.list_tokens() == tokens
    await (other := Browser(stack)).sign_in("erin")  # the password is what it was
    assert stack.web_cookie in other.jar[DOMAIN]


async def test_auth_12_the_json_api_asks_for_the_same_proof(
    stack: Stack, editor: Browser, clock: MovableClock
) -> None:
    body = json.dumps({"name": "mole", "roles": ["editor"], "traits": {}}).encode()
    headers = {
        "Content-Type": "application/json",
        "Origin": stack.proxy_url,
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Dest": "empty",
        "Accept": "application/json",
    }
    page = (await editor.ask(f"{stack.proxy_url}/web/users/add")).body.decode()
    assert hidden_fields(page)
    clock.ahead += timedelta(minutes=5, seconds=1)

    answer = await editor.ask(
        f"{stack.proxy_url}/v1/create_user", headers, method="POST", body=body
    )

    assert answer.status == 401
    assert "mole" not in {each.user.name for each in await stack.admin.list_users()}


async def test_auth_12_a_session_ends_after_an_hour_of_nothing_and_after_twelve_of_anything(
    stack: Stack, editor: Browser, clock: MovableClock
) -> None:
    account = f"{stack.proxy_url}/web/account"
    for _ in range(12):
        clock.ahead += timedelta(minutes=58)
        assert (await editor.ask(account)).status == 200
    clock.ahead += timedelta(minutes=30)

    assert "/web/login" in (await editor.ask(account)).header("location")

    await editor.sign_in("erin")
    clock.ahead += timedelta(minutes=61)
    assert "/web/login" in (await editor.ask(account)).header("location")


# --- AZ-08 ------------------------------------------------------------------------------------------------


async def test_az_08_the_published_keys_are_public_alone_and_kept_five_minutes_at_most(
    stack: Stack,
) -> None:
    answer = await stack.request(DOMAIN, "/.well-known/jwks.json")

    keys = json.loads(answer.body)["keys"]
    assert keys
    assert not any(key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"} for key in keys)
    assert all(key["kid"] and key["use"] == "sig" for key in keys)
    [age] = re.findall(r"max-age=(\d+)", answer.header("cache-control"))
    assert int(age) <= 300
    assert answer.header("access-control-allow-origin") == ""
