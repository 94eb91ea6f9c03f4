"""tport itself, started as people start it: auth and proxy in one process, an agent in another.

Everything is on: sessions, roles, both checks, the log of requests, header rules and the JWT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.door import Door
from bench.peers import relayed
from bench.stack import DELAY, HOST, ORIGIN_HOST, Stack
from bench.upstream import Upstream
from tests.e2e.client import Client
from tests.e2e.harness import DOMAIN, Background, Cluster, Tport, start_cluster

_AGENT: Final = """\
tport:
  data_dir: {folder}
  auth_token: {token}
  proxy_server: {proxy}
app_service:
  enabled: "yes"
  apps:
  - name: bench
    uri: http://127.0.0.1:{pages}
    labels: {{env: bench}}
    rewrite:
      redirect: [localhost]
      headers:
      - "X-User: {{{{internal.username}}}}"
      - "X-Groups: {{{{external.groups}}}}"
      - "Authorization: Bearer {{{{internal.jwt}}}}"
  - name: origin
    uri: http://127.0.0.1:{origin}
auth_service: {{enabled: "no"}}
proxy_service: {{enabled: "no"}}
ssh_service: {{enabled: "no"}}
"""


@contextmanager
def open_tport(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """As installed."""
    folder = home.folder / "tport"
    folder.mkdir()
    with start_cluster(folder) as cluster:
        agent = start_agent(cluster, upstream, cluster.port)
        yield stack_of("tport", cluster, agent, sign_in(cluster))


@contextmanager
def open_tport_far(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """The same, the agent 50 ms away from the proxy."""
    folder = home.folder / "tport-far"
    folder.mkdir()
    with start_cluster(folder) as cluster:
        agent = start_agent(cluster, upstream, relayed(cluster, cluster.port, DELAY))
        yield stack_of("tport, far", cluster, agent, sign_in(cluster))


def start_agent(cluster: Cluster, upstream: Upstream, port: int) -> Background:
    """Start the agent of both applications, which dials the proxy at `port`; wait until it serves."""
    file = cluster.folder / "agent.yaml"
    file.write_text(
        _AGENT.format(
            folder=cluster.folder / "agent", token=cluster.token(), proxy=f"{DOMAIN}:{port}",
            pages=upstream.pages, origin=upstream.origin,
        )
    )  # fmt: skip
    agent = cluster.start("start", f"--config={file}")
    for app in ("bench", "origin"):
        cluster.wait_for_app(app, agent)
    return agent


def sign_in(cluster: Cluster) -> Client:
    return cluster.signed_in("ann", groups="people,bench")


def stack_of(name: str, cluster: Cluster, agent: Background, visitor: Client) -> Stack:
    """Return the stack as its visitor has opened it, once the application has said what it is told."""
    told = visitor.open(cluster.app_url("bench", "/headers"))
    jwt, authorization, user, groups = told.text.splitlines()
    assert told.status == 200, told
    assert jwt.startswith("eyJ"), told
    assert (authorization, user) == (f"Bearer {jwt}", "ann"), told
    assert groups.startswith("people"), told
    assert visitor.open(cluster.app_url("origin")).status == 200
    cookie, second = (visitor.cookie_header(cluster.app_url(app)) for app in ("bench", "origin"))
    return Stack(
        name,
        Door(HOST, cluster.port, (f"Cookie: {cookie}",)),
        Door(ORIGIN_HOST, cluster.port, (f"Cookie: {second}",)),
        (cluster.proxy, agent),
        (cookie,),
    )
