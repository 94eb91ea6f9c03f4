"""WEB-01 to WEB-05, WEB-10 through a whole cluster, with a hostile application beside it on the same site."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest

from tests.browser import FORM, NAVIGATION, Browser, hidden_fields
from tests.stack import DOMAIN, PASSWORD, Answer, Person, Stack, open_stack
from tport.engine.errors import NotSignedIn
from tport.engine.types.app import App, Cors
from tport.engine.types.session import session_id

JSON = {"Accept": "application/json"}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


# --- Cookies that a sibling plants -----------------------------------------------------------------------


def tossed(name: str, value: str) -> dict[str, str]:
    """Return Cookie headers that lenient parsers take for our cookie, but aren't it."""
    octal = "".join(f"\\{ord(c):03o}" for c in value)
    return {
        "U+2000 before": f"\u2000{name}={value}".encode().decode("latin-1"),
        "U+0085 before": f"\x85{name}={value}",
        "$Version": f"$Version=1; ${name}={value}",
        "lower case": f"{name.lower()}={value}",
        "upper case": f"{name.upper()}={value}",
        "space in": f"{name} ={value}",
        "space after =": f"{name}= {value}",
        "quoted": f'{name}="{value}"',
        "octal": f'{name}="{octal}"',
        "comma": f"a=b, {name}={value}",
        "no =": f"{name}",
        "nameless": f"={name}={value}",
        "twice, ours first": f"{name}={value}; {name}=evil",
        "twice, ours last": f"{name}=evil; {name}={value}",
        "twice the same": f"{name}={value}; {name}={value}",
    }


async def test_web_01_only_the_exact_cookie_once_counts(stack: Stack, alice: Person) -> None:
    """WEB-01: at an application and at the web UI; every variant holds the genuine value."""
    await alice.open("echo")
    secret = alice.apps[stack.host("echo")]
    wrong = {}
    for name, cookie in tossed(stack.app_cookie, secret).items():
        answer = await stack.request(stack.host("echo"), "/", {**JSON, "Cookie": cookie})
        if answer.status != 401:
            wrong[name] = answer.status
    for name, cookie in tossed(stack.web_cookie, alice.web).items():
        answer = await stack.request(DOMAIN, "/", {**NAVIGATION, "Cookie": cookie})
        if "/web/login" not in answer.header("location"):
            wrong[f"web: {name}"] = answer.status

    assert wrong == {}
    assert stack.echo.seen == []
    await stack.event("auth.failed", error="two session cookies of one name")
    assert (await alice.get("echo")).status == 200


async def test_web_01_our_cookies_are_host_secure_and_out_of_reach_of_script(
    stack: Stack, browser: Browser
) -> None:
    launch = await browser.ask(stack.url("echo"))
    code = await browser.ask(launch.header("location"))
    entered = await browser.ask(code.header("location"))
    lines = launch.all("set-cookie") + entered.all("set-cookie")

    assert len(lines) == 3  # the state set, the session set, the state forgotten
    for line in lines:
        name, *attributes = [part.strip() for part in line.split(";")]
        assert name.startswith("__Host-tport_")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
        assert "domain" not in line.lower()


async def test_web_02_an_odd_cookie_beside_ours_changes_nothing(
    stack: Stack, alice: Person
) -> None:
    await alice.open("echo")
    good = alice.cookie("echo")
    odd = ("bad[]=1", "=x=y", ";;", '"', "a=\x80\xff", "$Version=1", "a" * 4000, "\x80" * 8192)
    got = {}
    for cookie in odd:
        for together in (f"{cookie}; {good}", f"{good}; {cookie}"):
            headers = {"Cookie": together, **JSON}
            got[together] = (await stack.request(stack.host("echo"), "/", headers)).status
    alone = await stack.request(stack.host("echo"), "/", {"Cookie": "=x=y", **JSON})

    assert set(got.values()) == {200}
    assert alone.status == 401


