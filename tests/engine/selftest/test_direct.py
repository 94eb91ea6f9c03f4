"""Whether an application can be asked straight from here, and as whom."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

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
@pytest.mark.parametrize("anyway", [False, True])
def test_another_machine_s_localhost_is_not_ours(uri: str, anyway: bool) -> None:
    """Something else may well listen there, and would be measured for it."""
    with pytest.raises(Elsewhere, match="web-1"):
        direct_way(offer(uri), "192.0.2.7", anyway=anyway)


def own_address() -> str:
    """An address of this machine that isn't loopback, or a loopback one where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(sock.getsockname()[0])


@pytest.mark.parametrize(
    ("remote", "own"),
    [("127.0.0.1", ""), ("::1", ""), ("::ffff:127.0.0.1", ""), (own_address(), ""), ("", "1")],
)
def test_an_agent_on_this_machine_means_the_same_localhost(remote: str, own: str) -> None:
    way = direct_way(offer("http://localhost:3000"), remote, own_host_id=own)

    assert (b"host", b"localhost:3000") in way.headers


@pytest.mark.parametrize("uri", ["http://localhost:3000", "http://10.0.0.1:3000"])
@pytest.mark.parametrize(
    ("remote", "own"), [("192.0.2.7", "2"), ("", ""), ("here", ""), ("0.0.0.0", ""), ("::", "")]
)
def test_an_agent_does_not_choose_to_be_on_this_machine(uri: str, remote: str, own: str) -> None:
    """AG-05: it would have this machine ask for what only this machine may."""
    with pytest.raises(Elsewhere):
        direct_way(offer(uri, hostname=HERE), remote, own_host_id=own)


def test_what_is_asked_from_here_for_an_agent_elsewhere_a_person_says() -> None:
    server = offer("http://10.0.0.1:3000")
    with pytest.raises(Elsewhere, match="--direct"):
        direct_way(server, "192.0.2.7")

    way = direct_way(server, "192.0.2.7", anyway=True)

    assert (b"host", b"10.0.0.1:3000") in way.headers


async def ask_anyway(uri: str) -> None:
    await ask_once(direct_way(offer(uri), "192.0.2.7", anyway=True), b"/")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "[::ffff:127.0.0.1]", "127.0.0.2", "2130706433", "own"]
)
async def test_nor_do_other_words_for_this_machine_lead_there(host: str) -> None:
    """AG-05: as a name that an agent has lead here."""
    async with trio.open_nursery() as nursery:
        heard: list[bytes] = []

        async def serve(stream: trio.SocketStream) -> None:
            heard.append(await stream.receive_some())

        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        name = own_address() if host == "own" else host
        with pytest.raises(Elsewhere):
            await ask_anyway(f"http://{name}:{port}")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert b"".join(heard) == b""


def test_the_debug_app_is_nowhere_to_be_asked() -> None:
    with pytest.raises(Elsewhere, match="inside the agent"):
        direct_way(offer("http://localhost/", name=DEBUG_APP), "127.0.0.1")


def test_the_application_is_asked_by_the_host_that_its_agent_sends() -> None:
    way = direct_way(offer("http://10.0.0.1:3000", host="grafana.example.com"), "127.0.0.1")

    assert (b"host", b"grafana.example.com") in way.headers


async def test_where_clouds_keep_credentials_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an agent offers: an administrator's machine is no way there."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    monkeypatch.setattr("tport.engine.selftest.direct.is_metadata", lambda a: a == "127.0.0.1")

    with pytest.raises(Elsewhere, match="credentials"):
        await ask_once(direct_way(offer(f"http://127.0.0.1:{port}"), "127.0.0.1"), b"/")
    await listener.aclose()


async def test_an_address_without_a_listener_is_said() -> None:
    way = direct_way(offer("http://127.0.0.1:1"), "127.0.0.1")

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
