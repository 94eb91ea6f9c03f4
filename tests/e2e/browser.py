"""Headless Chromium for tests, which trusts what the home it runs in trusts and ignores no warning."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.e2e.harness import Tport, need, program

FLAGS = [
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # ms that a page may take to show what is looked for
expect.set_options(timeout=PATIENCE)

_running: list[Playwright] = []


@contextmanager
def open_browser(home: Path) -> Iterator[Browser]:
    """Run the system's Chromium with `home` as its HOME: its authorities are in `.pki/nssdb` there.

    Skips the test where there is no Chromium.
    """
    chromium = program("chromium", "chromium-browser", "google-chrome")
    need("Chromium", chromium, "apt-get install chromium")
    with _playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=FLAGS,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        yield browser
        browser.close()


@contextmanager
def _playwright() -> Iterator[Playwright]:
    """Start Playwright, or take the one that runs: a thread can have one at a time."""
    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        _running.append(playwright)
        try:
            yield playwright
        finally:
            _running.clear()


class Watch:
    """Notes what a person at this browser would be warned of.

    Attributes:
        failed: requests that failed, and why: certificate errors, blocked addresses.
        complaints: what pages wrote to the console as errors, and uncaught exceptions.
        answers: URL and status of each response.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.failed: list[str] = []
        self.complaints: list[str] = []
        self.answers: list[tuple[str, int]] = []
        context.on("requestfailed", self._failed)
        context.on("response", lambda r: self.answers.append((r.url, r.status)))
        context.on("weberror", lambda e: self.complaints.append(str(e.error)))
        context.on("console", self._console)

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # by the browser itself: it went to another page
            self.failed.append(f"{request.url}: {request.failure}")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location}")

    @property
    def certificate_errors(self) -> list[str]:
        return [line for line in (*self.failed, *self.complaints) if "ERR_CERT" in line]


def assert_calm(watch: Watch) -> None:
    """Hold that a person would have been warned of nothing."""
    assert watch.failed == []
    assert watch.complaints == []


@contextmanager
def open_context(browser: Browser, **options: Any) -> Iterator[tuple[BrowserContext, Watch]]:
    """Open a fresh profile: no cookies, no cache. Options are Playwright's for new_context."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    watch = Watch(context)
    try:
        yield context, watch
    finally:
        context.close()


def trust(tport: Tport, *flags: str) -> None:
    """Make the home's Chromium trust the cluster, by the lines that `tport ca trust` prints for it.

    Only lines that stay in the test's home are run: as root, `--yes` would also change the machine.
    """
    need("certutil", program("certutil"), "apt-get install libnss3-tools")
    printed = tport.output(*flags, "ca", "trust").splitlines()
    lines = [line for line in printed if str(tport.home) in line]
    assert lines, printed
    done = tport.shell("\n".join(["set -e", *lines]), flags)
    assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"


def sign_up(page: Page, link: str, password: str) -> None:
    """Open an invite and choose a password, no second factor; ends on the Applications page."""
    page.goto(link)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("The same password again").fill(password)
    page.get_by_role("button", name="Set password and sign in").click()
    heading = page.get_by_role("heading", name=re.compile("Applications|Protect your account"))
    heading.first.wait_for()
    if "Protect" in heading.first.inner_text():
        page.get_by_role("button", name="Not now").click()
    see(page, "Applications")


def sign_in(page: Page, name: str, password: str) -> None:
    """Fill the sign-in page that is shown, and send it."""
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(context: BrowserContext, url: str) -> None:
    """Sign out at the proxy, whose address is `url`, in a tab of its own."""
    page = context.new_page()
    page.goto(f"{url}/web/logout")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("User name").wait_for()
    page.close()


def see(page: Page, text: str) -> None:
    """Wait for a heading that begins with `text`; a failure tells what is there instead."""
    try:
        page.get_by_role("heading", name=text).first.wait_for()
    except PlaywrightError:
        shown = page.inner_text("body")
        raise AssertionError(f"no heading {text!r} at {page.url}, but:\n{shown[:2000]}") from None
