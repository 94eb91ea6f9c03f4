"""Judges of our own pages: axe for who reads them in other ways, html-validate for their HTML; and the eye's.

Both come by `make test-deps` and run here: in the page, and in Node. Nothing of them is in the product.

With TPORT_TEST_PICTURES=FOLDER each page that is looked at is kept there as it was seen, for the eyes
of people: `python -m docs.images.take` makes the pictures of docs/pages.md so.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, Page

from tests.e2e.harness import need, program

PARTS: Final = Path(__file__).parents[2] / ".test" / "pages"
WIDTHS: Final = (360, 1280)  # px: a phone, a desk
SCHEMES: Final = ("light", "dark")
PICTURES: Final = os.environ.get("TPORT_TEST_PICTURES", "")
MAX_FIRST_VISIT: Final = 60_000  # bytes on the wire, with nothing in the cache
LEVELS: Final = [
    "wcag2a",
    "wcag2aa",
    "wcag21a",
    "wcag21aa",
    "wcag22aa",
]  # WCAG 2.2 AA as axe names it

_RUN_AXE = """async levels => {
    const found = await axe.run(document, {
        runOnly: {type: "tag", values: levels}, resultTypes: ["violations"],
    });
    return found.violations.map(rule => ({
        rule: rule.id,
        where: rule.nodes.map(node => `${node.target.join(" ")}: ${node.failureSummary}`),
    }));
}"""
# What stands out of the page to the right, for who has to mend it.
_TOO_WIDE = """() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    return [...document.querySelectorAll("body *")]
        .filter(element => element.getBoundingClientRect().right > room + 1)
        .map(element => `<${element.localName} class="${element.className}">`).slice(0, 8);
}"""
# The rules are the standard's; what we differ in is spelling that it leaves free.
_RULES: Final = {
    "root": True,
    "extends": ["html-validate:standard"],
    "rules": {},
}


@cache
def _axe() -> str:
    return (PARTS / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def need_judges() -> None:
    """Skip the test where they are not here; in CI that is a failure."""
    need("axe and html-validate", (PARTS / "installed").exists(), "make test-deps")
    need("Node", program("node"), "apt-get install nodejs")


def faults(page: Page, name: str = "") -> list[str]:
    """Return what is wrong with the page that is shown, at each width, light and dark.

    `name`: what a picture of it is kept as, if pictures are kept.

    axe is put in through the debugger: the page's own policy lets no such script in, and holds.
    """
    page.evaluate(f"() => {{ {_axe()} }}")
    found = []
    page.emulate_media(
        reduced_motion="reduce"
    )  # else colours change slowly, and axe looks too soon
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        if too_wide := page.evaluate(_TOO_WIDE):
            found.append(f"at {width} px it scrolls sideways, by {too_wide}")
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            if PICTURES and name:
                page.screenshot(path=Path(PICTURES) / f"{name}-{width}-{scheme}.png")
            for fault in page.evaluate(_RUN_AXE, LEVELS):
                found.append(f"{width} px, {scheme}: {fault['rule']}: {fault['where']}")
    return found


def weigh(context: BrowserContext, page: Page, url: str) -> dict[str, int]:
    """Open a page as somebody who was never here; return what came over the wire: URL → bytes."""
    network = context.new_cdp_session(page)
    urls: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def asked(event: Any) -> None:
        urls[event["requestId"]] = event["request"]["url"]

    def loaded(event: Any) -> None:
        if url := urls.get(event["requestId"]):
            sizes[url] = sizes.get(url, 0) + int(event["encodedDataLength"])

    network.on("Network.requestWillBeSent", asked)
    network.on("Network.loadingFinished", loaded)
    network.send("Network.enable")
    network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.goto(url, wait_until="load")
    network.detach()
    return sizes


def invalid(folder: Path, documents: Mapping[str, str]) -> list[str]:
    """Return what html-validate finds in documents (name → HTML): name, line, rule and why."""
    folder.mkdir()
    names = {}
    for number, (name, text) in enumerate(documents.items()):
        file = folder / f"{number}.html"
        file.write_text(text, "utf-8")
        names[str(file)] = name
    rules = folder / "rules.json"
    rules.write_text(json.dumps(_RULES))
    tool = PARTS / "node_modules" / "html-validate" / "bin" / "html-validate.mjs"
    done = subprocess.run(
        ["node", str(tool), "--config", str(rules), "--formatter=json", *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return [
        f"{names[result['filePath']]}:{fault['line']}: {fault['ruleId']}: {fault['message']}"
        for result in json.loads(done.stdout)
        for fault in result["messages"]
    ]