async def test_web_03_an_application_empties_and_fills_no_jar_but_its_own(
    stack: Stack, alice: Person
) -> None:
    bomb = "".join(f"Set-Cookie: c{n}={'x' * 400}; Domain={DOMAIN}\r\n" for n in range(60))
    stack.raw_app.answers(
        f'HTTP/1.1 200 OK\r\nClear-Site-Data: "*"\r\n{bomb}Content-Length: 0\r\n\r\n'.encode()
    )

    answer = await alice.get("raw")

    assert answer.status == 200
    assert answer.header("clear-site-data") == ""
    assert not [line for line in answer.all("set-cookie") if "domain" in line.lower()]


async def test_web_03_a_head_too_large_is_told_how_to_go_on(stack: Stack) -> None:
    headers = {f"Cookie{n}": "x" * 8000 for n in range(9)}

    answer = await stack.request(stack.host("echo"), "/", headers)

    assert (answer.status, answer.closed) == (431, True)
    assert b"cookie" in answer.body.lower()


async def test_web_04_our_cookies_reach_no_application(stack: Stack, browser: Browser) -> None:
    await browser.go(stack.url("echo"))
    browser.jar[stack.host("echo")].update(theirs="kept", other="too")
    stack.echo.seen.clear()

    await browser.ask(stack.url("echo"))
    browser.jar[stack.host("echo")] = {
        n: v for n, v in browser.jar[stack.host("echo")].items() if n.startswith("__Host-")
    }
    await browser.ask(stack.url("echo"))

    both, only_ours = stack.echo.seen
    assert both.values(b"cookie") == [b"theirs=kept; other=too"]
    assert only_ours.values(b"cookie") == []


async def test_web_04_no_application_sets_our_cookies(stack: Stack, alice: Person) -> None:
    names = (
        *(stack.app_cookie, stack.web_cookie, stack.app_cookie.upper(), f" {stack.app_cookie}"),
        *("__Host-tport_state_x", "__host-tport_app_x", f"={stack.app_cookie}"),
    )
    lines = "".join(f"Set-Cookie: {name}=evil; Path=/; Secure\r\n" for name in names)
    stack.raw_app.answers(
        f"HTTP/1.1 200 OK\r\n{lines}Set-Cookie: own=1\r\nContent-Length: 0\r\n\r\n".encode()
    )

    answer = await alice.get("raw")

    assert answer.status == 200
    assert [line.partition(";")[0] for line in answer.all("set-cookie")] == ["own=1"]


# --- Forms of the web UI -----------------------------------------------------------------------------------


