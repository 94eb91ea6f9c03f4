import _ssl
import contextlib
import ctypes
import fcntl
import socket
import ssl
from collections.abc import Callable
from termios import FIONREAD
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import (
    MockClock,
    check_two_way_stream,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from tests.certs import Cluster
from tests.engine.net.test_tcp import pair
from tests.engine.pki.test_contexts import web_pair
from tport.engine.defaults import READ_SIZE, TUNNEL_WRITE
from tport.engine.net.tcp import TcpStream
from tport.engine.net.tls_stream import CLOSE_DEADLINE, MAX_OWED, TlsStream
from tport.engine.pki.contexts import (
    browser_context,
    https_context,
    tunnel_client_context,
    tunnel_server_context,
)
from tport.engine.proto.yamux import HEADER, MAX_FRAME, MAX_WRITE

OVERHEAD = 22  # bytes that a record of TLS 1.3 is longer than what it carries
CLUSTER = Cluster()
SERVER = tunnel_server_context(CLUSTER.pair("proxy"), CLUSTER.host.trusted)
CLIENT = tunnel_client_context(CLUSTER.pair("agent"), CLUSTER.host.trusted)
WEB = browser_context(web_pair(CLUSTER))
BROWSER = https_context(authorities=CLUSTER.web.trusted)


async def over(
    transports: tuple[trio.abc.Stream, trio.abc.Stream], *, ragged_end: bool = False
) -> tuple[TlsStream, TlsStream]:
    client = TlsStream(transports[0], CLIENT, server_side=False, ragged_end=ragged_end)
    server = TlsStream(transports[1], SERVER, server_side=True, ragged_end=ragged_end)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


async def tls_pair() -> tuple[TlsStream, TlsStream]:
    return await over(memory_stream_pair())


async def clogged_pair() -> tuple[TlsStream, TlsStream]:
    """Lockstep underneath: every send waits for its receive, after the handshake too."""
    return await over(lockstep_stream_pair())


async def test_a_tls_stream_is_a_trio_stream_in_every_respect() -> None:
    await check_two_way_stream(tls_pair, clogged_pair)


async def test_the_two_know_each_other_s_certificates_and_protocol() -> None:
    client, server = await tls_pair()

    assert server.peer_certificate
    assert client.peer_certificate
    assert client.alpn == server.alpn == "tport-tunnel/1"
    assert client.version == "TLSv1.3"


@pytest.mark.parametrize("size", [1, 16384, 16385, 65536, 1_000_000])
async def test_what_is_sent_arrives_whole_in_both_directions_at_once(size: int) -> None:
    client, server = await tls_pair()
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def receive(stream: TlsStream) -> None:
        received = bytearray()
        while len(received) < size:
            received += await stream.receive_some()
        assert received == data

    async with trio.open_nursery() as nursery:
        for stream in (client, server):
            nursery.start_soon(stream.send_all, data)
            nursery.start_soon(receive, stream)


async def test_what_has_arrived_comes_in_one_piece() -> None:
    client, server = await tls_pair()
    for _ in range(3):
        await client.send_all(b"x" * 10_000)

    assert len(await server.receive_some()) == 30_000


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    client, server = await tls_pair()
    await client.send_all(b"whole")

    with trio.CancelScope() as scope:
        scope.cancel()
        await server.receive_some()

    assert await server.receive_some() == b"whole"


async def test_bytes_read_before_the_handshake_count() -> None:
    here, there = memory_stream_pair()
    client = TlsStream(here, CLIENT, server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        hello = await there.receive_some()
        server = TlsStream(there, SERVER, server_side=True, received=bytes(hello))
        await server.do_handshake()

    assert server.alpn == "tport-tunnel/1"


async def test_a_connection_that_was_cut_is_not_one_that_ended() -> None:
    transports = memory_stream_pair()
    client, server = await over(transports)
    await client.send_all(b"half of")

    await transports[0].aclose()

    assert await server.receive_some() == b"half of"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError, match="cut"):
            await server.receive_some()


async def test_where_http_says_what_is_whole_a_cut_is_an_end() -> None:
    transports = memory_stream_pair()
    _, server = await over(transports, ragged_end=True)

    await transports[0].aclose()

    assert await server.receive_some() == b""
    assert await server.receive_some() == b""


async def test_who_closes_says_goodbye() -> None:
    """Without close_notify clients throw their tickets away, and can't tell an end from a cut."""
    client, server = await tls_pair()

    await client.aclose()

    assert await server.receive_some() == b""
    await server.aclose()


async def test_a_peer_that_does_not_listen_delays_no_close(autojump_clock: MockClock) -> None:
    client, _ = await clogged_pair()

    await client.aclose()

    assert trio.current_time() == pytest.approx(CLOSE_DEADLINE)


async def test_bytes_changed_on_the_way_break_the_stream() -> None:
    transports = memory_stream_pair()
    client, server = await over(transports)
    await client.send_all(b"data")
    await transports[0].send_all(b"\x17\x03\x03\x00\x20" + bytes(32))

    assert await server.receive_some() == b"data"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")


@pytest.mark.parametrize("transports", [memory_stream_pair, pair])
async def test_who_is_cut_hears_no_goodbye(
    transports: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]],
) -> None:
    """Half an answer would be taken for the whole of it. A reset may come late, or not at all."""
    client, server = await over(transports())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"half")
        await client.receive_some()
    await trio.aclose_forcefully(server)

    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    await client.aclose()


