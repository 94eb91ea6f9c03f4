"""`tport version --check` says who of the cluster is too far away."""

from __future__ import annotations

from msgspec.structs import replace

import tport
from tests.fakes import START
from tport.commands.version import compared
from tport.engine.api.answers import AgentInfo, ClusterStatus


def agent(hostname: str, version: str) -> AgentInfo:
    return AgentInfo(
        host_id=f"id-of-{hostname}",
        hostname=hostname,
        version=version,
        remote="192.0.2.1",
        since=START,
        proxies=(),
    )


def cluster(version: str, *agents: AgentInfo) -> ClusterStatus:
    return ClusterStatus(
        cluster="c", version=version, proxy_addrs=(), users=0, agents=agents, app_servers=()
    )


def test_the_cluster_is_compared_with_this_program_and_agents_with_the_cluster() -> None:
    found = cluster("7.2.0", agent("b", "7.1.4"), agent("a", "7.2.9"), agent("", "7.0.0"))

    assert compared(found) == [
        ("cluster c", "7.2.0", "too new"),
        ("agent id-of-", "7.0.0", "too old"),
        ("agent a", "7.2.9", "same"),
        ("agent b", "7.1.4", "older"),
    ]


def test_a_cluster_of_our_own_version_is_the_same() -> None:
    assert compared(cluster(tport.__version__)) == [("cluster c", tport.__version__, "same")]
    assert compared(replace(cluster(""), cluster="x")) == [("cluster x", "", "unknown")]
