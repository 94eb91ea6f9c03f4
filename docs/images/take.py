"""Takes the pictures that README and guide show, of a cluster made for it.

.venv/bin/python -m docs.images.take      needs what the end-to-end tests need (make test-deps)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.e2e.browser import open_browser, open_context, sign_up, trust
from tests.e2e.harness import PASSWORD, Cluster, start_cluster
from tests.e2e.started_upstream import start_upstream

HERE = Path(__file__).parent
APPS = """\
app_service:
  enabled: yes
  debug_app: true
  apps:
  - {name: grafana, uri: "URI", description: Dashboards, labels: {env: prod}}
  - {name: jenkins, uri: "URI", description: Builds, labels: {env: dev}}
  - {name: wiki, uri: "URI", description: How we do things here, labels: {env: prod}}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, start_cluster(Path(folder)) as cluster:
        trust(cluster, f"--config={cluster.file}")
        apps = APPS.replace("URI", start_upstream(cluster).url)
        cluster.wait_for_app("wiki", cluster.start_agent_of(apps))
        cluster.add_user("ann@example.com")
        cluster.signed_in("bob")
        link = cluster.add_user("alice", "access,editor,auditor")
        size = {"width": 1000, "height": 640}
        with (
            open_browser(cluster.home) as browser,
            open_context(browser, viewport=size) as (context, _),
        ):
            page = context.new_page()
            sign_up(page, link, PASSWORD)
            _take(page, cluster)


def _take(page: Page, cluster: Cluster) -> None:
    page.goto(cluster.url)
    page.get_by_role("button", name="wiki is a favourite").click()
    for app in ("dumper", "grafana", "jenkins", "wiki"):
        page.get_by_text("up since").nth(3).wait_for()
        page.goto(cluster.app_url(app))
        page.goto(cluster.url)
    page.screenshot(path=HERE / "applications.png")
    page.goto(f"{cluster.url}/web/users")
    page.screenshot(path=HERE / "users.png")
    page.goto(f"{cluster.url}/web/roles/add")
    page.get_by_label("Name").fill("developers")
    page.get_by_label("Opens applications with these labels").fill("env=dev")
    page.get_by_role("button", name="Who would open what?").click()
    page.locator("#who").scroll_into_view_if_needed()
    page.screenshot(path=HERE / "role.png")


if __name__ == "__main__":
    main()