@pytest.mark.skipif(not hasattr(_ssl, "__file__"), reason="this Python has OpenSSL built in")
async def test_a_peer_that_only_ever_asks_for_new_keys_fills_no_memory() -> None:
    """Each such wish is owed an answer, which leaves with the next data. A few are fine."""
    client, server = await tls_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"x")
        await server.receive_some()
    await ask_for_new_keys(client, 10)
    await client.send_all(b"more")
    assert await server.receive_some() == b"more"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_for_new_keys, client, 1000)
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError, match="key updates"):
            await server.receive_some()
        assert server._outgoing.pending <= 2 * MAX_OWED
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(not hasattr(_ssl, "__file__"), reason="this Python has OpenSSL built in")
async def test_nor_does_a_peer_that_asks_for_new_keys_with_each_byte_of_an_upload() -> None:
    """Nothing is sent while a body is received, so nothing would take the answers along."""
    client, server = await over(pair())
    prompt = server.prompt
    assert prompt is not None
    async with client, server:
        with pytest.raises(trio.BrokenResourceError, match="key updates"):  # noqa: PT012 - a loop
            for _ in range(100):
                for _ in range(100):
                    await ask_for_new_keys(client, 1)
                    client._tls.write(b"x")
                await client.transport.send_all(client._outgoing.read())
                await wait_all_tasks_blocked()
                prompt.receive_nowait()
        assert server._outgoing.pending <= 2 * MAX_OWED


@pytest.mark.skipif(not hasattr(_ssl, "__file__"), reason="this Python has OpenSSL built in")
async def test_without_a_task_too_a_peer_gets_nowhere_by_sending_much_that_is_no_data() -> None:
    """Who has no task is told once of what has come: nothing may be left that nobody asks for."""
    client, server = await over(pair())
    prompt = server.prompt
    assert prompt is not None
    async with client, server:
        await ask_for_new_keys(client, 4000, wants=False)
        await client.send_all(b"data")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError, match="no data"):
            prompt.receive_nowait()


async def test_what_a_peer_sends_behind_its_goodbye_fills_no_memory() -> None:
    client, server = await over(pair())
    prompt = server.prompt
    assert prompt is not None
    async with client, server, trio.open_nursery() as nursery:
        with contextlib.suppress(ssl.SSLWantReadError):
            client._tls.unwrap()
        await client.transport.send_all(client._outgoing.read())
        nursery.start_soon(client.transport.send_all, b"x" * 20_000_000)
        for _ in range(20):
            await wait_all_tasks_blocked()
            assert prompt.receive_nowait() == b""
        assert prompt.may_have_come, "that it has ended is told to whoever asks"
        assert server._incoming.pending <= 2 * READ_SIZE
        nursery.cancel_scope.cancel()


async def test_without_a_task_all_that_came_is_there_though_records_cross_what_is_taken_at_once() -> (
    None
):
    """Nobody is told a second time: what stays behind in TLS would wait for the peer's next bytes."""
    client, server = await over(pair())
    prompt = server.prompt
    assert prompt is not None
    async with client, server:
        for _ in range(13):
            client._tls.write(b"x" * 15_000)
        sent = client._outgoing.read()
        received = 0
        # The third leaves five whole records in TLS, more than is taken at once, and nothing behind them.
        for burst in (sent[:65_536], sent[65_536:131_072], sent[131_072:]):
            await client.transport.send_all(burst)
            await arrived(server, len(burst))
            while data := prompt.receive_nowait():
                received += len(data)
            assert data is None
        assert received == 13 * 15_000
        assert not server._tls.pending()


