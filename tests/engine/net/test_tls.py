import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.certs import Cluster, forge
from tests.engine.pki.test_contexts import web_pair
from tport.engine.defaults import HANDSHAKE_DEADLINE
from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import (
    accept_tls,
    connect_tls,
    refuse_plain_http,
    refuse_protocols,
    tls_problem,
)
from tport.engine.pki.contexts import (
    auth_client_context,
    browser_context,
    https_context,
    tunnel_client_context,
    tunnel_server_context,
)
from tport.engine.proto.client_hello import HTTPS_ONLY

CLUSTER = Cluster()
TRUSTED = CLUSTER.host.trusted
SERVER = tunnel_server_context(CLUSTER.pair("proxy"), TRUSTED)
BROWSER = https_context(authorities=CLUSTER.web.trusted)


Sockets = tuple[trio.SocketStream, trio.SocketStream]


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    one, other = (
        trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair()
    )
    async with one, other:
        yield one, other


async def test_plain_http_is_told_what_this_port_speaks() -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse_plain_http, server, HTTPS_ONLY)
        assert await client.receive_some() == HTTPS_ONLY
        assert await client.receive_some() == b""
        await client.aclose()


async def test_an_unknown_protocol_is_refused_with_its_own_alert(sockets: Sockets) -> None:
    """TLS-04: OpenSSL as a client understands the alert that we write by hand."""
    here, there = sockets
    context = auth_client_context(None, TRUSTED)
    context.set_alpn_protocols(["smtp"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse_protocols, there)
        with pytest.raises(ConnectionProblem, match="does not speak the protocol") as problem:
            await connect_tls(here, context, server_name=None)

    assert "tport proxy" in problem.value.hint


async def test_a_tunnel_handshake_over_sockets_with_the_hello_seen_first(sockets: Sockets) -> None:
    here, there = sockets
    context = tunnel_client_context(CLUSTER.pair("agent"), TRUSTED)

    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            seen = await there.receive_some()
            server = await accept_tls(PrefixedStream(bytes(seen), there), SERVER)
            assert not isinstance(server.transport, PrefixedStream)
            assert server.peer_certificate is not None
            await server.send_all(await server.receive_some())
            await server.aclose()

        nursery.start_soon(serve)
        client = await connect_tls(here, context, server_name=None, alpn="tport-tunnel/1")
        await client.send_all(b"echo")
        assert await client.receive_some() == b"echo"
        assert await client.receive_some() == b""
        await client.aclose()


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("none", "wants a certificate"),
        ("expired", "our certificate has expired"),
        ("unknown", "does not know the authority"),
    ],
)
async def test_an_agent_that_is_refused_learns_why(
    sockets: Sockets, agent: str, words: str
) -> None:
    """In TLS 1.3 that comes with the first receive."""
    here, there = sockets
    identity = CLUSTER.identity("agent")
    pair = {
        "none": None,
        "expired": forge(CLUSTER.host, identity, end=timedelta(minutes=-1)),
        "unknown": forge(None, identity),
    }[agent]  # fmt: skip
    context = auth_client_context(pair, TRUSTED)
    context.set_alpn_protocols(["tport-tunnel/1"])

    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(RemoteProtocolError, match="TLS handshake failed"):
                await accept_tls(there, SERVER)

        nursery.start_soon(serve)
        client = await connect_tls(here, context, server_name=None)
        with pytest.raises(trio.BrokenResourceError) as broken:
            await client.receive_some()
        await client.aclose()

    assert words in tls_problem(broken.value)[0]


async def test_a_certificate_that_does_not_verify_says_what_is_wrong_with_it(
    sockets: Sockets,
) -> None:
    here, there = sockets

    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(RemoteProtocolError):
                await accept_tls(there, browser_context(web_pair(CLUSTER)))

        nursery.start_soon(serve)
        with pytest.raises(ConnectionProblem, match="Hostname mismatch"):
            await connect_tls(here, BROWSER, server_name="other.test")


async def test_a_server_that_speaks_plain_http_is_recognised(sockets: Sockets) -> None:
    here, there = sockets
    await there.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(ConnectionProblem, match="does not speak TLS") as problem:
        await connect_tls(here, BROWSER, server_name="proxy.test")

    assert "http://" in problem.value.hint


async def test_a_server_without_our_protocol_is_not_mistaken_for_one_of_ours(
    sockets: Sockets,
) -> None:
    """[M] fact 3: such a handshake succeeds, without any protocol agreed."""
    here, there = sockets
    context = https_context(authorities=CLUSTER.web.trusted)
    plain = browser_context(web_pair(CLUSTER))
    context.set_alpn_protocols(["tport-tunnel/1"])

    async def accept() -> None:
        with suppress(ConnectionProblem):  # the client may have gone before it is done
            await accept_tls(there, plain)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        with pytest.raises(ConnectionProblem, match="does not speak tport-tunnel/1"):
            await connect_tls(here, context, server_name="proxy.test", alpn="tport-tunnel/1")


async def test_a_handshake_that_stalls_ends_and_closes(autojump_clock: MockClock) -> None:
    here, there = memory_stream_pair()
    with pytest.raises(ConnectionProblem, match="within 10 s"):
        await connect_tls(here, BROWSER, server_name="proxy.test")
    assert trio.current_time() == HANDSHAKE_DEADLINE
    while await there.receive_some():
        pass  # the ClientHello; then the end

    here, there = memory_stream_pair()
    with pytest.raises(ConnectionProblem, match="within 10 s"):
        await accept_tls(here, SERVER)
    assert trio.current_time() == 2 * HANDSHAKE_DEADLINE
    assert await there.receive_some() == b""


async def test_a_peer_that_hangs_up_is_said_to_have_done_so() -> None:
    here, there = memory_stream_pair()
    await there.aclose()

    with pytest.raises(ConnectionProblem, match="hung up"):
        await accept_tls(here, SERVER)


async def test_a_refused_client_that_stays_is_let_go(autojump_clock: MockClock) -> None:
    _, there = memory_stream_pair()

    await refuse_protocols(there)

    assert trio.current_time() == pytest.approx(1)


def test_an_error_without_a_meaning_of_ours_keeps_openssl_s() -> None:
    error = ssl.SSLError(1, "[SSL: BAD_ECPOINT] bad ecpoint")

    assert "bad" in tls_problem(error)[0].lower()
