"""The file of a real process is edited: what `tport apps ls` shows, and what a fault costs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.harness import Cluster, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream

pytestmark = pytest.mark.e2e

AT_ONCE = 5.0  # s from a signal to the list
UNASKED = 20.0  # s in which an edit is noticed without one, on a busy machine


def section(**uris: str) -> str:
    apps = "".join(f"  - {{name: {name}, uri: '{uri}'}}\n" for name, uri in uris.items())
    return f'app_service:\n  enabled: "yes"\n  apps:\n{apps}'


def states(cluster: Cluster) -> dict[str, str]:
    """Return each application that is listed, and its state."""
    rows = json.loads(cluster.tell("apps", "ls", "--format=json"))
    return {row["name"]: row["state"] for row in rows}


def test_an_edited_file_adds_changes_and_removes_applications_of_a_running_agent(
    tmp_path: Path,
) -> None:
    """R-34: and what is no file any more changes nothing."""
    with start_cluster(tmp_path) as cluster:
        upstream = start_upstream(cluster)
        agent = cluster.start_agent_of(section(one=upstream.url))
        cluster.wait_for_app("one", agent)
        file = tmp_path / "agent.yaml"
        head = file.read_text().removesuffix(section(one=upstream.url))

        file.write_text(head + section(one=upstream.url, two=upstream.url))
        agent.signal(signal.SIGHUP)
        wait_until(lambda: states(cluster) == {"one": "up", "two": "up"}, "two", AT_ONCE)

        file.write_text(head + section(one=upstream.url, two="localhost:no"))
        agent.signal(signal.SIGHUP)
        wait_until(lambda: states(cluster)["two"] != "up", "two is red", AT_ONCE)
        shown = states(cluster)
        assert shown["one"] == "up"
        assert f"refused: {file}:" in shown["two"]
        assert "uri" in shown["two"]

        file.write_text(head + "app_service: [")
        agent.signal(signal.SIGHUP)
        agent.wait_for("the file is not taken; what ran before goes on")
        assert states(cluster) == shown

        file.write_text(head + section(three=upstream.url))
        wait_until(lambda: states(cluster) == {"three": "up"}, "three, unasked", UNASKED)

        person = cluster.signed_in("alice")
        assert person.open(cluster.app_url("three")).status == 200
        assert "only a restart" not in agent.stderr
        assert agent.stop() == 143


def test_a_process_whose_only_application_is_faulty_serves_it_once_it_is_mended(
    tmp_path: Path,
) -> None:
    extras = section(one="nowhere")
    with start_cluster(tmp_path, extras=extras) as cluster:
        wait_until(lambda: "refused" in states(cluster).get("one", ""), "one is red", AT_ONCE)
        text = cluster.file.read_text().removesuffix(extras)
        cluster.file.write_text(text + section(one=start_upstream(cluster).url))
        cluster.proxy.signal(signal.SIGHUP)
        wait_until(lambda: states(cluster) == {"one": "up"}, "one is well", AT_ONCE)
        assert "only a restart" not in cluster.proxy.stderr
