"""WEB-06 to WEB-09 through a whole cluster: the way into an application, and where browsers are sent."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
import trio

from tests.browser import NAVIGATION, Browser, is_home, whereto
from tests.security.conftest import MovableClock
from tests.stack import DOMAIN, PASSWORD, Person, Stack
from tport.engine.types.session import session_id

JSON = {"Accept": "application/json"}


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
    targets = ["/one", "/two?x=1", "/three", "/four"]
    urls = [await to_the_code(browser, stack.url("echo", target)) for target in targets]

    entered = [await browser.ask(url) for url in reversed(urls)]
    pages = [await browser.ask(answer.header("location")) for answer in entered]

    assert [answer.status for answer in entered] == [302] * 4
    assert [page.status for page in pages] == [200] * 4
    assert [seen.target.decode() for seen in stack.echo.seen] == targets[::-1]


async def test_web_06_tabs_that_a_browser_opens_at_its_start_are_no_loop(
    stack: Stack, browser: Browser
) -> None:
    """WEB-06: one is let in after the other, all had come before the first was."""
    begun = [await browser.ask(stack.url("echo", f"/{tab}")) for tab in range(5)]
    for tab, answer in enumerate(begun):
        launched = await browser.ask(answer.header("location"))
        entered = await browser.ask(launched.header("location"))
        page = await browser.ask(entered.header("location"))

        assert page.status == 200
        assert stack.echo.seen[-1].target == b"/%d" % tab


async def test_web_06_a_browser_that_loses_the_session_s_cookie_is_told_which_one(
    stack: Stack, browser: Browser
) -> None:
    url: str | None = stack.url("echo")
    page = b""
    while url is not None:
        assert len(browser.trail) < 12, browser.trail
        jar = browser.jar.get(stack.host("echo"), {})
        for name in [name for name in jar if name.startswith("__Host-tport_app_")]:
            del jar[name]
        answer = await browser.ask(url)
        page, next_ = answer.body, whereto(answer)
        url = urljoin(url, next_) if next_ else None

    assert b"its cookie did not come back" in page
    assert b"2 made in the last 20 s" in page
    assert stack.echo.seen == []


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
