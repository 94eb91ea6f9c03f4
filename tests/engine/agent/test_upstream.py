"""How an agent speaks TLS to an application, and how it says why it can't: AG-09."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio
import trustme

from tests.fakes import START
from tport.engine.agent.upstream import TargetDenied, Upstream, close
from tport.engine.errors import ConfigError, ConnectionProblem, RemoteProtocolError
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.net.tls import accept_tls
from tport.engine.proto.framing import NO_BODY
from tport.engine.types.app import App, Timeouts, UpstreamTls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CA = trustme.CA()


@asynccontextmanager
async def serving(
    leaf: trustme.LeafCert | None, *, clients: trustme.CA | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Run an application with this certificate (None: without TLS); yield its port and what it heard.

    `clients`: the authority of those it wants to see a certificate of.
    """
    context = None
    if leaf is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        if clients is not None:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        try:
            transport: trio.abc.Stream = stream
            if context is not None:
                transport = await accept_tls(stream, context, ragged_end=True)
            async with transport:
                while data := bytes(await transport.receive_some(65536)):
                    heard.append(data)
                    if b"\r\n\r\n" in data:
                        await transport.send_all(OK)
        except (trio.BrokenResourceError, RemoteProtocolError, ConnectionProblem):
            pass  # the handshake failed, as some tests want it

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        try:
            yield listener.socket.getsockname()[1], heard
        finally:
            nursery.cancel_scope.cancel()


def upstream(uri: str, **tls: str) -> Upstream:
    definition = App(name="a", uri=uri, tls=UpstreamTls(**tls), timeouts=Timeouts(connect=20))
    return Upstream(definition, lambda: START)


async def asked(connection: ClientConnection) -> int:
    """Ask once and return the answer's status."""
    with trio.fail_after(30):
        try:
            await connection.send_head(b"GET", b"/", [(b"host", b"a")], NO_BODY)
            return (await connection.receive_head()).status
        finally:
            await close(connection)  # noqa: ASYNC102 - closes at once


async def refused(tried: Upstream) -> str:
    """Fail to connect; return why, and what to do."""
    with trio.fail_after(30), pytest.raises(ConnectionProblem) as caught:
        await tried.connect()
    assert tried.health.silent_since == START
    return f"{caught.value}; {caught.value.hint}"


def file(folder: Path, *blobs: trustme.Blob) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.pem"
    path.write_bytes(b"\n".join(blob.bytes() for blob in blobs))
    return str(path)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    return file(tmp_path, CA.cert_pem)


async def test_an_authority_of_a_file_vouches_for_the_applications_name(ca_file: str) -> None:
    async with serving(CA.issue_cert("localhost")) as (port, _):
        connection = await upstream(f"https://localhost:{port}", ca_file=ca_file).connect()

        assert await asked(connection) == 200


async def test_ag_09_a_certificate_nobody_vouches_for_is_refused_and_nothing_is_sent() -> None:
    """And it is not tried again without verification."""
    async with serving(CA.issue_cert("localhost")) as (port, heard):
        why = await refused(upstream(f"https://localhost:{port}"))

        assert "an authority that this machine does not" in why
        assert "tls.ca_file" in why
        assert heard == []
        skips = App(name="a", uri=f"https://localhost:{port}", insecure_skip_verify=True)
        assert await asked(await Upstream(skips, lambda: START).connect()) == 200


async def test_ag_09_the_host_of_the_uri_must_be_the_certificates(ca_file: str) -> None:
    async with serving(CA.issue_cert("router.internal")) as (port, heard):
        uri = f"https://localhost:{port}"
        why = await refused(upstream(uri, ca_file=ca_file))

        assert why.startswith("its certificate is for another name than localhost")
        assert heard == []
        named = await upstream(uri, ca_file=ca_file, server_name="router.internal").connect()
        assert await asked(named) == 200
        address = upstream(f"https://127.0.0.1:{port}", ca_file=ca_file)
        assert "for other addresses than 127.0.0.1" in await refused(address)


