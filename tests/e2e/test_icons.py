"""Icons of applications in Chromium: shown where there are any, never in anybody's way."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.browser import Watch, open_context, sign_in
from tests.e2e.harness import PASSWORD, Cluster
from tests.e2e.site import Answer, Request, Site, serve
from tests.pictures import PNG, png

pytestmark = pytest.mark.e2e

RED = png(32, (220, 30, 30))
BROKEN = PNG[:40]  # begins as a picture does, and is none that can be drawn
HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32">
<script>fetch("/stolen")</script></svg>"""


def application(request: Request) -> Answer:
    """Three in one, by the path of their address."""
    match request.path:
        case "/red/":
            return Answer('<!doctype html><link rel="icon" href="/red/icon.png">')
        case "/red/icon.png":
            return Answer(RED, kind="image/png")
        case "/broken/":
            return Answer('<!doctype html><link rel="icon" href="/broken/icon.png">')
        case "/broken/icon.png":
            return Answer(BROKEN, kind="image/png")
        case "/hostile/":
            return Answer('<!doctype html><link rel="icon" href="/hostile/icon.svg">')
        case "/hostile/icon.svg":
            return Answer(HOSTILE, kind="image/png")
        case _:
            return Answer(status=404)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve(application) as site:
        yield site


@pytest.fixture(scope="module", autouse=True)
def offered(cluster: Cluster, site: Site) -> None:
    apps = "".join(
        f"  - {{name: {name}, uri: '{site.url}/{name}/'}}\n"
        for name in ("red", "broken", "hostile")
    )
    agent = cluster.start_agent_of(f"app_service:\n  enabled: yes\n  apps:\n{apps}")
    cluster.wait_for_app("hostile", agent)


def colour(page: Page, name: str) -> list[int]:
    """Return the colour in the middle of the tile's icon or letter, as it is on the screen."""
    shot = page.locator(f"[data-name={name}] .letter").screenshot()
    return list(
        page.evaluate(
            """async bytes => {
                const canvas = new OffscreenCanvas(1, 1).getContext("2d");
                const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
                canvas.drawImage(picture, -picture.width / 2, -picture.height / 2);
                return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
            }""",
            list(shot),
        )
    )


def test_icons_come_by_themselves_and_letters_stay_where_there_is_none(
    cluster: Cluster, person: tuple[BrowserContext, Watch], site: Site
) -> None:
    context, watch = person
    page = context.new_page()
    page.goto(cluster.url)

    expect(page.locator("[data-name=red] img")).to_be_visible()

    assert colour(page, "red") == [220, 30, 30]
    expect(page.locator("[data-name=hostile] img")).to_have_count(0)
    page.reload()
    expect(page.locator("[data-name=red] img")).to_be_visible()
    expect(page.locator("[data-name=broken] img")).to_have_count(1)
    assert colour(page, "red") == [220, 30, 30]
    tile = page.locator("[data-name=broken]")
    assert tile.locator("img").evaluate("img => img.complete && img.naturalWidth === 0")
    shown = "img => getComputedStyle(img, '::after').content"
    assert tile.locator("img").evaluate(shown) == '"b"'
    assert max(colour(page, "broken")) < 255, "its letter is there, on a ground of its own"
    for request in site.seen:
        assert request.headers["User-Agent"].startswith("tport/")
        assert request.headers["Cookie"] is None
    assert [request.path for request in site.seen].count("/red/icon.png") == 1
    assert watch.failed == []
    assert watch.complaints == []


def test_without_script_icons_are_there_the_next_time(
    cluster: Cluster, who: str, request: pytest.FixtureRequest
) -> None:
    browser = request.getfixturevalue("browser")
    with open_context(browser, java_script_enabled=False) as (context, watch):
        page = context.new_page()
        page.goto(cluster.url)
        sign_in(page, who, PASSWORD)
        expect(page.get_by_role("heading", name="Applications", exact=True)).to_be_visible()
        icon = page.locator("[data-name=red] img")
        for _ in range(50):
            page.reload()
            if icon.count():
                break
            page.wait_for_timeout(100)
        expect(icon).to_be_visible()
        assert watch.complaints == []


def test_an_icon_opened_as_a_page_is_a_picture_in_which_nothing_runs(
    cluster: Cluster, person: tuple[BrowserContext, Watch]
) -> None:
    context, watch = person
    page = context.new_page()
    page.goto(cluster.url)
    address = page.locator("[data-name=red] img").get_attribute("src")
    assert address is not None

    answer = page.goto(f"{cluster.url}{address}")

    assert answer is not None
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert page.evaluate("origin") == "null", "the sandbox is in force"
    hosts = {urlsplit(url).hostname for url, _ in watch.answers}
    assert hosts == {urlsplit(cluster.url).hostname}