async def test_without_a_task_what_came_before_the_end_comes_before_it() -> None:
    """An application that closes after its answer, in one burst: no end of it is missing."""
    client, server = await over(pair(), ragged_end=True)
    prompt = server.prompt
    assert prompt is not None
    async with server:
        for _ in range(4):
            client._tls.write(b"x" * 16_384)
        client._tls.write(b"the last of it")
        sent = client._outgoing.read()
        await client.transport.send_all(sent[:16_000])  # not a whole record
        await wait_all_tasks_blocked()
        assert prompt.receive_nowait() is None
        await client.transport.send_all(sent[16_000:])
        await client.transport.aclose()
        await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        received = bytearray()
        while data := prompt.receive_nowait():
            received += data
        assert data == b""
        assert received.endswith(b"xthe last of it")
        assert len(received) == 4 * 16_384 + 14


async def test_what_comes_right_before_the_connection_is_lost_is_told_with_its_end() -> None:
    """Half a record and the end of TCP, in one piece: nobody is told of the end a second time."""
    client, server = await over(pair(), ragged_end=True)
    prompt = server.prompt
    assert prompt is not None
    async with server:
        client._tls.write(b"x" * 1000)
        await client.transport.send_all(client._outgoing.read()[:500])
        await client.transport.aclose()
        await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert prompt.receive_nowait() == b""


async def ask_for_new_keys(client: TlsStream, times: int, wants: bool = True) -> None:
    """Send as many KeyUpdate messages (RFC 8446 §4.6.3); Python has no word for it.

    `wants`: and want one back for each.
    """
    library = ctypes.CDLL(_ssl.__file__)
    update: Any = library.SSL_key_update
    update.argtypes, library.SSL_do_handshake.argtypes = (
        [ctypes.c_void_p, ctypes.c_int],
        [ctypes.c_void_p],
    )
    # struct { PyObject_HEAD PyObject *Socket; SSL *ssl; … }: Modules/_ssl.c
    wrapped: Any = getattr(client._tls, "_sslobj")  # noqa: B009 - typeshed doesn't know it
    held = id(wrapped) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    pointer = ctypes.c_void_p.from_address(held).value
    for _ in range(times):
        assert update(pointer, int(wants)) == 1
        library.SSL_do_handshake(pointer)
        await client.transport.send_all(client._outgoing.read())


async def test_a_send_that_was_cancelled_half_way_ends_the_stream() -> None:
    """Half a record has left: what followed would make no sense to the peer."""
    client, _ = await clogged_pair()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"x" * 100_000)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"y")


class Counting(trio.abc.HalfCloseableStream):
    """A stream that remembers how long each piece was that it sent."""

    def __init__(self, inner: trio.abc.HalfCloseableStream) -> None:
        self._inner = inner
        self.sent: list[int] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(len(data))
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_the_largest_write_of_a_tunnel_leaves_in_one_piece() -> None:
    """A few bytes of it left by themselves each time: half of all sends of a download."""
    near, far = memory_stream_pair()
    counting = Counting(near)
    client, _ = await over((counting, far))
    counting.sent.clear()

    await client.send_all(bytes(MAX_WRITE + MAX_FRAME + 2 * HEADER.size))
    assert len(counting.sent) == 1


async def test_a_piece_stays_below_what_malloc_maps_anew_each_time() -> None:
    near, far = memory_stream_pair()
    counting = Counting(near)
    client, _ = await over((counting, far))
    counting.sent.clear()

    await client.send_all(bytes(1024 * 1024))
    assert max(counting.sent) < 128 * 1024


async def arrived(stream: TlsStream, size: int) -> None:
    """Wait until the system has so many bytes for who reads: it brings them bit by bit."""
    assert isinstance(stream.transport, TcpStream)
    waiting, sock = bytearray(4), stream.transport.socket
    with trio.fail_after(10):
        while int.from_bytes(waiting, "little") < size:
            await trio.sleep(0.001)
            fcntl.ioctl(sock, FIONREAD, waiting)
    await wait_all_tasks_blocked(0.01)  # so that who reads was told


