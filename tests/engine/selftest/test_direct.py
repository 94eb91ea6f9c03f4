"""Whether an application can be asked straight from here, and as whom."""

from __future__ import annotations

import socket

import pytest
import trio

from tport.engine.errors import ConnectionProblem
from tport.engine.selftest.direct import Elsewhere, direct_way, front_page
from tport.engine.selftest.probes import ask_once
from tport.engine.types.app import DEBUG_APP, App, AppServer, Header, Rewrite

HERE = socket.gethostname()


def offer(uri: str, *, name: str = "grafana", hostname: str = "web-1", host: str = "") -> AppServer:
    headers = (Header("Host", host),) if host else ()
    app = App(name=name, uri=uri, rewrite=Rewrite(headers=headers))
    return AppServer(app=app, labels={}, host_id="1", hostname=hostname)


@pytest.mark.parametrize(
    "uri", ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:1"]
)
def test_another_machine_s_localhost_is_not_ours(uri: str) -> None:
    """Something else may well listen there, and would be measured for it."""
    with pytest.raises(Elsewhere, match="web-1"):
        direct_way(offer(uri), "192.0.2.7")


@pytest.mark.parametrize(
    ("hostname", "remote"), [(HERE, "192.0.2.7"), ("web-1", "127.0.0.1"), ("web-1", "::1")]
)
def test_an_agent_on_this_machine_means_the_same_localhost(hostname: str, remote: str) -> None:
    way = direct_way(offer("http://localhost:3000", hostname=hostname), remote)

    assert (b"host", b"localhost:3000") in way.headers


def test_the_debug_app_is_nowhere_to_be_asked() -> None:
    with pytest.raises(Elsewhere, match="inside the agent"):
        direct_way(offer("http://localhost/", name=DEBUG_APP, hostname=HERE), "127.0.0.1")


def test_the_application_is_asked_by_the_host_that_its_agent_sends() -> None:
    way = direct_way(offer("http://10.0.0.1:3000", host="grafana.example.com"), "")

    assert (b"host", b"grafana.example.com") in way.headers


async def test_where_clouds_keep_credentials_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an agent offers: an administrator's machine is no way there."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    monkeypatch.setattr("tport.engine.selftest.direct.is_metadata", lambda a: a == "127.0.0.1")

    with pytest.raises(Elsewhere, match="credentials"):
        await ask_once(direct_way(offer(f"http://127.0.0.1:{port}", hostname=HERE), ""), b"/")
    await listener.aclose()


async def test_an_address_without_a_listener_is_said() -> None:
    way = direct_way(offer("http://127.0.0.1:1", hostname=HERE), "")

    with pytest.raises(ConnectionProblem, match="connection refused"):
        await ask_once(way, b"/")


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("http://localhost:3000", b"/"),
        ("http://localhost:3000/", b"/"),
        ("http://localhost:3000/ui/start", b"/ui/start"),
        ("http://localhost:3000/ui/?tab=1#top", b"/ui/?tab=1"),
    ],
)
def test_the_front_page_is_where_the_agent_leads_who_opens_the_root(
    uri: str, target: bytes
) -> None:
    assert front_page(uri) == target
