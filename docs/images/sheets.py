"""Takes a picture of each page of tport for docs/pages.md: wide and on a phone, light and dark.

.venv/bin/python -m docs.images.sheets      needs what the end-to-end tests need (make test-deps)

The tours are those of the tests that hold each page to its quality, so no page is forgotten.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Page

from tests.e2e.browser import open_browser, open_context
from tests.e2e.pages import SCHEMES, WIDTHS

HERE: Final = Path(__file__).parent
SHEETS: Final = HERE / "pages"
PAGE: Final = HERE.parent / "pages.md"
HEADING: Final = "## The pictures\n"  # what is below it is written here
TOURS: Final = ("tests/e2e/test_pages_quality.py", "tests/e2e/test_sso.py")
HEIGHT: Final = 400  # px of a sheet: half of what the tours' windows show
GAP: Final = 12  # px
PLACE: Final = Path(tempfile.gettempdir()) / "tport"  # stands in pictures: where the cluster is


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shots = Path(folder)
        subprocess.run(  # noqa: S603  # our own tests, with our own Python
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                *TOURS,
                "-k",
                "not has_its_picture",
                f"--basetemp={PLACE}",
            ],
            env={**os.environ, "TPORT_TEST_PICTURES": folder},
            check=True,
        )
        for old in SHEETS.glob("*.webp"):
            old.unlink()
        names = sorted({shot.stem.rsplit("-", 2)[0] for shot in shots.glob("*.png")})
        with open_browser(shots) as browser, open_context(browser) as (context, _):
            page = context.new_page()
            for name in names:
                (SHEETS / f"{name}.webp").write_bytes(_sheet(page, shots, name))
    text, _, _ = PAGE.read_text("utf-8").partition(HEADING)
    PAGE.write_text(text + HEADING + "".join(_shown(name) for name in names), "utf-8")
    sys.stderr.write(f"{len(names)} sheets in {SHEETS}\n")


def _shown(name: str) -> str:
    words = name.replace("-", " ").capitalize()
    return f"\n### {words}\n\n![{words}](images/pages/{name}.webp)\n"


def _sheet(page: Page, shots: Path, name: str) -> bytes:
    """Put the four pictures of a page beside one another, halved; as WebP, which Playwright can't."""
    images = []
    for width in reversed(WIDTHS):
        for scheme in SCHEMES:
            shot = base64.b64encode((shots / f"{name}-{width}-{scheme}.png").read_bytes()).decode()
            images.append(f'<img width="{width // 2}" src="data:image/png;base64,{shot}">')
    page.set_viewport_size(
        {"width": sum(WIDTHS) + 5 * GAP, "height": HEIGHT + 2 * GAP}
    )  # each width twice, halved
    page.set_content(
        f"<style>body{{margin:{GAP}px;display:flex;gap:{GAP}px;background:#888;align-items:start}}</style>"
        + "".join(images)
    )
    debugger = page.context.new_cdp_session(page)
    taken = debugger.send("Page.captureScreenshot", {"format": "webp", "quality": 80})
    debugger.detach()
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main()
