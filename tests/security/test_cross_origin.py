"""Pages of other sites and an application, through a whole proxy: WEB-10, WEB-13, WEB-17."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from tests.stack import Answer, Person, RawApp, Stack, open_stack
from tport.engine.types.app import App, CookieSameSite, Cors
from tport.engine.types.session import session_id

PORTAL = "https://portal.example.com"
EVIL = "https://evil.example.com"
ASKING = {"Access-Control-Request-Method": "PUT"}
OWN_WORD = (
    b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: PUT\r\n"
    b"Vary: Accept\r\nContent-Length: 2\r\n\r\nhi"
)
CORS = Cors(
    allowed_origins=(PORTAL,),
    allowed_methods=("PUT",),
    exposed_headers=("ETag",),
    allow_credentials=True,
)


def cors_headers(answer: Answer) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers
        if name.startswith("access-control-") or name == "vary"
    }


@pytest.fixture
async def api(nursery: trio.Nursery) -> RawApp:
    """An application with a word of its own about other origins."""
    app = RawApp()
    await nursery.start(app.run)
    app.answers(OWN_WORD)
    return app


@pytest.fixture
async def stack(api: RawApp) -> AsyncIterator[Stack]:
    uri = f"http://127.0.0.1:{api.port}"
    async with open_stack(
        apps=[
            App(name="api", uri=uri, cors=CORS),
            *(App(name=f"api-{kind}", uri=uri, cookie_same_site=kind) for kind in KINDS),
        ],
        drain=False,
    ) as opened:
        yield opened


KINDS: tuple[CookieSameSite, ...] = ("lax", "none", "strict")


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


async def test_web_13_a_preflight_that_may_pass_is_answered_and_reaches_no_application(
    stack: Stack, api: RawApp
) -> None:
    answer = await stack.request(
        stack.host("api"), "/x", {"Origin": PORTAL, **ASKING}, method="OPTIONS"
    )

    assert answer.status == 204
    assert cors_headers(answer) == {
        "access-control-allow-origin": PORTAL,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "PUT",
        "vary": "Origin",
    }
    assert api.heads == []


@pytest.mark.parametrize(("app", "origin"), [("api", EVIL), ("api", "null"), ("raw", PORTAL)])
async def test_web_13_any_other_preflight_is_a_request_without_a_session(
    stack: Stack, api: RawApp, app: str, origin: str
) -> None:
    answer = await stack.request(
        stack.host(app), "/x", {"Origin": origin, **ASKING}, method="OPTIONS"
    )

    assert answer.status == 401
    assert "access-control-allow-origin" not in cors_headers(answer)
    assert api.heads == stack.raw_app.heads == []


async def test_web_13_an_answer_says_who_may_read_it_in_the_definitions_words(
    stack: Stack, alice: Person
) -> None:
    allowed = await alice.get("api", Origin=PORTAL)
    others = [await alice.get("api", Origin=origin) for origin in (EVIL, "null")]
    plain = await alice.get("api")

    assert allowed.body == b"hi"
    assert cors_headers(allowed) | {"vary": ", ".join(allowed.all("vary"))} == {
        "access-control-allow-origin": PORTAL,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "ETag",
        "access-control-allow-methods": "PUT",
        "vary": "Accept, Origin",
    }
    for answer in (*others, plain):
        assert "access-control-allow-origin" not in cors_headers(answer)
        assert answer.all("vary") == ["Accept", "Origin"]


async def test_an_application_without_cors_has_its_own_word(stack: Stack, alice: Person) -> None:
    stack.raw_app.answers(OWN_WORD)

    answer = await alice.get("raw", Origin=EVIL)

    assert answer.header("access-control-allow-origin") == "*"


async def test_web_13_a_page_that_may_call_learns_that_the_session_is_missing(
    stack: Stack,
) -> None:
    """Else a script sees "Failed to fetch" and can't tell why. tport's own paths say nothing."""
    answer = await stack.request(stack.host("api"), "/x", {"Origin": PORTAL})
    own = await stack.request(stack.host("api"), "/.tport/session", {"Origin": PORTAL})

    assert answer.status == 401
    assert answer.header("access-control-allow-origin") == PORTAL
    assert (own.status, own.header("access-control-allow-origin")) == (401, "")


async def test_a_signed_in_options_request_reaches_the_application(
    stack: Stack, alice: Person, api: RawApp
) -> None:
    await alice.open("api")
    headers = {"Origin": PORTAL, **ASKING, "Cookie": alice.cookie("api")}

    answer = await stack.request(stack.host("api"), "/x", headers, method="OPTIONS")

    assert answer.status == 200
    assert len(api.heads) == 1


@pytest.mark.parametrize(
    ("app", "origin", "passes"),
    [
        ("api", PORTAL, True),
        ("api", EVIL, False),
        ("api", "null", False),
        ("raw", PORTAL, False),
    ],
)
async def test_web_10_a_websocket_from_elsewhere_passes_only_where_the_application_lists_it(
    stack: Stack, alice: Person, app: str, origin: str, *, passes: bool
) -> None:
    answer = await alice.get(
        app,
        Origin=origin,
        Upgrade="websocket",
        Connection="Upgrade",
        **{"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
    )

    assert (answer.status == 200) == passes
    assert (answer.status == 403) == (not passes)


async def enter(stack: Stack, alice: Person, app: str) -> Answer:
    """Open an application as a browser does, up to where its session's cookie is set."""
    host = stack.host(app)
    began = await stack.request(host, "/deep?x=1", {"Accept": "text/html"})
    assert began.status == 302
    state_cookie = began.header("set-cookie").partition(";")[0]
    state_id = state_cookie.partition("=")[0].removeprefix("__Host-tport_state_")
    code = await stack.api.launch(
        web_session=session_id(alice.web),
        host=host,
        state=hashlib.sha256(state_id.encode()).hexdigest(),
        age=0,
    )
    assert parse_qs(urlsplit(began.header("location")).query)["state"]
    return await stack.request(
        host, f"/.tport/auth?code={code.code}&state={state_id}", {"Cookie": state_cookie}
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_web_17_the_sessions_cookie_is_as_the_application_says(
    stack: Stack, alice: Person, kind: CookieSameSite
) -> None:
    answer = await enter(stack, alice, f"api-{kind}")

    [cookie] = [c for c in answer.all("set-cookie") if c.startswith(stack.app_cookie)]
    assert cookie.endswith(f"; Path=/; Secure; HttpOnly; SameSite={kind.capitalize()}")


async def test_web_17_unless_it_says_so_the_cookie_is_lax(stack: Stack, alice: Person) -> None:
    answer = await enter(stack, alice, "echo")

    assert "SameSite=Lax" in answer.all("set-cookie")[0]
    assert (answer.status, answer.header("location")) == (302, stack.url("echo", "/deep?x=1"))


async def test_web_17_a_strict_cookie_is_followed_by_a_page_and_not_by_a_redirect(
    stack: Stack, alice: Person
) -> None:
    """A redirect would go on in the name of the site that linked here, and without the cookie."""
    answer = await enter(stack, alice, "api-strict")

    url = stack.url("api-strict", "/deep?x=1")
    assert (answer.status, answer.header("refresh")) == (200, f"0; url={url}")
    assert url.encode() in answer.body


def sibling(stack: Stack) -> str:
    return f"https://{stack.host('raw')}:{stack.port}"


FORM = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SCRIPT = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}


