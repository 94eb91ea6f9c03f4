"""The Applications page, and what the proxy's host tells anybody."""

import gzip
import re
from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.engine.web.browser import APPS, Browser, form_fields
from tests.fakes import FakeAuth
from tport import __version__
from tport.engine.api.catalogue import AppInfo, OwnApp
from tport.engine.errors import Unavailable
from tport.engine.types.app import App, AppServer
from tport.engine.types.factor import FactorPolicy
from tport.engine.web.assets import API_SCRIPT, ASSETS, SCRIPT, STYLE

GRAFANA = OwnApp(
    name="grafana",
    address="grafana.proxy.test:3080",
    description="Dashboards",
    labels={"env": "prod", "team": "Platform"},
)
JIRA = OwnApp(name="jira", address="jira.example.com:3080", labels={"env": "dev"}, up=False)


async def test_each_application_is_one_click_away(browser: Browser) -> None:
    await browser.sign_in()
    browser.auth.apps = (
        GRAFANA,
        JIRA,
    )

    page = (await browser.get(APPS)).text

    assert '<a href="https://grafana.proxy.test:3080/">grafana</a>' in page
    assert "Dashboards" in page
    assert ">env=prod</li>" in page
    assert "no agent connected" in page
    assert "Showing 2 of 2" in page


async def test_what_agents_can_t_offer_is_shown_with_the_reason(browser: Browser) -> None:
    await browser.sign_in()
    browser.auth.apps = (GRAFANA,)
    assert "Not offered" not in (await browser.get(APPS)).text

    reason = "agent.yaml:7:5: apps[0].uri: <b>'grafana'</b> has no scheme"
    server = AppServer(
        app=App(name="payroll", uri=""), labels={}, host_id="h", hostname="box7", refused=reason
    )
    info = AppInfo(name="payroll", address="", up=False, since=None, refused=(server,))
    browser.auth.infos = (info,)
    browser.auth.rights = (("app_server", "list"),)
    page = (await browser.get(APPS)).text

    assert "Not offered" in page
    assert "on box7" in page
    assert "agent.yaml:7:5: apps[0].uri: &lt;b&gt;" in page


async def test_the_search_works_without_script(browser: Browser) -> None:
    await browser.sign_in()
    browser.auth.apps = (
        GRAFANA,
        JIRA,
    )

    page = (await browser.get(f"{APPS}?q=PROD+dash")).text

    assert "Showing 1 of 2" in page
    assert re.findall(r'data-name="(\w+)"[^>]* hidden>', page) == ["jira"]
    assert 'id="none" hidden>' in page
    assert 'value="PROD dash"' in page


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", True),
        ("q=graf", True),
        ("q=proxy.test", True),
        ("q=env%3Dprod", True),
        ("q=platform+DASH", True),
        ("q=prod+dev", False),
        ("label=env%3Dprod", True),
        ("label=env%3Dprod&label=team%3DPlatform&q=graf", True),
        ("label=env%3Dprod&label=env%3Ddev", False),
        ("label=env%3Dpro", False),
    ],
)
async def test_all_words_and_all_labels_must_fit(
    browser: Browser, search: str, found: bool
) -> None:
    await browser.sign_in()
    browser.auth.apps = (GRAFANA,)

    page = (await browser.get(f"{APPS}?{search}")).text

    assert f"Showing {int(found)} of 1" in page


async def test_labels_that_part_the_applications_can_be_chosen_and_left_again(
    browser: Browser,
) -> None:
    await browser.sign_in()
    wiki = OwnApp(name="wiki", address="wiki.test", labels={"env": "prod", "team": "Platform"})
    browser.auth.apps = (GRAFANA, JIRA, wiki)

    page = (await browser.get(f"{APPS}?q=x&label=env%3Ddev")).text

    assert f'href="{APPS}?q=x" aria-current="true" data-label="env=dev">' in page
    assert f'href="{APPS}?q=x&amp;label=env%3Ddev&amp;label=env%3Dprod" data-label' in page
    browser.auth.apps = (GRAFANA, wiki)
    assert 'id="filters"' not in (await browser.get(APPS)).text, "all have them: nothing to choose"


