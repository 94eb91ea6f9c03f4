"""`tport apps check` with real processes: what is found, what is written, and what comes of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.harness import DOMAIN, PATIENCE, Cluster, Tport, wait_until
from tests.e2e.started_upstream import Upstream, start_upstream
from tests.ports import free_port

pytestmark = pytest.mark.e2e

APPS = """\
app_service:
  enabled: "yes"
  apps:
  # Kept by the ops team.
  - name: careful   # posts only from its own page
    uri: {uri}
"""


@pytest.fixture(scope="module")
def careful(cluster: Cluster) -> Upstream:
    """An application that refuses a POST whose Origin isn't its Host, as many do."""
    return start_upstream(cluster, "careful")


def found(text: str) -> dict[str, str]:
    """Return what `--format json` says: check → verdict."""
    return {finding["check"]: finding["verdict"] for finding in json.loads(text)["findings"]}


def test_a_check_proposes_what_write_then_puts_into_the_agent_s_file(
    cluster: Cluster, careful: Upstream
) -> None:
    """On the server by the agent, on the agent's machine by its file; a post gets through in the end."""
    agent = cluster.start_agent_of(APPS.format(uri=careful.url))
    cluster.wait_for_app("careful", agent)
    file = cluster.folder / "agent.yaml"
    before = file.read_text()
    alice = cluster.signed_in("alice")
    page = cluster.app_url("careful", "/sum")
    alice.open(cluster.app_url("careful"))

    def post() -> int:
        origin = f"https://careful.{cluster.address}"
        return alice.request("POST", page, {"Origin": origin}, body=b"x").status

    assert post() == 403

    there = cluster.command("apps", "check", "careful")
    assert there.returncode == 0, there.stderr
    assert f'- "Host: careful.{cluster.address}"' in there.stdout
    refused = cluster.command("apps", "check", "careful", "--write")
    assert refused.returncode == 2
    assert "apps check careful --write" in refused.stderr
    assert file.read_text() == before

    written = cluster.run(f"--config={file}", "apps", "check", "careful", "--write")
    assert written.returncode == 0, written.stderr

    after = file.read_text()
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert "# Kept by the ops team." in after
    assert file.stat().st_mode == cluster.file.stat().st_mode
    wait_until(lambda: post() == 200, "a post that gets through, the file being changed")
    again = cluster.command("apps", "check", "careful", "--format=json")
    assert found(again.stdout)["host"] == "ok"


def test_an_application_that_is_down_is_said_to_be_and_is_status_1(cluster: Cluster) -> None:
    cluster.start_agent("away", f"http://127.0.0.1:{free_port()}")

    done = cluster.command("apps", "check", "away")

    assert done.returncode == 1
    assert "connection refused" in done.stdout
    assert "correct the port" in done.stdout


def test_one_that_nobody_offers_is_status_4_and_says_where_to_look(cluster: Cluster) -> None:
    done = cluster.command("apps", "check", "nothing")

    assert done.returncode == 4
    assert "no agent offers 'nothing' now" in done.stderr
    assert "tport apps ls" in done.stderr


def test_on_an_agent_s_machine_no_cluster_is_asked(
    tport: Tport, careful: Upstream, tmp_path: Path
) -> None:
    """Nothing listens at the proxy's address: the file alone tells what there is to try."""
    file = tmp_path / "agent.yaml"
    file.write_text(
        f"tport:\n  proxy_server: tport.example.com:{free_port()}\n"
        'auth_service: {enabled: "no"}\nproxy_service: {enabled: "no"}\n'
        + APPS.format(uri=careful.url)
    )

    done = tport.run(f"--config={file}", "apps", "check", "careful", "--format=json")

    assert done.returncode == 0, done.stderr
    assert found(done.stdout)["host"] == "change"
    assert f"tport --config {file} apps check careful --write" in done.stderr


def test_up_and_start_with_probe_give_an_application_what_it_needs(
    tport: Tport, careful: Upstream
) -> None:
    """One command to an application in which one can also save something."""
    port = free_port()
    up = tport.start("up", careful.url, "--name=careful", f"--port={port}")
    up.wait_for("sign up as the owner")
    assert "it compares Origin with Host" in up.stderr
    data = tport.home / "state" / "tport" / "up"

    agent = tport.start(
        "start",
        "--roles=app",
        "--app-name=second",
        f"--app-uri={careful.url}",
        f"--data-dir={tport.folder / 'second'}",
        "--probe",
    )
    agent.wait_for("ready", PATIENCE)

    for name in ("careful", "second"):
        done = tport.run(f"--data-dir={data}", "apps", "check", name, "--format=json")
        assert found(done.stdout)["host"] == "ok", done.stdout + done.stderr
        assert f"it gets {name}.{DOMAIN}:{port}" in done.stdout
