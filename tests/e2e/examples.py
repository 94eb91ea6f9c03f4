"""Applications as `examples/` has them, for a cluster and a port of the tests' own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.harness import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"


def start_as_shown(cluster: Cluster, example: str, port: int) -> None:
    """Start an agent by `examples/<example>.yaml`, and wait for its application.

    Nothing of the entry is changed but the port at which the application is, and the cluster's address.
    """
    text = (EXAMPLES / f"{example}.yaml").read_text()
    section = text[text.index("app_service:") :].replace("tport.example.com:3080", cluster.address)
    section, found = re.subn(r"uri: http://localhost:\d+", f"uri: http://127.0.0.1:{port}", section)
    [app] = re.findall(r"- name: (\S+)", section)
    assert found == 1
    cluster.wait_for_app(app, cluster.start_agent_of(section, f"agent-{example}"))
