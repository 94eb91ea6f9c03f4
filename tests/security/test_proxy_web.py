"""WEB-01 to WEB-10 through a whole cluster, with a hostile application beside it on the same site."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
import trio

from tests.browser import FORM, NAVIGATION, Browser, hidden_fields, is_home, whereto
from tests.stack import DOMAIN, PASSWORD, Answer, Person, Stack, open_stack
from tport.engine.errors import NotSignedIn
from tport.engine.types.app import App, Cors
from tport.engine.types.session import session_id

JSON = {"Accept": "application/json"}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class MovableClock:
    """The wall clock, moved by a test: `clock.ahead += timedelta(minutes=11)`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    moved = MovableClock()
    monkeypatch.setattr("tport.engine.process.wall_clock", moved)
    return moved


@pytest.fixture
async def stack(clock: MovableClock) -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


@pytest.fixture
async def browser(stack: Stack, alice: Person) -> Browser:
    """alice's, signed in to tport and to no application yet."""
    opened = Browser(stack)
    await opened.sign_in("alice")
    opened.trail.clear()
    return opened


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


# --- Opening an application ----------------------------------------------------------------------------------


async def to_the_code(browser: Browser, url: str) -> str:
    """Go as far as the address with the code in it, and return that."""
    answer = await browser.ask(url)
    for _ in range(3):
        url = urljoin(url, whereto(answer) or "")
        if "/.tport/auth" in url:
            return url
        answer = await browser.ask(url)
    raise AssertionError(browser.trail)


async def test_web_06_what_one_browser_began_no_other_finishes(
    stack: Stack, browser: Browser
) -> None:
    """WEB-06: no session is planted; the code is burnt, and both begin anew."""
    url = await to_the_code(browser, stack.url("echo", "/deep"))
    victim = Browser(stack)

    planted = await victim.ask(url)
    refused = await browser.ask(url)

    for answer in (planted, refused):
        assert answer.status == 302
        assert answer.header("location").startswith(f"{stack.proxy_url}/web/launch?state=")
    assert stack.app_cookie not in victim.jar[stack.host("echo")]
    assert stack.app_cookie not in browser.jar[stack.host("echo")]
    error = "the state is another browser's, or missing"
    await stack.event("app.session.start", success=False, error=error)
    assert stack.echo.seen == []
    assert (await browser.go(stack.url("echo", "/deep"))).status == 200  # a new round works


@pytest.mark.parametrize("state", ["other", "planted", "none"])
async def test_web_06_the_state_must_be_the_one_of_this_browser_and_this_attempt(
    stack: Stack, browser: Browser, state: str
) -> None:
    """WEB-06: a state cookie of another attempt, of another host, or none at all."""
    url = await to_the_code(browser, stack.url("echo"))
    host = stack.host("echo")
    jar = browser.jar[host]
    [(name, value)] = jar.items()
    jar.clear()
    if state == "other":
        await browser.ask(stack.url("echo"))
        [(_, another)] = jar.items()
        jar.clear()
        jar[name] = another
    elif state == "planted":
        await browser.ask(stack.url("raw"))
        [(_, another)] = browser.jar[stack.host("raw")].items()
        jar[name] = another

    answer = await browser.ask(url)
    jar[name] = value
    again = await browser.ask(url)  # the code is spent, whoever comes with it

    assert (answer.status, again.status) == (302, 302)
    assert stack.app_cookie not in jar
    assert stack.echo.seen == []


async def test_web_06_tabs_opened_at_once_all_arrive(stack: Stack, browser: Browser) -> None:
    """WEB-06: also when their steps interleave."""
    targets = ["/one", "/two?x=1"]
    urls = [await to_the_code(browser, stack.url("echo", target)) for target in targets]

    entered = [await browser.ask(url) for url in reversed(urls)]
    pages = [await browser.ask(answer.header("location")) for answer in entered]

    assert [answer.status for answer in entered] == [302, 302]
    assert [page.status for page in pages] == [200, 200]
    assert [seen.target for seen in stack.echo.seen] == [b"/two?x=1", b"/one"]


