"""Tiles show icons that are known, and letters until then; icons are pictures to browsers, no more."""

from __future__ import annotations

import re

from msgspec.structs import replace

from tests.engine.web.browser import APPS, Browser
from tests.engine.web.test_pages import GRAFANA, JIRA
from tests.pictures import PNG
from tport.engine.types.icon import Icon, icon_of

ICON = icon_of(PNG) or Icon(media_type="", tag="", body=b"")
URL = "/web/app/grafana/icon"


async def test_a_tile_has_the_icon_that_is_known_and_else_its_letter(browser: Browser) -> None:
    await browser.sign_in()
    browser.auth.apps = (replace(GRAFANA, icon=ICON.tag), JIRA)

    page = (await browser.get(APPS)).text

    assert re.findall(r"<img [^>]*>", page) == [
        f'<img src="{URL}?v={ICON.tag}" alt="" data-letter="g" loading="lazy" width="28" height="28">'
    ]
    assert re.findall(r'<span class="letter[^>]*>(\w)', page) == ["g", "j"]


async def test_an_icon_is_kept_by_browsers_and_asked_for_by_its_tag(browser: Browser) -> None:
    await browser.sign_in()
    browser.auth.icons = {"grafana": ICON}

    whole = await browser.get(f"{URL}?v={ICON.tag}")
    again = await browser.get(URL, if_none_match=whole.headers["etag"])
    other = await browser.get(URL, if_none_match='"another"')

    assert (whole.status_code, whole.content) == (200, PNG)
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["cache-control"] == "private, max-age=86400"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == whole.headers["etag"]
    assert other.content == PNG