async def test_favourites_and_what_was_opened_last_come_first_and_stand_once(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()
    names = "abcdefgh"
    browser.auth.apps = tuple(
        OwnApp(
            name=name,
            address=f"{name}.test",
            favourite=name in "h",
            opened=auth.clock() - timedelta(hours=at) if name in "bcdefh" else None,
        )
        for at, name in enumerate(names)
    )

    page = (await browser.get(APPS)).text.partition('id="none"')[0]

    order = re.findall(r'<h2>([^<]+)</h2>|<h3><a href="https://(\w)', page)
    found = "".join(title[:1] + name for title, name in order)
    assert found == "FhObcdeAafg"


async def test_a_favourite_is_marked_by_a_form(browser: Browser) -> None:
    await browser.sign_in()
    browser.auth.apps = (GRAFANA,)
    star = "/web/app/grafana/favourite"
    hidden = form_fields((await browser.get(APPS)).text, star)

    done = await browser.post(star, {**hidden, "on": "1"})

    assert (done.status_code, done.headers["location"]) == (303, APPS)
    assert 'aria-pressed="true"' in (await browser.get(APPS)).text
    await browser.post(star, {**hidden, "on": ""})
    assert 'aria-pressed="true"' not in (await browser.get(APPS)).text


async def test_since_when_an_application_is_up_or_down_or_away_is_told(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()
    since = auth.clock() - timedelta(hours=1)
    browser.auth.apps = (
        replace(GRAFANA, since=since, answers=True),
        replace(GRAFANA, name="wiki", since=since, answers=False),
        replace(JIRA, since=since),
    )

    page = (await browser.get(APPS)).text

    assert '<span class="down">down since <time datetime="2026-01-01T11:00:00Z">' in page
    assert '<p class="up">up since <time datetime="2026-01-01T11:00:00Z">11:00 UTC</time>' in page
    assert 'no agent connected since <time datetime="2026-01-01T11:00:00Z">' in page


async def test_who_has_no_role_is_told_whom_to_ask(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    app = App(name="grafana", uri="http://localhost:3000")
    auth.servers = (AppServer(app=app, labels={}, host_id="h"),)

    page = (await browser.get(APPS)).text

    assert "none of your roles opens one" in page
    assert "<b>alice</b>" in page


async def test_an_empty_cluster_shows_the_command_for_its_first_application(
    browser: Browser,
) -> None:
    await browser.sign_in()

    page = (await browser.get(APPS)).text

    assert "No applications yet" in page
    assert "tport tokens add" in page


async def test_another_cluster_is_not_found(browser: Browser) -> None:
    await browser.sign_in()

    assert (await browser.get("/web/cluster/other/apps")).status_code == 404


@pytest.mark.parametrize("path", ["/", "/web"])
async def test_the_front_door_leads_to_the_applications(browser: Browser, path: str) -> None:
    await browser.sign_in()

    assert (await browser.get(path)).headers["location"] == APPS


async def test_ping_and_health_answer_without_auth(browser: Browser, auth: FakeAuth) -> None:
    auth.failure = Unavailable("gone")

    found = {
        "cluster": "main",
        "cluster_name": "main",
        "version": __version__,
        "server_version": __version__,
        "min_client_version": __version__,
        "public_addr": "proxy.test:3080",
        "proxy": {"tls_routing_enabled": True, "ssh": {"public_addr": "proxy.test:3080"}},
    }
    assert (await browser.fetch("/webapi/ping")).json() == found
    assert (await browser.fetch("/webapi/find")).json() == found
    assert (await browser.fetch("/healthz")).json() == {"status": "ok"}


async def test_ping_says_how_one_signs_in(browser: Browser, auth: FakeAuth) -> None:
    auth.policy = FactorPolicy.from_word("on")
    told = (await browser.fetch("/webapi/ping")).json()["auth"]
    assert told == {"type": "local", "second_factor": "on", "webauthn": {"rp_id": "proxy.test"}}

    auth.policy = FactorPolicy.from_word("otp")
    told = (await browser.fetch("/webapi/ping")).json()["auth"]
    assert told == {"type": "local", "second_factor": "otp"}


async def test_the_authorities_that_pins_are_made_over_are_public(browser: Browser) -> None:
    response = await browser.fetch("/webapi/cas")

    assert response.json() == {"cluster": "main", "host": ["host pem"], "web": ["web pem"]}
    assert response.headers["cache-control"] == "no-store"


async def test_the_jwt_keys_may_be_kept_for_five_minutes_and_asked_for_by_etag(
    browser: Browser, auth: FakeAuth
) -> None:
    first = await browser.fetch("/.well-known/jwks.json")
    assert first.json() == auth.jwks
    assert first.headers["cache-control"] == "public, max-age=300"

    again = await browser.get("/.well-known/jwks.json", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")

    auth.jwks = {"keys": [{"kid": "2"}]}
    changed = await browser.get("/.well-known/jwks.json", if_none_match=first.headers["etag"])
    assert changed.json() == auth.jwks


async def test_crawlers_are_sent_away(browser: Browser) -> None:
    assert (await browser.fetch("/robots.txt")).text == "User-agent: *\nDisallow: /\n"


async def test_files_named_by_their_hash_may_be_kept_for_ever(browser: Browser) -> None:
    for url, asset in ASSETS.items():
        response = await browser.fetch(url)
        assert response.content == asset.body
        assert response.headers["content-type"] == asset.media_type
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await browser.fetch("/static/tport.css")).status_code == 404


async def test_an_unknown_address_is_a_page_for_people_and_json_for_programs(
    browser: Browser,
) -> None:
    page, answer = await browser.get("/nowhere/"), await browser.fetch("/nowhere/")

    assert (page.status_code, answer.status_code) == (404, 404)
    assert "There is no such page" in page.text
    assert answer.json()["error"] == "not-found"


async def test_a_method_that_does_not_fit_says_which_do(browser: Browser) -> None:
    response = await browser.post("/webapi/ping", {})

    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_a_bug_is_a_page_too(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    auth.failure = ValueError("a bug")

    response = await browser.get("/")

    assert response.status_code == 500
    assert "Something broke on our side" in response.text
    assert "a bug" not in response.text


@pytest.mark.parametrize(
    ("accepted", "is_gzipped"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
    ],
)
async def test_files_are_sent_smaller_to_who_takes_that(
    browser: Browser, accepted: str, is_gzipped: bool
) -> None:
    async with browser.http.stream(
        "GET", STYLE.url, headers={"accept-encoding": accepted}
    ) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])

    assert (answer.headers.get("content-encoding") == "gzip") == is_gzipped
    assert (gzip.decompress(raw) if is_gzipped else raw) == STYLE.body
    assert len(raw) < len(STYLE.body) / 2 or not is_gzipped
    assert answer.headers["vary"] == "accept-encoding"


def test_the_stylesheet_and_the_script_stay_small() -> None:
    assert len(STYLE.body) < 12_000
    assert len(SCRIPT.body) + len(API_SCRIPT.body) < 7_500
