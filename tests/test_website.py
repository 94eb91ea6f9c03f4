"""The documents as a site: whole, without a link that leads nowhere, and asking no other server."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import pytest

from tests.e2e.browser import open_browser
from tests.e2e.harness import need
from website.__main__ import MKDOCS, build
from website.assemble import on_the_site, pages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("mkdocs", MKDOCS.exists(), "make test-deps")
    out = tmp_path_factory.mktemp("site")
    assert build(out) == ""
    return out


def test_every_document_is_a_page_that_the_menu_leads_to(site: Path) -> None:
    menu = site.joinpath("docs", "index.html").read_text()

    for page in pages():
        made = (
            page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")
        )
        assert site.joinpath(made).is_file()
        assert os.path.relpath(made, "docs") in menu


def test_no_page_asks_another_server_for_anything(site: Path) -> None:
    html = list(site.rglob("*.html"))
    assert len(html) > 25
    for file in html:
        text = file.read_text()
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?:[^\s\">]+)", text
        )
        assert not loaded, file
    for file in site.rglob("*.css"):
        assert not re.search(r"(?:url\(['\"]?|@import ['\"])https?:", file.read_text()), file


def test_a_browser_asks_nobody_else_and_every_page_fits_a_phone(site: Path, tmp_path: Path) -> None:
    """Light at a desk, dark on a phone: what is wider than the window scrolls within the page, and never the page."""
    asked: set[str] = set()
    wrong: list[tuple[str, int, int]] = []
    with open_browser(tmp_path) as browser:
        for width in (360, 1280):
            context = browser.new_context(
                viewport={"width": width, "height": 800},
                color_scheme="dark" if width == 360 else "light",
            )
            page = context.new_page()
            page.on("request", lambda request: asked.add(request.url.partition(":")[0]))
            for file in sorted(set(site.rglob("*.html")) - {site / "index.html"}):  # it leads on
                page.goto(file.as_uri())
                over = page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                if over > 0:
                    wrong.append((file.name, width, over))
            context.close()

    assert asked <= {"file", "data"}
    assert wrong == []


def test_a_link_into_the_source_becomes_its_words_and_any_other_stays() -> None:
    page = PurePosixPath("docs/security.md")

    assert on_the_site("see [`test_x`](../tests/test_x.py#L1).", page) == "see `test_x`."
    for link in (
        "[a](guide.md#x)",
        "[b](../SECURITY.md)",
        "[c](https://example.com/x.py)",
        "[d](#e)",
    ):
        assert on_the_site(link, page) == link
    assert on_the_site("![p](images/p.png)", page) == "![p](images/p.png)"
    assert on_the_site("[e](../examples/agent.yaml)", page) == "[e](../examples/agent.yaml)"
    assert on_the_site("[f](../pyproject.toml)", page) == "f"
