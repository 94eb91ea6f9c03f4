"""Opening an application opens those it requires and those of its group, and is kept from it by none.

The way through the browser, WEB-06 to WEB-09 for each application on it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin, urlsplit

import pytest
import trio

from tests.browser import Browser, is_home, whereto
from tests.stack import RawApp, Stack, open_stack
from tport.engine.defaults import MAX_HEAD_LINE
from tport.engine.proxy.app_session import StateSeal
from tport.engine.proxy.sign_in import MAX_COOKIES, MAX_STATES
from tport.engine.types.app import App
from tport.engine.types.role import Conditions, Role

MANY = tuple(f"part-{n}" for n in range(9))


@pytest.fixture
async def stack(nursery: trio.Nursery) -> AsyncIterator[Stack]:
    raw = RawApp()
    raw.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere")
    uri = f"http://127.0.0.1:{await nursery.start(raw.run)}"
    async with open_stack(
        apps=[
            App(name="page", uri=uri, required_apps=("api", "secret", "gone", "feed")),
            App(name="strict", uri=uri, required_apps=("api",), cookie_same_site="strict"),
            App(name="api", uri=uri),
            App(name="feed", uri=uri, required_apps=("page",)),
            App(name="secret", uri=uri, labels={"secret": "yes"}),
            *(App(name=name, uri=uri, group="Parts") for name in MANY),
        ],
        drain=False,
    ) as opened:
        yield opened


@pytest.fixture
async def browser(stack: Stack) -> Browser:
    """Alice's, signed in; she may open all but what is labelled secret."""
    allow = Conditions(app_labels={"*": ("*",)})
    deny = Conditions(app_labels={"secret": ("yes",)})
    await stack.admin.put_role(role=Role(name="most", allow=allow, deny=deny))
    await stack.user("alice", roles=("most",))
    browser = Browser(stack)
    await browser.sign_in("alice")
    browser.trail.clear()
    return browser


def opened(stack: Stack, browser: Browser) -> set[str]:
    """Return the applications for which the browser holds a session."""
    hosts = (host for host, jar in browser.jar.items() if stack.app_cookie in jar)
    return {host.partition(".")[0] for host in hosts}


def left_over(browser: Browser) -> list[str]:
    """Return the cookies of attempts that were not cleared."""
    return [name for jar in browser.jar.values() for name in jar if "_state_" in name]


@pytest.mark.parametrize("app", ["page", "strict"])
async def test_what_an_application_requires_is_opened_with_it(
    stack: Stack, browser: Browser, app: str
) -> None:
    """Not what may not be opened, isn't there, or is required by those in turn."""
    url = stack.url(app, "/deep?link=1")

    answer = await browser.go(url, hops=30)

    assert (answer.status, answer.body, browser.trail[-1]) == (200, b"there", url)
    assert opened(stack, browser) == {"page": {"page", "api", "feed"}, "strict": {app, "api"}}[app]
    assert left_over(browser) == []
    for name in ("api", app):
        shown = await browser.ask(stack.url(name, "/.tport/session"))
        assert shown.status == 200


async def test_what_is_open_already_is_not_opened_again(stack: Stack, browser: Browser) -> None:
    await browser.go(stack.url("api"))
    before = browser.jar[stack.host("api")].copy()

    answer = await browser.go(stack.url("page"), hops=30)

    assert answer.status == 200
    assert browser.jar[stack.host("api")] == before
    started = await stack.events("app.session.start")
    assert sorted(event["app_name"] for event in started) == ["api", "feed", "page"]  # type: ignore[type-var]


async def test_a_group_is_opened_at_once_in_bounds_and_without_too_many_redirects(
    stack: Stack, browser: Browser
) -> None:
    """Eight more at most; browsers give up after 20 redirects, so there are pages in between."""
    url, in_a_row, longest = stack.url("part-4", "/x"), 0, 0
    next_: str | None = url
    while next_ is not None:
        url = urljoin(url, next_)
        answer = await browser.ask(url)
        in_a_row = in_a_row + 1 if answer.status == 302 else 0
        longest = max(longest, in_a_row)
        next_ = whereto(answer)

    assert url == stack.url("part-4", "/x")
    assert opened(stack, browser) == set(MANY)
    assert longest < 15


async def walk(browser: Browser, url: str, until: str, *, host: str) -> str:
    """Navigate up to, without asking for it, an address at `host` with `until` in it."""
    for _ in range(30):
        if urlsplit(url).hostname == host and until in url:
            return url
        url = urljoin(url, whereto(await browser.ask(url)) or "")
    raise AssertionError(browser.trail)


async def test_web_06_a_way_that_another_browser_began_brings_it_nothing_of_the_first(
    stack: Stack, browser: Browser
) -> None:
    """WEB-06, WEB-08: a companion's code is worth nothing elsewhere, and spent by the attempt."""
    url = await walk(browser, stack.url("page"), "code=", host=stack.host("api"))
    thief = Browser(stack)

    planted = await thief.ask(url)
    answer = await browser.go(url, hops=30)

    assert (whereto(planted) or "").startswith(f"{stack.proxy_url}/web/launch?state=")
    assert opened(stack, thief) == set()
    assert answer.body == b"there"  # what isn't opened keeps the application from nobody
    assert opened(stack, browser) == {"page", "feed"}