FOREIGN = (
    {"Origin": f"https://echo.{DOMAIN}", "Sec-Fetch-Site": "same-site"},
    {"Origin": f"https://echo.{DOMAIN}"},
    {"Origin": "null", "Sec-Fetch-Site": "same-site"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": f"https://{DOMAIN}.evil.com"},
    {"Origin": f"http://{DOMAIN}"},
    {"Origin": f"https://{DOMAIN}:1"},
)


@pytest.mark.parametrize("sent", FOREIGN)
async def test_web_05_a_form_that_a_sibling_sends_changes_nothing(
    stack: Stack, browser: Browser, sent: dict[str, str]
) -> None:
    """WEB-05: even with the form's own token: sign-out, sign-in and an invite."""
    web = browser.jar[DOMAIN][stack.web_cookie]
    made = await stack.admin.create_user(name="bob", roles=("access",), traits={})
    forms = {
        f"{stack.proxy_url}/web/logout": browser,
        f"{stack.proxy_url}/web/login": Browser(stack),
        f"{stack.proxy_url}{urlsplit(made.url).path}": Browser(stack),
    }
    passphrase = "nine doors a walrus paints"
    fields = {
        "username": "alice",
        "password": PASSWORD,
        "confirm": PASSWORD,
    }
    for url, visitor in forms.items():
        if "invite" in url:
            fields = {"password": passphrase, "confirm": passphrase}
        hidden = hidden_fields((await visitor.ask(url)).body.decode())
        answer = await _post(visitor, url, {**hidden, **fields}, sent)
        assert answer.status == 403, url
        assert stack.web_cookie not in str(answer.all("set-cookie"))

    assert (await stack.api.web_session(id=session_id(web))).user == "alice"
    assert (await stack.api.invite(token=made.url.rpartition("/")[2])).user == "bob"


async def test_web_05_a_form_without_its_token_or_of_another_type_changes_nothing(
    stack: Stack, browser: Browser
) -> None:
    url, web = f"{stack.proxy_url}/web/logout", browser.jar[DOMAIN][stack.web_cookie]
    own = {"Origin": stack.proxy_url, "Sec-Fetch-Site": "same-origin"}
    hidden = hidden_fields((await browser.ask(url)).body.decode())
    login = hidden_fields((await Browser(stack).ask(f"{stack.proxy_url}/web/login")).body.decode())

    answers = [
        await _post(browser, url, {}, own),
        await _post(browser, url, {"token": "0" * 64}, own),
        await _post(browser, url, {"token": login["token"]}, own),
        await _post(browser, url, hidden, {**own, "Content-Type": "text/plain"}),
        await browser.ask(f"{url}?token={hidden['token']}"),
    ]

    assert [answer.status for answer in answers] == [403, 403, 403, 400, 200]
    assert (await stack.api.web_session(id=session_id(web))).user == "alice"
    ended = await _post(browser, url, hidden, own)
    assert ended.status == 303
    with pytest.raises(NotSignedIn):
        await stack.api.web_session(id=session_id(web))


async def _post(
    browser: Browser, url: str, fields: dict[str, str], headers: dict[str, str]
) -> Answer:
    """Post as the page that `headers` tell of; what a browser would add by itself is left out."""
    body = "&".join(f"{name}={quote(value)}" for name, value in fields.items()).encode()
    bare = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Content-Type": FORM}
    cookies = "; ".join(f"{n}={v}" for n, v in browser.jar.get(DOMAIN, {}).items())
    sent = {**bare, "Accept": "text/html", "Cookie": cookies, **headers}
    return await browser.stack.request(
        DOMAIN, urlsplit(url).path, sent, method="POST", body=body or b"x=1"
    )


# --- WebSockets from elsewhere --------------------------------------------------------------------------------


async def test_web_10_a_websocket_comes_from_the_applications_own_pages_or_listed_ones() -> None:
    partner = "https://partner.test"
    async with open_stack(drain=False) as probe:
        uri = f"http://127.0.0.1:{probe.raw_app.port}"
        cors = Cors(allowed_origins=(partner,), allow_credentials=True)
        apps = [App(name="closed", uri=uri), App(name="listed", uri=uri, cors=cors)]
        probe.raw_app.answers(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        async with open_stack(apps=apps, drain=False) as stack:
            alice = await stack.user("alice")
            origins = {
                "": 101,
                stack.url("closed", ""): 101,
                stack.url("echo", ""): 403,
                stack.proxy_url: 403,
                "null": 403,
                f"https://{stack.host('closed')}": 403,
                f"http://{stack.host('closed')}:{stack.port}": 403,
                f"https://{stack.host('closed')}.evil.test": 403,
                partner: 403,
            }
            got = {origin: await _websocket(alice, "closed", origin) for origin in origins}
            asked = len(probe.raw_app.heads)
            listed = await _websocket(alice, "listed", partner)
            unlisted = await _websocket(alice, "listed", "https://evil.test")

    assert got == origins
    assert asked == 2
    assert (listed, unlisted) == (101, 403)


async def _websocket(alice: Person, app: str, origin: str) -> int:
    """Return the status of a handshake from this origin ("": no browser)."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    if origin:
        headers["Origin"] = origin
    return (await alice.get(app, **headers)).status
