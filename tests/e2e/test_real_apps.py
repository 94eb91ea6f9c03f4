"""Real applications behind a real agent, used in a real browser: the way they are used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.e2e.browser import Watch, sign_in, sign_out
from tests.e2e.examples import start_as_shown
from tests.e2e.harness import (
    PASSWORD,
    Background,
    Cluster,
    need,
    program,
    wait_for_port,
)
from tests.ports import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
JUPYTER = Path(
    os.environ.get("TPORT_TEST_JUPYTER") or ROOT / ".test" / "jupyterlab" / "bin" / "jupyter-lab"
)
STREAMLIT = ROOT / ".test" / "streamlit" / "bin" / "streamlit"
NODE_RED = ROOT / ".test" / "node-red" / "node_modules" / "node-red" / "red.js"
SLOW = 60_000  # ms; JupyterLab's first page loads 10 MB of script, and starts a kernel


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
            f"--web.external-url={cluster.app_url('prometheus')}",
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
    start_as_shown(cluster, "prometheus", port)
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
    start_as_shown(cluster, "jupyterlab", port)
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
    page.goto(cluster.url)
    icon = page.locator("[data-name=jupyter] img")
    expect(icon).to_be_visible()
    assert icon.evaluate("img => img.decode().then(() => img.naturalWidth)") >= 16, "its own"
    assert_well(watch)


SQUARES = """\
import streamlit as st

number = st.slider("Number", 0, 10, 3)
st.write(f"The square is {number * number}.")
"""


@pytest.fixture(scope="module")
def squares(cluster: Cluster) -> str:
    """The address of a Streamlit page with a slider."""
    need("Streamlit", STREAMLIT.exists(), "make test-deps")
    script, port = cluster.folder / "squares.py", free_port()
    script.write_text(SQUARES)
    process = cluster.spawn(
        [
            str(STREAMLIT),
            "run",
            str(script),
            "--server.address=127.0.0.1",
            f"--server.port={port}",
            "--server.headless=true",
            "--browser.gatherUsageStats=false",
        ]
    )
    wait_for_port(port, process)
    start_as_shown(cluster, "streamlit", port)
    return cluster.app_url("streamlit")


def test_a_slider_that_is_moved_changes_what_its_page_shows(
    squares: str, person: tuple[BrowserContext, Watch]
) -> None:
    """Streamlit: each move goes over a WebSocket that checks its Origin, and so does the answer."""
    context, watch = person
    page = context.new_page()
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(squares)
    expect(page.get_by_text("The square is 9.")).to_be_visible()

    page.get_by_role("slider").press("ArrowRight")

    expect(page.get_by_text("The square is 16.")).to_be_visible()
    assert sockets == [squares.replace("https:", "wss:") + "_stcore/stream"]
    assert_well(watch)


OPEN_SOCKET = """() => {
    const socket = new WebSocket(`wss://${location.host}/_stcore/stream`, ["streamlit"]);
    const end = new Promise((tell) => {
        socket.onclose = (how) => tell([how.code, how.reason, how.wasClean]);
    });
    window.endWithin = (seconds) =>
        Promise.race([end, new Promise((tell) => setTimeout(tell, seconds * 1000, "open"))]);
    return new Promise((tell) => { socket.onopen = () => tell("open"); });
}"""


def test_a_page_outlives_its_session_and_goes_on_when_its_person_signs_in_again(
    cluster: Cluster, squares: str, person: tuple[BrowserContext, Watch], who: str
) -> None:
    """WebSockets close with 1008, not cut; Streamlit's page asks again until it is let in."""
    context, watch = person
    page = context.new_page()
    page.goto(squares)
    page.get_by_role("slider").press("ArrowRight")
    expect(page.get_by_text("The square is 16.")).to_be_visible()
    assert page.evaluate(OPEN_SOCKET) == "open"

    sign_out(context, cluster.url)

    assert page.evaluate("endWithin(5)") == [1008, "session ended", True]
    expect(page.get_by_text("CONNECTING")).to_be_visible()
    expect(page.get_by_text("The square is 16.")).to_be_visible()

    tab = context.new_page()
    tab.goto(squares)
    sign_in(tab, who, PASSWORD)
    expect(tab.get_by_text("The square is 9.")).to_be_visible()
    tab.close()
    expect(page.get_by_text("CONNECTING")).to_be_hidden()
    page.get_by_role("slider").press("ArrowRight")

    expect(page.get_by_text("The square is 25.")).to_be_visible()
    assert {status for url, status in watch.answers if "/_stcore/" in url} <= {200, 401}


SETTINGS = """\
module.exports = {
  uiHost: "127.0.0.1",
  telemetry: {enabled: false}, // asks a question at the first start
  editorTheme: {tours: false},
  externalModules: {palette: {allowInstall: false}}, // fetches a catalogue from the Internet
};
"""
FLOW = [
    {"id": "flow", "type": "tab", "label": "Product"},
    {
        "id": "ask",
        "type": "inject",
        "z": "flow",
        "name": "ask",
        "props": [{"p": "payload"}],
        "payload": "6 * 7",
        "payloadType": "jsonata",
        "topic": "",
        "repeat": "",
        "crontab": "",
        "once": False,
        "onceDelay": 0.1,
        "x": 150,
        "y": 100,
        "wires": [["show"]],
    },
    {
        "id": "show",
        "type": "debug",
        "z": "flow",
        "name": "show",
        "active": True,
        "tosidebar": True,
        "complete": "payload",
        "targetType": "msg",
        "x": 350,
        "y": 100,
        "wires": [],
    },
]


def start_node_red(cluster: Cluster) -> int:
    node = program("node")
    need("Node-RED", node and NODE_RED.exists(), "make test-deps")
    folder, port = cluster.folder / "node-red", free_port()
    folder.mkdir()
    folder.joinpath("settings.js").write_text(SETTINGS)
    process = cluster.spawn([node, str(NODE_RED), f"--port={port}", f"--userDir={folder}"])
    wait_for_port(port, process)
    return port


def test_a_flow_is_deployed_in_the_editor_and_its_log_appears_there(
    cluster: Cluster, person: tuple[BrowserContext, Watch]
) -> None:
    """Node-RED, by name and URI alone: deployed with a POST, run by a click, told over a WebSocket."""
    context, watch = person
    start_as_shown(cluster, "node-red", start_node_red(cluster))
    page = context.new_page()
    heard: list[str | bytes] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda it: heard.append(it)))
    page.goto(cluster.app_url("node-red"))
    page.locator("#red-ui-workspace-tabs .red-ui-tab").first.wait_for()
    page.locator("#red-ui-loading-progress").wait_for(state="hidden")

    page.keyboard.press("Control+i")
    text = page.locator("#red-ui-clipboard-dialog-import-text")
    text.fill(json.dumps(FLOW))
    text.press("End")  # the editor looks at what is there when a key is let go
    page.get_by_role("button", name="Import", exact=True).click()  # once it is enabled
    page.locator("#red-ui-header-button-deploy").click()
    expect(page.get_by_text("Successfully deployed").first).to_be_visible()
    page.keyboard.press("Control+g")
    page.keyboard.press("d")  # the log's tab
    page.locator('a[href="#flow"]').click()
    page.locator("#red-ui-workspace-chart .red-ui-flow-node-button-button").first.click()

    expect(page.locator(".red-ui-debug-msg-payload")).to_have_text("42")
    assert any('"topic":"debug"' in str(message) for message in heard)
    assert_well(watch)
