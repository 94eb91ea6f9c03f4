"""Real applications behind a real agent, used in a real browser: the way they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.e2e.browser import Watch, open_browser, open_context, sign_in, trust
from tests.e2e.harness import (
    PASSWORD,
    Background,
    Cluster,
    free_port,
    need,
    program,
    wait_for_port,
)

pytestmark = pytest.mark.e2e

JUPYTER = Path(
    os.environ.get("TPORT_TEST_JUPYTER")
    or Path(__file__).parents[2] / ".test" / "jupyter" / "bin" / "jupyter-lab"
)
SLOW = 60_000  # ms; JupyterLab's first page loads 10 MB of script, and starts a kernel


@pytest.fixture(scope="module")
def browser(cluster: Cluster) -> Iterator[Browser]:
    trust(cluster, f"--config={cluster.file}")
    with open_browser(cluster.home) as browser:
        yield browser


@pytest.fixture
def person(
    cluster: Cluster, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[tuple[BrowserContext, Watch]]:
    """A browser in which somebody has just signed in."""
    name = request.node.name.replace("_", "-")[:40]
    cluster.signed_in(name)
    with open_context(browser, viewport={"width": 1280, "height": 800}) as (context, watch):
        page = context.new_page()
        page.goto(cluster.url)
        sign_in(page, name, PASSWORD)
        page.get_by_role("heading", name="Applications", exact=True).wait_for()
        page.close()
        yield context, watch


def start_prometheus(cluster: Cluster) -> tuple[Background, int]:
    binary, port = program("prometheus"), free_port()
    need("Prometheus", binary, "apt-get install prometheus")
    config = cluster.folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"- job_name: self\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    process = cluster.spawn(
        [
            binary,
            f"--config.file={config}",
            f"--storage.tsdb.path={cluster.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
    )
    wait_for_port(port, process)
    return process, port


def test_prometheus_answers_a_query_in_its_own_page(
    cluster: Cluster, person: tuple[BrowserContext, Watch]
) -> None:
    """A redirect to a page whose scripts fetch: it runs a query and shows the value."""
    context, watch = person
    _, port = start_prometheus(cluster)
    cluster.start_agent("prometheus", f"http://127.0.0.1:{port}", "--labels=env=dev")
    page = context.new_page()
    page.goto(cluster.app_url("prometheus"))
    page.wait_for_url("**/graph*")

    page.get_by_placeholder("Expression").first.fill("vector(6 * 7)")
    page.get_by_role("button", name="Execute").first.click()

    expect(page.get_by_role("cell", name="42", exact=True)).to_be_visible()
    assert_well(watch)


def assert_well(watch: Watch) -> None:
    """No warning, and no request that failed on the way."""
    assert watch.certificate_errors == []
    assert [answer for answer in watch.answers if answer[1] >= 500] == []


def start_jupyter(cluster: Cluster) -> tuple[Background, int]:
    need("JupyterLab", JUPYTER.exists(), "make test-deps, or name it in TPORT_TEST_JUPYTER")
    port, notebooks = free_port(), cluster.folder / "notebooks"
    notebooks.mkdir()
    process = cluster.spawn(
        [
            str(JUPYTER),
            "--allow-root",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--ServerApp.allow_remote_access=True",
            f"--ServerApp.root_dir={notebooks}",
        ]
    )
    wait_for_port(port, process, 60)
    return process, port


@pytest.mark.timeout(180)
def test_a_notebook_runs_a_cell_over_its_websockets(
    cluster: Cluster, person: tuple[BrowserContext, Watch]
) -> None:
    """JupyterLab: XSRF cookie, a kernel, three WebSockets that check their Origin."""
    context, watch = person
    process, port = start_jupyter(cluster)
    agent = cluster.start_agent_of(
        f"""\
app_service:
  enabled: yes
  apps:
  - name: jupyter
    uri: http://127.0.0.1:{port}
    rewrite:
      headers:
      - "Host: jupyter.{cluster.address}"  # JupyterLab compares it with Origin
""",
        "agent-jupyter",
    )
    cluster.wait_for_app("jupyter", agent)
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.goto(cluster.app_url("jupyter", "/lab"))

    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    # JupyterLab drops what is run before it has a kernel, without a proxy too.
    page.get_by_role("button", name="| Idle").wait_for()
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    cell.click()
    page.keyboard.type("print(6*7)")
    page.keyboard.press("Shift+Enter")

    output = page.locator(".jp-OutputArea-output").first
    try:
        expect(output).to_have_text("42\n", timeout=SLOW)
    except AssertionError as problem:
        raise AssertionError(f"{problem}{process.tell()}") from None
    assert_well(watch)