async def test_a_full_write_of_a_tunnel_is_taken_whole_by_one_read() -> None:
    """Records don't come in halves, nor does a crumb of one come by itself: it would be sent on so."""
    client, server = await without_tasks()
    assert client.prompt is not None
    assert server.prompt is not None
    for _ in range(2):
        assert client.prompt.send_nowait(bytes(TUNNEL_WRITE))
        await arrived(server, TUNNEL_WRITE + 4 * OVERHEAD)

        assert len(server.prompt.receive_nowait(TUNNEL_WRITE) or b"") == TUNNEL_WRITE
        assert not server.has_stirred
    assert server.prompt.receive_nowait(TUNNEL_WRITE) is None
    for stream in (client, server):
        await stream.aclose()


async def test_what_is_left_of_one_read_comes_with_the_next() -> None:
    """A piece is less than four records: each time more is left, and no piece is a crumb for that."""
    client, server = await without_tasks()
    assert client.prompt is not None
    assert server.prompt is not None
    sent = bytes(range(256)) * 768  # three times four records
    assert isinstance(server.transport, TcpStream)
    server.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    assert client.prompt.send_nowait(sent)
    client.prompt.end()
    await arrived(server, len(sent) + 12 * OVERHEAD)

    pieces = list[bytes]()
    while piece := server.prompt.receive_nowait():
        pieces.append(piece)
    assert list(map(len, pieces)) == [READ_SIZE, READ_SIZE, READ_SIZE, len(sent) - 3 * READ_SIZE]
    assert b"".join(pieces) == sent
    assert piece == b""
    server.prompt.close()


async def test_a_refused_handshake_says_so_to_the_peer() -> None:
    """The server demands a certificate; the client hears it as an alert, not as a hang-up."""
    here, there = memory_stream_pair()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    client = TlsStream(here, bare, server_side=False)
    server = TlsStream(there, SERVER, server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            await server.do_handshake()

    with pytest.raises(trio.BrokenResourceError, match="CERTIFICATE_REQUIRED"):
        await client.receive_some()


async def without_tasks() -> tuple[TlsStream, TlsStream]:
    """A browser and its server over TCP, the server without a task."""
    here, there = pair()
    client = TlsStream(here, BROWSER, server_side=False, server_name="proxy.test")
    server = TlsStream(there, WEB, server_side=True, ragged_end=True)
    done = trio.Event()

    def go_on() -> None:
        if server.shake_nowait():
            there.on_arrival = None
            done.set()

    there.on_arrival = go_on
    with trio.fail_after(10):
        await client.do_handshake()
        await done.wait()
    return client, server


async def test_a_ticket_leaves_with_the_first_answer_and_is_good() -> None:
    client, server = await without_tasks()
    assert isinstance(client.transport, TcpStream)
    assert server.prompt is not None
    await wait_all_tasks_blocked(0.01)
    assert client.transport.receive_nowait() is None
    server.prompt.send_nowait(b"answer")
    assert await client.receive_some() == b"answer"
    session = client._tls.session
    assert session is not None
    assert session.has_ticket
    for stream in (client, server):
        await stream.aclose()


async def test_who_ends_without_a_task_says_goodbye_too() -> None:
    client, server = await without_tasks()
    assert server.prompt is not None
    server.prompt.end()

    assert await client.receive_some() == b""  # and no cut, which it would take for an error
    await client.aclose()


async def test_a_last_word_and_the_goodbye_leave_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, server = await without_tasks()
    transport = server.transport
    assert isinstance(transport, TcpStream)
    assert server.prompt is not None
    sends, send = list[int](), transport.send_nowait

    def counted(data: bytes | bytearray | memoryview) -> bool:
        sends.append(len(data))
        return send(data)

    monkeypatch.setattr(transport, "send_nowait", counted)
    assert server.prompt.send_last(b"bye")
    server.prompt.end()
    await wait_all_tasks_blocked(0.01)

    assert await client.receive_some() == b"bye"
    assert await client.receive_some() == b""  # and no cut, which it would take for an error
    assert len(sends) == 1
    await client.aclose()


async def test_who_ends_what_is_broken_or_closed_says_nothing_more() -> None:
    client, server = await without_tasks()
    assert server.prompt is not None
    await trio.aclose_forcefully(client)
    await wait_all_tasks_blocked(0.01)
    server.prompt.end()
    server.prompt.end()
