"""The proxy's own pages against a hostile application beside them: `evil.proxy.test`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import httpx2
import pytest

from tests.engine.web.browser import (
    APPS,
    ORIGIN,
    PASSWORD,
    WEB_COOKIE,
    Browser,
    hidden_fields,
    open_browser,
)
from tests.fakes import FakeAuth, WallClock
from tport.engine.api.catalogue import OwnApp
from tport.engine.types.launch import LaunchRequest
from tport.engine.web.assets import ASSETS

INVITE = "/web/invite/invite-token-of-bob-0001"
LONG = "a passphrase of bob"
OWN_ICON = re.compile(r"|/web/app/[\w%.-]+/icon(\?[\w=%.-]*)?")  # "": the template of one
TAGS = "<img src=x onerror=alert(1)>\"'</script>"


@pytest.fixture
def auth() -> FakeAuth:
    return FakeAuth(WallClock())


@pytest.fixture
async def browser(auth: FakeAuth) -> AsyncIterator[Browser]:
    async with open_browser(auth) as opened:
        yield opened


class Elements(HTMLParser):
    """The start tags of a page with their attributes, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


FOREIGN = [
    {"sec_fetch_site": "same-site", "origin": "https://evil.proxy.test:3080"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "cross-site", "origin": "https://proxy.test:3080"},
    {"sec_fetch_site": "same-site", "origin": "null"},
    {"sec_fetch_site": "none", "origin": "null"},
    {"sec_fetch_site": "none", "origin": "https://proxy.test.evil.com"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_web_05_a_form_sent_from_another_site_changes_nothing(
    browser: Browser, auth: FakeAuth, headers: dict[str, str]
) -> None:
    """Even with the right token and cookies: sign-in, invite and sign-out."""
    login = hidden_fields((await browser.get("/web/login")).text)
    invite = hidden_fields((await browser.get(INVITE)).text)
    posts = [
        ("/web/login", {**login, "username": "alice", "password": PASSWORD}),
        (INVITE, {**invite, "password": LONG, "confirm": LONG}),
    ]
    for path, fields in posts:
        assert (await browser.post(path, fields, **headers)).status_code == 403
    assert auth.sessions == {}

    await browser.sign_in()
    logout = hidden_fields((await browser.get("/web/logout")).text)
    assert (await browser.post("/web/logout", logout, **headers)).status_code == 403

    assert auth.calls == ["sign_in"]
    assert len(auth.sessions) == 1


async def test_web_05_without_fetch_metadata_the_origin_must_be_ours(
    browser: Browser, auth: FakeAuth
) -> None:
    del browser.http.headers["sec-fetch-site"]
    fields = {
        **hidden_fields((await browser.get("/web/login")).text),
        "username": "alice",
        "password": PASSWORD,
    }
    for origin in ("null", "https://evil.proxy.test:3080", "https://proxy.test.evil.com", ""):
        assert (await browser.post("/web/login", fields, origin=origin)).status_code == 403
    assert auth.calls == []

    assert (await browser.post("/web/login", fields, origin=ORIGIN)).status_code == 303


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é"])
async def test_web_05_a_form_without_its_token_changes_nothing(
    browser: Browser, auth: FakeAuth, token: str | None
) -> None:
    """Whoever sends neither Origin nor Fetch Metadata is no browser, and still needs the token."""
    await browser.sign_in()
    await browser.get(INVITE)
    del browser.http.headers["sec-fetch-site"]
    extra = {} if token is None else {"token": token}

    for path, fields in (
        ("/web/login", {"username": "alice", "password": PASSWORD}),
        (INVITE, {"password": LONG, "confirm": LONG}),
        ("/web/logout", {"sure": "yes"}),
    ):
        assert (await browser.post(path, {**fields, **extra})).status_code == 403

    assert auth.calls == ["sign_in"]


async def test_web_05_a_token_of_another_browser_or_form_does_not_fit(
    browser: Browser, auth: FakeAuth
) -> None:
    credentials = {"username": "alice", "password": PASSWORD}
    async with open_browser(auth) as attacker:
        foreign = hidden_fields((await attacker.get("/web/login")).text)
    await browser.get("/web/login")
    invite = hidden_fields((await browser.get(INVITE)).text)

    for form in (foreign, invite):
        response = await browser.post("/web/login", {"token": form["token"], **credentials})
        assert response.status_code == 403

    assert auth.calls == []


async def test_web_05_no_address_changes_anything_by_get(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    for path in ("/web/logout", INVITE, f"/web/login?username=alice&password={PASSWORD}", APPS):
        await browser.get(path)

    assert auth.calls == ["sign_in"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
async def test_web_05_only_forms_are_read(browser: Browser, auth: FakeAuth, kind: str) -> None:
    response = await browser.http.post("/web/login", content=b"{}", headers={"content-type": kind})

    assert response.status_code == 400
    assert auth.calls == []


EVIL_PATHS = [
    "//evil",
    "/\\evil",
    "/\t/evil",
    "/\n/evil",
    "https:evil",
    "https:/evil",
    "https://evil",
    "https://proxy.test@evil",
    "https://evil#@proxy.test",
    "https://evil\\@proxy.test",
    "javascript:alert(1)",
    "%2f%2fevil",
    "https://evil%E3%80%82com",
    "/x\r\nLocation: https://evil",
    "\\\\evil",
    " //evil",
    "/\u3002evil",
]


@pytest.mark.parametrize("evil", EVIL_PATHS)
async def test_web_09_signing_in_never_leads_to_an_address_from_outside(
    browser: Browser, evil: str
) -> None:
    page = await browser.http.get("/web/login", params={"next": evil})
    assert hidden_fields(page.text)["next"] == "/"
    form = {**hidden_fields(page.text), "username": "alice", "password": PASSWORD, "next": evil}

    response = await browser.post("/web/login", form)
    assert (response.status_code, response.headers["location"]) == (303, "/")

    already = await browser.http.get("/web/login", params={"next": evil})
    assert (already.status_code, already.headers["location"]) == (302, "/")


@pytest.mark.parametrize("evil", EVIL_PATHS)
async def test_web_09_the_launcher_stays_on_the_registered_host(
    browser: Browser, evil: str
) -> None:
    """Even if a sealed state held such a path."""
    await browser.sign_in()
    browser.states["evil"] = LaunchRequest(
        state_id="&next=https://evil", app_host="grafana.proxy.test", raw_path=evil, expired=True
    )

    response = await browser.get("/web/launch?state=evil")

    assert response.headers["location"] == "https://grafana.proxy.test:3080/"


@pytest.mark.parametrize("expired", [False, True])
async def test_web_09_a_sealed_state_for_a_host_nobody_registered_leads_nowhere(
    browser: Browser, expired: bool
) -> None:
    """Anyone can have a state sealed for any Host; only auth knows which are applications."""
    await browser.sign_in()
    browser.states["evil"] = LaunchRequest(
        state_id="s", app_host="evil.com", raw_path="/", expired=expired
    )

    response = await browser.get("/web/launch?state=evil")

    assert response.status_code == 403
    assert "location" not in response.headers
    assert 'href="https://evil.com' not in response.text


async def test_web_09_code_and_state_cannot_add_to_the_address(browser: Browser) -> None:
    await browser.sign_in()
    browser.states["odd"] = LaunchRequest(state_id="a&b=c#d", app_host="grafana.proxy.test")

    response = await browser.get("/web/launch?state=odd")

    assert response.headers["location"].endswith("/.tport/auth?code=code-1&state=a%26b%3Dc%23d")


@pytest.mark.parametrize("path", ["/web/", "/web/login/", "//evil.com/", "/web/logout/"])
async def test_web_09_no_redirect_is_built_from_the_host_header(
    browser: Browser, path: str
) -> None:
    response = await browser.http.get(f"{ORIGIN}{path}", headers={"host": "evil.com"})

    assert response.status_code == 404


async def every_response(browser: Browser) -> dict[str, httpx2.Response]:
    browser.auth.apps = (OwnApp(name="grafana", address="grafana.proxy.test:3080"),)
    paths = ["/web/login", INVITE, "/web/invite/none", "/nowhere", "/web/cluster/other/apps"]
    paths += ["/webapi/ping", "/webapi/cas", "/.well-known/jwks.json", "/healthz", "/robots.txt"]
    paths += ["/favicon.ico", *ASSETS]
    found = {path: await browser.get(path) for path in paths}
    found |= {f"{path} bare": await browser.get(path) for path in (APPS, "/", "/web/launch")}
    found["wrong"] = await browser.submit("/web/login", {"username": "alice", "password": "x"})
    found["in"] = await browser.sign_in()
    paths = [APPS, "/", "/web/logout", "/web/launch?state=good", "/web/launch?state=other"]
    paths += ["/web/launch?state=good&form=1", "/web/launch?state=good&round=3", "/web/launch"]
    found |= {path: await browser.get(path) for path in paths}
    found["405"] = await browser.post("/webapi/ping", {})
    browser.auth.failure = ValueError("a bug")
    found["500"] = await browser.get("/")
    return found


async def test_web_11_every_answer_refuses_frames_sniffing_and_foreign_script(
    browser: Browser,
) -> None:
    for path, response in (await every_response(browser)).items():
        headers = response.headers
        csp = dict(part.strip().partition(" ")[::2] for part in headers[CSP].split(";"))
        assert csp["default-src"] == "'none'", path
        assert csp["base-uri"] == "'none'", path
        assert csp["frame-ancestors"] == "'none'", path
        assert csp["form-action"] in ("'self'", "'none'"), path
        assert csp.get("script-src", "'self'") == "'self'", path
        assert "unsafe" not in headers[CSP], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY", path
        assert headers["cross-origin-opener-policy"] == "same-origin", path
        assert headers["referrer-policy"] == "same-origin", path
        assert "access-control-allow-origin" not in headers, path
        public = path.startswith(("/static/", "/.well-known/", "/favicon"))
        assert (headers["cache-control"] == "no-store") is not public, path


CSP = "content-security-policy"


async def test_web_11_no_page_holds_script_or_style_of_its_own(browser: Browser) -> None:
    for path, response in (await every_response(browser)).items():
        if not response.headers.get("content-type", "").startswith("text/html"):
            continue
        by_hash = "style-src 'sha256-" in response.headers[CSP]
        for tag, attributes in Elements(response.text).found:
            assert tag != "style" or by_hash, path
            assert tag != "script" or str(attributes["src"]).startswith("/static/"), path
            assert not any(name.startswith("on") or name == "style" for name in attributes), path


@pytest.mark.parametrize(
    "token", ["x$(id)", "%0d%0aSet-Cookie:x=1", "a%2f..%2fb", "<script>", "a" * 4000, "é" * 20]
)
async def test_web_11_an_odd_token_in_a_path_is_not_found_and_never_repeated(
    browser: Browser, auth: FakeAuth, token: str
) -> None:
    response = await browser.get(f"/web/invite/{token}")

    assert response.status_code == 404
    assert "$(id)" not in response.text
    assert "<script" not in response.text
    assert "x" not in response.headers.get("set-cookie", "")


async def test_web_12_what_applications_say_of_themselves_is_text(browser: Browser) -> None:
    await browser.sign_in()
    app = OwnApp(
        name=TAGS, address=f"grafana.proxy.test/{TAGS}", description=TAGS, labels={TAGS: TAGS}
    )
    browser.auth.apps = (app,)

    page = await browser.http.get(APPS, params={"q": TAGS})

    check_inert(page.text)
    assert "Showing 1 of 1" in page.text  # it was found and shown, as text


async def test_web_12_an_application_s_link_is_always_https(browser: Browser) -> None:
    """WEB-12: an address that would be script is made none."""
    await browser.sign_in()
    browser.auth.apps = (OwnApp(name="bad", address="javascript:alert(1)"),)

    page = await browser.get(APPS)

    assert 'href="https://javascript:alert(1)/"' in page.text
    assert 'href="javascript' not in page.text


async def test_web_12_names_and_errors_that_come_back_are_text(
    browser: Browser, auth: FakeAuth
) -> None:
    auth.invites["invite-token-of-tags-0001"] = TAGS
    browser.states["tags"] = LaunchRequest(state_id="s", app_host=TAGS, raw_path="/")
    pages = [
        await browser.submit("/web/login", {"username": TAGS, "password": TAGS}),
        await browser.http.get("/web/login", params={"next": f"/{TAGS}".replace(" ", "+")}),
        await browser.get("/web/invite/invite-token-of-tags-0001"),
        await browser.get(f"/{TAGS}"),
    ]
    await browser.sign_in()
    pages.append(await browser.get("/web/launch?state=tags"))

    for page in pages:
        check_inert(page.text)


def check_inert(page: str) -> None:
    """What an attacker wrote made no element and no attribute."""
    for tag, attributes in Elements(page).found:
        assert tag != "img" or OWN_ICON.fullmatch(attributes.get("src") or "")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"</script>(?!\s*</head>|\s*$)", page.split("</head>", 1)[1])


async def test_web_01_a_session_cookie_sent_twice_is_no_session(browser: Browser) -> None:
    """One of them was planted, and no one can tell which."""
    await browser.sign_in()
    twice = f"{WEB_COOKIE}=secret-alice-0; {WEB_COOKIE}=other"

    response = await browser.http.get("/", headers={"cookie": twice})

    assert response.headers["location"] == "/web/login"