async def test_an_expired_certificate_is_called_that(ca_file: str) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    leaf = CA.issue_cert("localhost", not_before=past, not_after=past + timedelta(days=1))
    async with serving(leaf) as (port, _):
        why = await refused(upstream(f"https://localhost:{port}", ca_file=ca_file))

    assert why == "its certificate has expired; renew it"


async def test_an_application_that_wants_a_certificate_is_shown_the_one_configured(
    tmp_path: Path, ca_file: str
) -> None:
    clients = trustme.CA()
    agent = clients.issue_cert("agent")
    cert = file(tmp_path, *agent.cert_chain_pems)
    key = file(tmp_path, agent.private_key_pem)
    async with serving(CA.issue_cert("localhost"), clients=clients) as (port, _):
        uri = f"https://localhost:{port}"
        shown = await upstream(uri, ca_file=ca_file, client_cert=cert, client_key=key).connect()
        assert await asked(shown) == 200

        nothing = await upstream(uri, ca_file=ca_file).connect()
        with pytest.raises(UpstreamGone, match="wants a certificate and was shown none"):
            await asked(nothing)


async def test_https_spoken_to_an_application_without_tls_is_recognised() -> None:
    async with serving(None) as (port, _):

        async def nonsense(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, nonsense, [listener])
            port = listener.socket.getsockname()[1]
            why = await refused(upstream(f"https://localhost:{port}"))
            nursery.cancel_scope.cancel()

    assert why.startswith("it does not speak TLS; its uri must begin with http://; correct the uri")


async def test_http_spoken_to_an_application_with_tls_is_recognised() -> None:
    """Only while it has never answered: what has answered by HTTP isn't looked at again."""
    async with serving(CA.issue_cert("localhost")) as (port, heard):
        tried = upstream(f"http://localhost:{port}")
        assert await tried.expects_tls()
        assert await tried.expects_tls()
        assert heard == []
    assert await tried.expects_tls()  # remembered for a while: nobody listens there now
    tried.health.answered(200, trio.current_time())
    assert not await tried.expects_tls()

    async with serving(None) as (port, heard):
        assert not await upstream(f"http://localhost:{port}").expects_tls()
    assert not await upstream(f"http://localhost:{port}").expects_tls()
    assert not await upstream(f"https://localhost:{port}").expects_tls()


@pytest.mark.parametrize(
    ("setting", "content", "why"),
    [
        ("ca_file", None, "can't be read: No such file or directory"),
        ("ca_file", "", "the authorities' certificates can't be read"),
        ("ca_file", "hello", "the authorities' certificates can't be read"),
        ("client_cert", "hello", "this is no"),
        ("client_cert", None, "can't be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, setting: str, content: str | None, why: str
) -> None:
    path = tmp_path / "x.pem"
    if content is not None:
        path.write_text(content)
    tls = {setting: str(path)}
    if setting == "client_cert":
        tls["client_key"] = str(path)

    with pytest.raises(ConfigError, match=why) as caught:
        upstream("https://localhost", **tls)

    assert str(path) in str(caught.value)


async def test_ag_07_a_name_that_leads_to_metadata_is_left_before_anything_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever DNS said: the address that answered is what counts. Here, loopback stands for it."""
    monkeypatch.setattr("tport.engine.access.targets._METADATA", (ip_network("127.0.0.0/8"),))
    async with serving(None) as (port, heard):
        for host in ("localhost", "127.0.0.1", "2130706433"):
            with pytest.raises(TargetDenied, match=r"leads to 127\.0\.0\.1"):
                await upstream(f"http://{host}:{port}").connect()

        assert heard == []
        allowed = App(name="a", uri=f"http://localhost:{port}", allow_metadata=True)
        assert await asked(await Upstream(allowed, lambda: START).connect()) == 200
