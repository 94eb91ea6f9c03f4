"""The Audit page over a whole cluster: what is found, shown, followed and written out."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html import unescape

import pytest

from tests.browser import Browser
from tests.stack import Person, Stack, open_stack
from tport.engine.web import audit as audit_module
from tport.engine.web.audit import make_row

AUDIT = "/web/audit"


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


@pytest.fixture
async def auditor(stack: Stack) -> Browser:
    await stack.user("olga", roles=("auditor",))
    browser = Browser(stack)
    await browser.sign_in("olga")
    return browser


async def page(auditor: Browser, address: str = AUDIT) -> str:
    answer = await auditor.ask(f"{auditor.stack.proxy_url}{address}")
    assert answer.status == 200, answer.body
    return answer.body.decode()


def shown(html: str) -> list[str]:
    """Return what each row says, as text, in order."""
    rows = re.findall(
        r'<span class="what">(.*?)</span>\n<span class="who">',
        html.partition("<template")[0],
        re.DOTALL,
    )
    return [" ".join(unescape(re.sub(r"<[^>]+>", "", row)).split()) for row in rows]


def link(html: str, name: str) -> str:
    found = re.search(rf'href="([^"]*)"[^>]*>{name}</a>', html)
    assert found is not None, name
    return unescape(found[1])


async def test_events_are_listed_the_newest_first_with_all_there_is(
    stack: Stack, auditor: Browser
) -> None:
    await stack.admin.create_user(name="bob", roles=("access",), traits={})

    html = await page(auditor)
    assert shown(html)[0] == "user.create name: bob, roles: access"
    assert "<dt>code</dt><dd>T1002I</dd>" in html
    assert shown(html)[1].startswith("user.login ")


async def test_requests_are_found_by_user_application_words_and_time(
    stack: Stack, auditor: Browser, alice: Person
) -> None:
    bob = await stack.user("bob")
    await alice.get("echo", "/of-alice")
    await bob.get("echo", "/of-bob")
    await bob.get("dumper", "/of-bob-too")
    await stack.requests(path="/of-bob-too")

    async def found(query: str) -> list[str]:
        return [
            row.split()[2] for row in shown(await page(auditor, f"{AUDIT}?log=requests{query}"))
        ]

    assert await found("") == ["/of-bob-too", "/of-bob", "/of-alice"]
    assert await found("&user=bob") == ["/of-bob-too", "/of-bob"]
    assert await found("&user=bob&app=echo") == ["/of-bob"]
    assert await found("&q=ALICE+get") == ["/of-alice"]
    assert await found("&since=2999-01-01T00:00") == []
    assert await found("&until=2999-01-01") == ["/of-bob-too", "/of-bob", "/of-alice"]
    html = await page(auditor, f"{AUDIT}?log=requests&user=nobody")
    assert "Nothing was found" in html
    assert 'value="nobody"' in html


async def test_kinds_of_events_can_be_chosen(stack: Stack, auditor: Browser) -> None:
    html = await page(auditor, f"{AUDIT}?type=user.create")

    assert [row.split()[0] for row in shown(html)] == ["user.create"]
    assert "<option selected>user.create</option>" in html


async def test_older_entries_are_a_page_further(
    stack: Stack, auditor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "SHOWN", 3)
    for n in range(7):
        await stack.admin.create_user(name=f"user-{n}", roles=("access",), traits={})
    address, found, html = f"{AUDIT}?type=user.create&q=user-", [], ""
    for _ in range(3):
        html = await page(auditor, address)
        found += re.findall(r"name: (user-\d)", html)
        address = link(html, "Older") if ">Older</a>" in html else ""

    assert found == [f"user-{n}" for n in range(6, -1, -1)]
    assert address == "", "there is no older page"
    assert "Follow live" not in html, "an older page is not live"
    assert link(html, "Newest") == f"{AUDIT}?type=user.create&q=user-"


@pytest.mark.parametrize(
    "bad",
    ["since=yesterday", "since=0001-01-01T00:00%2B14:00", "cursor=../../etc", "q=" + "+a" * 17],
)
async def test_a_filter_that_means_nothing_is_told_and_stays_as_typed(
    auditor: Browser, bad: str
) -> None:
    answer = await auditor.ask(f"{auditor.stack.proxy_url}{AUDIT}?user=kim&{bad}")

    assert answer.status == 400
    assert 'role="alert"' in answer.body.decode()
    assert 'value="kim"' in answer.body.decode()


async def test_the_page_says_how_to_ask_for_what_comes(stack: Stack, auditor: Browser) -> None:
    """Its script asks by the JSON API, as the filters have it, from the moment of the page on."""
    html = await page(auditor, f"{AUDIT}?type=user.create&since=2026-01-01")
    [cursor] = re.findall(r'data-cursor="([^"]+)"', html)
    [query] = re.findall(r'data-query="([^"]+)"', html)
    await stack.admin.create_user(name="bob", roles=("access",), traits={})

    asked = {"query": json.loads(unescape(query)), "cursor": cursor, "limit": 10}
    answer = await auditor.ask(
        f"{stack.proxy_url}/v1/follow_events",
        {"Content-Type": "application/json", "Origin": stack.proxy_url},
        method="POST",
        body=json.dumps(asked).encode(),
    )

    told = json.loads(answer.body)
    assert [(event["event"], event["name"]) for event in told["events"]] == [("user.create", "bob")]
    assert told["cursor"] > cursor


async def test_the_export_holds_all_that_is_found_as_json_lines(
    stack: Stack, auditor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "EXPORTED", 2)
    for n in range(5):
        await stack.admin.create_user(name=f"user-{n}", roles=("access",), traits={})
    html = await page(auditor, f"{AUDIT}?type=user.create&q=user-")

    answer = await auditor.ask(f"{stack.proxy_url}{link(html, 'Export')}")
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert [event["name"] for event in events] == [f"user-{n}" for n in range(4, -1, -1)]
    assert {event["event"] for event in events} == {"user.create"}
    assert answer.header("content-type") == "application/jsonl"
    assert answer.header("content-disposition").startswith('attachment; filename="audit-')
    assert answer.header("x-content-type-options") == "nosniff"

    monkeypatch.setattr(audit_module, "MAX_EXPORT", 3)
    answer = await auditor.ask(f"{stack.proxy_url}{link(html, 'Export')}")
    assert len(answer.body.splitlines()) == 3


async def test_nobody_else_sees_the_section_or_the_page(stack: Stack, alice: Person) -> None:
    browser = Browser(stack)
    home = await browser.sign_in("alice")
    assert AUDIT not in home.body.decode()

    for path in (AUDIT, f"{AUDIT}/export"):
        assert (await browser.ask(f"{stack.proxy_url}{path}")).status == 403
        away = await Browser(stack).ask(f"{stack.proxy_url}{path}")
        assert away.status == 302
    assert [e["call"] for e in await stack.events("auth.failed")] != []


def test_a_row_shows_nothing_that_cannot_be_seen_or_turns_the_text() -> None:
    row = make_row(
        {
            "event": "user.login",
            "code": "T1000W",
            "time": "2026-01-01T12:00:00.000Z",
            "user": "a\u202eb\x1b[2J",
            "error": "x" * 500,
            "roles": ["a", "b"],
            "n": 1,
        }
    )

    assert row.user == "a\ufffdb\ufffd[2J"
    assert (row.time, row.mood) == ("2026-01-01 12:00:00", "bad")
    assert len(row.told) == 241
    assert dict(row.fields)["error"] == "x" * 500
    assert dict(row.fields)["roles"] == "a, b"


def test_a_request_says_how_it_ended() -> None:
    request = {"event": "app.session.request", "method": "GET", "path": "/", "duration_ms": 12.4}

    good = make_row({**request, "status_code": 200, "bytes_out": 5})
    whole = make_row({**request, "duration_ms": 4.0})
    assert (good.badge, good.mood, good.told) == ("200", "", "12 ms, 5 bytes out")
    assert ("duration_ms", "4") in whole.fields  # as a script writes it in a row that comes live
    assert make_row({**request, "status_code": 502, "error": "timeout"}).mood == "bad"
    assert make_row({**request, "status_code": 0, "error": "cut"}).badge == "cut"
