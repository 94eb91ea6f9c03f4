"""What the end-to-end tests share. A module's tests share one cluster where they can: starts cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.e2e.browser import Watch, open_browser, open_context, sign_in, trust
from tests.e2e.harness import PASSWORD, Cluster, Tport, start_cluster, tport_home


@pytest.fixture
def tport(tmp_path: Path) -> Iterator[Tport]:
    """The program in a fresh home."""
    with tport_home(tmp_path) as tport:
        yield tport


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Auth and proxy, shared by a module's tests; each makes its own users and applications."""
    with start_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser(cluster: Cluster) -> Iterator[Browser]:
    """Chromium, which trusts the module's cluster."""
    trust(cluster, f"--config={cluster.file}")
    with open_browser(cluster.home) as browser:
        yield browser


@pytest.fixture
def who(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """The name of a user of the test's own, with PASSWORD."""
    name: str = request.node.name.replace("_", "-")[:40]
    cluster.signed_in(name)
    return name


@pytest.fixture
def person(cluster: Cluster, browser: Browser, who: str) -> Iterator[tuple[BrowserContext, Watch]]:
    """A browser in which that user has just signed in."""
    with open_context(browser, viewport={"width": 1280, "height": 800}) as (context, watch):
        page = context.new_page()
        page.goto(cluster.url)
        sign_in(page, who, PASSWORD)
        page.get_by_role("heading", name="Applications", exact=True).wait_for()
        page.close()
        yield context, watch