@pytest.mark.parametrize("how", [FORM, SCRIPT, {}], ids=["form", "script", "no-fetch-metadata"])
async def test_web_05_a_sibling_s_page_changes_nothing_in_an_application(
    stack: Stack, alice: Person, how: dict[str, str]
) -> None:
    """SameSite doesn't help: all applications are one site, and the cookie came along."""
    await alice.open("echo")
    headers = {"Cookie": alice.cookie("echo"), "Origin": sibling(stack)} | how
    if how:
        headers["Sec-Fetch-Site"] = "same-site"

    for method in ("POST", "PUT", "DELETE", "PROPFIND"):
        answer = await stack.request(stack.host("echo"), "/x", headers, method=method, body=b"a=1")

        assert answer.status == 403
        assert b"its own pages" in answer.body
    assert stack.echo.seen == []
    reason = "what another origin's page sent"
    await stack.event("app.access.denied", user="alice", app_name="echo", error=reason)


@pytest.mark.parametrize(
    ("app", "headers"),
    [
        ("echo", {"Sec-Fetch-Site": "same-origin", "Origin": "null"}),  # of a no-referrer page
        ("echo", {"Sec-Fetch-Site": "none"}),
        ("echo", {}),  # a program
        ("api", {"Sec-Fetch-Site": "cross-site", "Origin": PORTAL}),  # listed, with credentials
        ("api-none", {"Sec-Fetch-Site": "cross-site", "Origin": EVIL}),  # WEB-17: it is so meant
    ],
)
async def test_web_05_what_an_application_s_own_and_trusted_pages_send_gets_there(
    stack: Stack, alice: Person, app: str, headers: dict[str, str]
) -> None:
    await alice.open(app)
    cookie = {"Cookie": alice.cookie(app)}

    answer = await stack.request(
        stack.host(app), "/x", cookie | headers, method="POST", body=b"a=1"
    )

    assert answer.status == 200