async def test_one_that_may_not_be_opened_any_more_is_passed_by(
    stack: Stack, browser: Browser
) -> None:
    """The launcher refuses it, as when a role changes while people are on their way."""
    await browser.go(stack.url("page"), hops=30)
    del browser.jar[stack.host("feed")]
    hosts = (stack.host("secret"), stack.host("feed"), stack.host("page"))
    way = StateSeal(await seal_key(stack), lambda: datetime.now(UTC)).chain(hosts, "/x")

    answer = await browser.go(f"https://{way.host}:{stack.port}{way.path}", hops=30)

    assert (answer.body, browser.trail[-1]) == (b"there", stack.url("page", "/x"))
    assert opened(stack, browser) == {"page", "api", "feed"}


@pytest.mark.parametrize("length", [1, 2000])
async def test_attempts_that_never_end_do_not_pile_up_and_the_newest_stay(
    stack: Stack, browser: Browser, length: int
) -> None:
    """As of tabs in the background: their cookies would soon be more than a request may bring."""
    host, made = stack.host("api"), list[str]()
    for n in range(MAX_STATES + 5):
        before = set(browser.jar.get(host, {}))
        answer = await browser.ask(stack.url("api", f"/{n}?{'x' * length}"))
        assert answer.status == 302
        made += set(browser.jar[host]) - before
        assert len(cookie_line(browser, host)) <= MAX_COOKIES

    kept = list(browser.jar[host])
    assert kept == made[-len(kept) :]
    assert len(kept) == MAX_STATES if length == 1 else 3 < len(kept) < MAX_STATES
    assert (await browser.go(stack.url("api"), hops=30)).body == b"there"


@pytest.mark.parametrize("taken", [3_000, 9_000, 12_000])
async def test_attempts_leave_room_for_the_applications_own_cookies(
    stack: Stack, browser: Browser, taken: int
) -> None:
    """However much those take, as long as one attempt fits beside them."""
    host = stack.host("api")
    browser.jar[host] = {"own": "x" * taken}
    for n in range(8):
        answer = await browser.ask(stack.url("api", f"/{n}?{'x' * 1000}"))
        assert answer.status == 302
        states = len(browser.jar[host]) - 1
        assert len(cookie_line(browser, host)) <= (MAX_COOKIES if states > 1 else MAX_HEAD_LINE)

    assert (await browser.go(stack.url("api"), hops=30)).body == b"there"


async def test_a_few_tabs_with_long_addresses_all_arrive(stack: Stack, browser: Browser) -> None:
    """Nothing is forgotten while a request has room: what is forgotten is a way that a person took."""
    host = stack.host("api")
    for n in range(4):
        await browser.ask(stack.url("api", f"/{n}?{'x' * 2000}"))

    assert len(browser.jar[host]) == 4


def cookie_line(browser: Browser, host: str) -> str:
    return "; ".join(f"{name}={value}" for name, value in browser.jar[host].items())


async def seal_key(stack: Stack) -> bytes:
    return base64.b64decode((await stack.api.proxy_keys()).seal)


@pytest.mark.parametrize("chain", ["", "x", "A" * 64, "a&chain=b", "https://evil.test/"])
async def test_web_09_only_what_the_proxy_sealed_leads_on(
    stack: Stack, browser: Browser, chain: str
) -> None:
    answer = await browser.ask(stack.url("api", f"/.tport/open?chain={chain}"))

    assert (answer.status, whereto(answer)) == (404, None)
    assert answer.all("set-cookie") == []


async def test_web_09_a_way_is_for_its_host_for_people_and_for_ten_minutes(
    stack: Stack, browser: Browser
) -> None:
    key = await seal_key(stack)
    now = datetime.now(UTC)
    hosts = (stack.host("api"), stack.host("page"))
    fresh = StateSeal(key, lambda: now).chain(hosts, "/x").path
    old = StateSeal(key, lambda: now - timedelta(minutes=15)).chain(hosts, "/x").path
    _, state = StateSeal(key, lambda: now).make(stack.host("api"), b"/x", then=hosts[1:])
    fetch = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}

    refused = [
        await browser.ask(stack.url("feed", fresh)),
        await browser.ask(stack.url("api", old)),
        await browser.ask(stack.url("api", f"/.tport/open?chain={state}")),
        await browser.ask(stack.url("api", fresh), fetch),
        await browser.ask(stack.url("api", fresh), method="POST"),
    ]
    answer = await browser.ask(stack.url("api", fresh))

    assert [each.status for each in refused] == [404] * 5
    assert answer.status == 302
    await browser.go(stack.url("api", fresh), hops=30)
    assert [url for url in browser.trail if not is_home(url)] == []