@pytest.mark.parametrize(
    "late", [timedelta(seconds=61), timedelta(minutes=11)], ids=["code", "state"]
)
async def test_web_06_what_is_too_old_begins_anew(
    stack: Stack, browser: Browser, clock: MovableClock, late: timedelta
) -> None:
    """WEB-06: a code lives 60 s, a state 10 min; the person only sees a redirect more."""
    url = await to_the_code(browser, stack.url("echo", "/deep"))
    clock.ahead += late

    answer = await browser.ask(url)

    assert (answer.status, stack.app_cookie in browser.jar[stack.host("echo")]) == (302, False)
    page = await browser.go(urljoin(url, answer.header("location")))
    assert page.status == 200
    assert [seen.target for seen in stack.echo.seen] == [b"/deep"]


async def test_web_06_a_state_too_old_for_the_launcher_goes_back_to_the_application(
    stack: Stack, browser: Browser, clock: MovableClock
) -> None:
    began = await browser.ask(stack.url("echo", "/deep?q=1"))
    clock.ahead += timedelta(minutes=11)

    answer = await browser.ask(began.header("location"))

    assert answer.header("location") == stack.url("echo", "/deep?q=1")


async def test_web_06_a_browser_that_keeps_no_cookie_is_told_and_not_sent_around_for_ever(
    stack: Stack, browser: Browser
) -> None:
    """WEB-06: each round says why the last one failed; the third is a page."""
    url: str | None = stack.url("echo")
    page = b""
    while url is not None:
        assert len(browser.trail) < 12, browser.trail
        browser.jar.pop(stack.host("echo"), None)
        answer = await browser.ask(url)
        page, next_ = answer.body, whereto(answer)
        url = urljoin(url, next_) if next_ else None

    assert b"cookie" in page.lower()
    assert stack.echo.seen == []


async def test_web_07_a_session_is_for_one_application_at_one_host(
    stack: Stack, browser: Browser
) -> None:
    """WEB-07: elsewhere it is none, it is written down, and it still works where it belongs."""
    await browser.go(stack.url("echo"))
    secret = browser.jar[stack.host("echo")][stack.app_cookie]
    stolen = {"Cookie": f"{stack.app_cookie}={secret}"}

    elsewhere = await stack.request(stack.host("raw"), "/", {**NAVIGATION, **stolen})
    as_web = await stack.request(
        DOMAIN, "/", {**NAVIGATION, "Cookie": f"{stack.web_cookie}={secret}"}
    )
    web = browser.jar[DOMAIN][stack.web_cookie]
    as_app = await stack.request(
        stack.host("echo"), "/", {**JSON, "Cookie": f"{stack.app_cookie}={web}"}
    )

    assert elsewhere.status == 302
    assert "/web/login" in as_web.header("location")
    assert as_app.status == 401
    assert stack.raw_app.heads == []
    await stack.event("auth.failed", error="the session is for another host", user="alice")
    assert (await browser.ask(stack.url("echo"))).status == 200


async def test_web_08_a_code_that_comes_twice_ends_the_session_it_became(
    stack: Stack, browser: Browser
) -> None:
    url = await to_the_code(browser, stack.url("echo"))
    entered = await browser.ask(url)
    assert (await browser.ask(entered.header("location"))).status == 200

    replayed = await Browser(stack).ask(url)

    assert replayed.status == 302
    with trio.fail_after(5):
        while (await browser.ask(stack.url("echo"), JSON)).status == 200:  # noqa: ASYNC110
            await trio.sleep(0.01)
    await stack.event("app.session.end", user="alice", app_name="echo")


async def test_web_08_nothing_secret_is_written_down(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """WEB-08, AZ-09: not the code, state, cookies, tokens or JWT: in no log, on no disk, in no Referer."""
    caplog.set_level("DEBUG")
    made = await stack.admin.create_user(name="carol", roles=("access",), traits={})
    carol = Browser(stack)
    answer = await carol.submit(made.url, {"password": PASSWORD, "confirm": PASSWORD})
    assert answer.status == 303
    assert (await carol.go(stack.url("echo", "/a?token=of-the-app"))).status == 200
    host = stack.host("echo")
    jwt = stack.echo.seen[-1].values(b"teleport-jwt-assertion")[0].decode()
    queries = [parse_qs(urlsplit(url).query) for url in carol.trail]
    secrets = {value for query in queries for values in query.values() for value in values}
    secrets |= carol.secrets() | {PASSWORD, jwt, made.url.rpartition("/")[2]}
    secrets -= {"of-the-app"}
    await stack.api.sign_out(id=session_id(carol.jar[DOMAIN][stack.web_cookie]))
    await stack.event("user.logout", user="carol")

    audit = str(await stack.events())
    disk = await trio.to_thread.run_sync(stack.files)
    where = {"log": caplog.text, "audit": audit, "disk": disk, "application": str(stack.echo.seen)}
    found = [
        (place, secret)
        for place, text in where.items()
        for secret in secrets
        if secret in text and not (place == "application" and secret == jwt)
    ]

    assert len(secrets) >= 6
    assert stack.app_cookie in carol.jar[host]
    assert found == []
    assert "eyJ" not in caplog.text + audit


async def test_web_08_no_page_on_the_way_gives_its_address_away(
    stack: Stack, browser: Browser
) -> None:
    """WEB-08: what holds a code or a state says `no-referrer`, and is kept in no cache."""
    url = stack.url("echo")
    for _ in range(3):
        answer = await browser.ask(url)
        assert answer.header("referrer-policy") in ("no-referrer", "same-origin")
        assert answer.header("cache-control") == "no-store"
        url = answer.header("location")
    assert stack.echo.seen == []


# --- Where a browser is sent ---------------------------------------------------------------------------------


OPEN = (
    *("//evil.test", "/\\evil.test", "/\t/evil.test", "https:evil.test", "https:/evil.test"),
    *(f"https://{DOMAIN}@evil.test", f"https://evil.test#@{DOMAIN}", f"https://evil.test\\@{DOMAIN}"),
    *("javascript:alert(1)", "%2f%2fevil.test", "https://evil%E3%80%82com", "/\r\nLocation: //evil"),
    *("\\\\evil.test", "/..//evil.test", "///evil.test", " //evil.test", "data:text/html,x", ""),
)  # fmt: skip


@pytest.mark.parametrize("next_", OPEN)
async def test_web_09_signing_in_leads_nowhere_else(
    stack: Stack, alice: Person, next_: str
) -> None:
    browser = Browser(stack)
    url = f"{stack.proxy_url}/web/login?next={quote(next_, safe='')}"
    answer = await browser.submit(url, {"username": "alice", "password": PASSWORD})
    forged = await Browser(stack).submit(
        f"{stack.proxy_url}/web/login", {"username": "alice", "password": PASSWORD, "next": next_}
    )
    signed_in = await browser.ask(url)  # who is signed in already is sent on at once

    for each in (answer, forged, signed_in):
        location = each.header("location")
        assert is_home(urljoin(stack.proxy_url, location)), location
        assert "\\" not in location
        assert "evil" not in urlsplit(urljoin(stack.proxy_url, location)).netloc


@pytest.mark.parametrize(
    "target",
    [
        *("//evil.test/", "///evil.test", "/\\evil.test", "/a\\..\\b", "//evil.test/..", "/.//evil.test"),
        *("/%2f%2fevil.test", "/%5cevil.test", "/@evil.test", "/:80@evil.test", "/" + "a" * 3000),
        "/?next=https://evil.test",
    ],
)  # fmt: skip
async def test_web_09_opening_an_application_stays_at_its_own_host(
    stack: Stack, browser: Browser, target: str
) -> None:
    """WEB-09: an odd path becomes `/` or stays what it was; the host is the registered one."""
    await browser.go(stack.url("echo", target))

    for url in browser.trail:
        assert is_home(url), url
        assert urlsplit(url).hostname in (DOMAIN, stack.host("echo"))
    kept = target.encode()
    assert [seen.target for seen in stack.echo.seen] in ([kept], [b"/"])


async def test_web_09_a_state_for_a_host_nobody_registered_leads_nowhere(
    stack: Stack, browser: Browser
) -> None:
    """WEB-09: anybody may send any Host, and gets a state for it; the launcher knows none such."""
    began = await browser.ask(
        f"https://evil.test:{stack.port}/", context=stack.context(verify=False)
    )
    assert began.status == 302

    answer = await browser.ask(began.header("location"))
    broken = await browser.ask(f"{stack.proxy_url}/web/launch?state=AAAA")

    assert (answer.status, whereto(answer)) == (403, None)
    assert (broken.status, whereto(broken)) == (400, None)


@pytest.mark.parametrize(
    "target",
    [
        *("/deep/link?a=1&b=%20c+d", "/a%2Fb;v=1/%2e%2e/x?q=%26#top", "/a//b?u=https://x.test//y"),
        *("/%E2%82%AC?=", "/d/1?orgId=1&from=now-6h&to=now&var=~'\"<>|"),
    ],
)
async def test_web_09_a_deep_link_survives_signing_in_to_the_letter(
    stack: Stack, alice: Person, target: str
) -> None:
    """WEB-09: through the launcher, the sign-in form and back."""
    browser = Browser(stack)
    page = await browser.go(stack.url("echo", target.partition("#")[0]))
    login = browser.trail[-1]
    assert urlsplit(login).path == "/web/login"
    posted = await browser.submit(login, {"username": "alice", "password": PASSWORD}, page=page)
    arrived = await browser.go(urljoin(login, posted.header("location")))

    assert arrived.status == 200
    assert [seen.target for seen in stack.echo.seen] == [target.partition("#")[0].encode()]


RESERVED = (
    *("/.tport/", "/.tport/x", "/.tport/AUTH", "/.tport/auth/", "/.tport/auth/../admin"),
    *("/.tport/notice.js/x", "/.tport//auth", "/.tport/%61uth"),
)
ALMOST = (
    *("/.TPORT/auth?code=x&state=y", "/%2etport/auth", "//.tport/auth", "/.tport%2fauth"),
    *("/./.tport/auth", "/x/../.tport/auth", "/.tport;x/auth", "/TELEPORT-LOGOUT"),
    *("/teleport-logout/", "/teleport-logout%2f..", "/x-teleport-auth/../admin"),
)


async def test_web_09_only_exact_paths_are_ours_and_they_reach_no_application(
    stack: Stack, alice: Person
) -> None:
    """WEB-09, HTTP-15: no spelling of a reserved path gets by without a session, or ends one."""
    await alice.open("echo")
    cookie = {"Cookie": alice.cookie("echo"), **JSON}
    wrong = {}
    for path in RESERVED:
        answer = await stack.request(stack.host("echo"), path, cookie)
        if answer.status != 404 or stack.echo.seen:
            wrong[path] = answer.status
    for path in ALMOST:
        without = await stack.request(stack.host("echo"), path, JSON)
        if without.status != 401 or stack.echo.seen:
            wrong[path] = without.status
        await stack.request(stack.host("echo"), path, cookie)
        stack.echo.seen.clear()

    assert wrong == {}
    assert (await alice.get("echo")).status == 200
    shown = await stack.request(stack.host("echo"), "/.tport/session", cookie)
    assert shown.status == 200
    assert alice.apps[stack.host("echo")].encode() not in shown.body


@pytest.mark.parametrize(
    "query",
    [
        *("", "code=x", "state=y", "code=x&state=" + "y" * 65, "code=x&state=%C3%A9", "code=&state="),
        *("code=x&state=a=b", "code=%00&state=%00", "&".join(f"a{n}=1" for n in range(50))),
        *("code=x&code=y&state=z", "code=x&state=../../y", "code=x&state=%0d%0aSet-Cookie:a=b"),
    ],
)  # fmt: skip
async def test_web_09_nonsense_at_the_end_of_a_launch_begins_a_new_one(
    stack: Stack, browser: Browser, query: str
) -> None:
    answer = await browser.ask(stack.url("echo", f"/.tport/auth?{query}"))

    assert answer.status == 302
    assert answer.header("location").startswith(f"{stack.proxy_url}/web/launch?state=")
    [cookie] = answer.all("set-cookie")
    assert re.fullmatch(r"__Host-tport_state_[\w-]{22}=[\w-]+; .*", cookie)
    assert stack.echo.seen == []


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
