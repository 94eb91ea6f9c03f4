"""TLS-02, TLS-09, TLS-10, TLS-13 at each door of a whole cluster: how TLS is spoken, how long, at what cost.

Doors: browsers', the tunnel's, auth's behind the proxy's port, and auth's own port.
"""

from __future__ import annotations

import gc
import itertools
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.certs import forge
from tests.e2e.harness import need
from tests.security.conftest import MovableClock
from tests.stack import DOMAIN, Person, Stack, read_all, read_answer
from tport.engine.agent.join import auth_dial
from tport.engine.api.remote import open_remote_auth
from tport.engine.config.address import Address
from tport.engine.defaults import ALPN_AUTH, ALPN_HTTP, ALPN_TUNNEL
from tport.engine.errors import ConnectionProblem, TportError
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import CIPHERS, restrict_groups, tunnel_client_context
from tport.engine.pki.keys import KeyPair
from tport.engine.proto.tunnel import Inbox, ProxyHello
from tport.engine.types.identity import Identity, IdentityKind

ALPN = {"browser": ALPN_HTTP, "tunnel": ALPN_TUNNEL, "auth": ALPN_AUTH, "auth's port": ALPN_AUTH}
WITH_CERTIFICATES = [door for door in ALPN if door != "browser"]
HOUR = timedelta(hours=1)
V1_0, V1_1 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
GET = f"GET /healthz HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode()


class Spoken(NamedTuple):
    """What became of a handshake; `session`: what the client may try to go on with."""

    version: str | None
    session: ssl.SSLSession | None
    reused: bool


class Client:
    """A client that speaks whatever OpenSSL can, at any door, with an agent's certificate."""

    def __init__(self, stack: Stack, folder: Path, door: str) -> None:
        self.port = stack.port
        if door == "auth's port":
            told = (stack.running.config.data_dir / "auth" / "admin.addr").read_text().strip()
            self.port = int(told.rpartition(":")[2])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        self.context.set_alpn_protocols([ALPN[door]])
        pair = agent_pair(stack)
        file = folder / "agent.pem"
        file.write_text(pair.chain + pair.key)
        if door != "browser":
            self.context.load_cert_chain(file)

    def only(self, version: ssl.TLSVersion) -> None:
        self.context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        self.context.maximum_version = version
        self.context.minimum_version = version

    async def speak(self, session: ssl.SSLSession | None = None) -> Spoken:
        """Shake hands, and wait for the server's first bytes: what TLS has to say came before.

        Raises:
            ssl.SSLError: refused.
        """
        return await trio.to_thread.run_sync(self._speak, session)

    def _speak(self, session: ssl.SSLSession | None) -> Spoken:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        with self.context.wrap_socket(plain, server_hostname=DOMAIN, session=session) as tls:
            if tls.selected_alpn_protocol() != ALPN_TUNNEL:  # there the proxy speaks first
                tls.sendall(GET)
            assert tls.recv(1)
            return Spoken(tls.version(), tls.session, bool(tls.session_reused))


def agent_pair(stack: Stack, kind: IdentityKind = "agent") -> KeyPair:
    """A certificate as the host authority makes them, for an hour."""
    identity = Identity(kind=kind, name="someone", cluster=DOMAIN)
    return forge(stack.auth.cluster.keys["host"], identity, end=HOUR)


Open = Callable[[str], Client]


@pytest.fixture
def at(stack: Stack, tmp_path: Path) -> Open:
    return lambda door: Client(stack, tmp_path, door)


# --- What is spoken --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")  # that's the point
@pytest.mark.parametrize("door", ALPN)
async def test_tls_10_old_versions_are_refused(at: Open, door: str) -> None:
    """TLS-10: 1.0 and 1.1 by an alert that says so; 1.2 too where no browser comes."""
    for version in (V1_0, V1_1, V1_2, V1_3):
        client = at(door)
        client.only(version)
        if version is V1_3 or (version is V1_2 and door == "browser"):
            assert (await client.speak()).version == f"TLSv{version.name[-3:].replace('_', '.')}"
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
                await client.speak()


async def test_tls_10_of_all_suites_but_six_none_is_spoken_in_1_2(at: Open) -> None:
    """TLS-10: no CBC, no DHE, no RSA key exchange, no RC4, no NULL, nobody anonymous."""
    probe = at("browser")
    probe.only(V1_2)
    all_of_them = {
        cipher["name"]
        for cipher in probe.context.get_ciphers()
        if cipher["protocol"] != "TLSv1.3"
        and not {"PSK", "SRP"} & set(cipher["name"].split("-"))  # wants a secret that nobody has
    }
    spoken, refused = set(), {}
    assert {"AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"} < all_of_them
    for name in sorted(all_of_them):
        client = at("browser")
        client.only(V1_2)
        client.context.set_ciphers(f"{name}:@SECLEVEL=0")
        try:
            await client.speak()
            spoken.add(name)
        except ssl.SSLError as error:
            refused[name] = "HANDSHAKE_FAILURE" in error.reason

    assert spoken == {name for name in CIPHERS.split(":") if "ECDSA" in name}  # by the key it has
    assert refused == dict.fromkeys(all_of_them - spoken, True)


@pytest.mark.skipif(
    not restrict_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
    reason="libssl is built into this Python: its groups can't be set",
)
@pytest.mark.parametrize("door", ALPN)
async def test_tls_10_only_the_profiles_groups_are_spoken(at: Open, door: str) -> None:
    for group, welcome in (("prime256v1", True), ("secp384r1", True), ("secp521r1", False)):
        client = at(door)
        client.only(V1_3)
        client.context.set_ecdh_curve(group)
        if welcome:
            await client.speak()
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
                await client.speak()


async def test_tls_10_nobody_renegotiates_and_nothing_is_compressed(stack: Stack) -> None:
    """TLS-10: asked in TLS 1.2, the only version left that could.

    What TLS has to say in between leaves with the next data: here with the goodbye, as we stop.
    """
    openssl = shutil.which("openssl")
    need("openssl", openssl, "apt-get install openssl")
    command = [str(openssl), "s_client", "-connect", f"127.0.0.1:{stack.port}", "-tls1_2", "-comp"]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            client: trio.Process = await nursery.start(start)
            assert client.stdin is not None
            assert client.stdout is not None
            said = b""
            await client.stdin.send_all(b"R\n")
            while b"RENEGOTIATING" not in said:
                said += await client.stdout.receive_some(65536)
            await trio.sleep(0.5)  # its ClientHello is on its way, in real time
            stack.stop.set()
            said += await read_all(client.stdout)

    assert b"no renegotiation" in said
    assert b"Compression: NONE" in said


@pytest.mark.parametrize("door", WITH_CERTIFICATES)
async def test_tls_02_where_certificates_are_shown_nothing_is_resumed(at: Open, door: str) -> None:
    """TLS-02: no ticket comes, and what a client remembers is of no use."""
    client = at(door)

    before = await client.speak()

    assert before.session is None or not before.session.has_ticket
    assert not (await client.speak(before.session)).reused


async def test_tls_02_browsers_do_resume_which_shows_that_this_client_can(at: Open) -> None:
    client = at("browser")
    before = await client.speak()

    assert before.session is not None
    assert before.session.has_ticket
    assert (await client.speak(before.session)).reused


# --- For how long ------------------------------------------------------------------------------------


async def test_tls_09_a_tunnel_ends_with_its_certificate(stack: Stack, clock: MovableClock) -> None:
    """TLS-09: within 5 s, though both ends live; and the same certificate gets no new one."""
    pair = agent_pair(stack)
    running = await tunnel(stack, pair)
    async with open_running(running):
        assert isinstance(await next_control(await running.accept(), Inbox()), ProxyHello)
        clock.ahead += HOUR
        with trio.fail_after(5 + 3):
            await running.wait_closed()

    late = await tunnel(stack, pair)
    async with open_running(late):
        with trio.fail_after(5):
            await late.wait_closed()


@asynccontextmanager
async def open_running(mux: Mux) -> AsyncIterator[None]:
    """Run a tunnel whose end, however it comes, is no failure."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mux.run)
            yield
            nursery.cancel_scope.cancel()
    except* (ConnectionProblem, trio.BrokenResourceError):
        pass


async def tunnel(stack: Stack, pair: KeyPair) -> Mux:
    context = tunnel_client_context(pair, stack.auth.authorities.host)
    plain = await trio.open_tcp_stream("127.0.0.1", stack.port)
    tls = await connect_tls(plain, context, server_name=DOMAIN, alpn=ALPN_TUNNEL)
    return Mux(tls, client=False, peer_may_open=True)


@pytest.mark.parametrize("kind", ["agent", "admin"])
async def test_tls_09_a_connection_to_auth_counts_no_longer_than_its_certificate(
    stack: Stack, clock: MovableClock, kind: IdentityKind
) -> None:
    """TLS-09: on a connection that was open before; a host may then renew, and do nothing else."""
    pair = agent_pair(stack, kind)
    hosts = stack.auth.authorities.host
    dial = auth_dial(Address("127.0.0.1", stack.port), pair, hosts, clock)
    async with open_remote_auth(dial) as auth:
        call = partial(auth.emit, events=()) if kind == "agent" else auth.list_users
        await call()
        clock.ahead += HOUR
        with pytest.raises(TportError, match=r"expired|may not emit"):
            await call()


async def test_tls_09_a_kept_connection_is_nobodys_when_the_session_is_over(
    stack: Stack, alice: Person, clock: MovableClock
) -> None:
    """TLS-09: browsers show no certificate; what they show is judged anew with each request."""
    await alice.open("echo")
    head = f"GET / HTTP/1.1\r\nHost: {stack.host('echo')}\r\nCookie: {alice.cookie('echo')}\r\n\r\n"
    async with await stack.connect(stack.host("echo")) as tls:
        statuses = []
        for ahead in (timedelta(), 24 * 14 * HOUR):
            clock.ahead += ahead
            await tls.send_all(head.encode())
            statuses.append((await read_answer(tls)).status)

    assert statuses == [200, 401]
    assert len(stack.echo.seen) == 1


# --- At what cost ------------------------------------------------------------------------------------


async def test_tls_13_names_that_strangers_invent_are_remembered_nowhere(stack: Stack) -> None:
    """TLS-13: not one of a thousand, as soon as they have gone. What they are shown:
    test_proxy_certificates.py."""
    chance, context = random.Random(1), stack.context(verify=False)
    parents = itertools.cycle([DOMAIN, "evil.test", f"a.b.{DOMAIN}", f"echo.{DOMAIN}"])

    async def knock(count: int) -> None:
        for _ in range(count):
            name = f"invented{chance.randrange(10**9)}.{next(parents)}"
            await trio.aclose_forcefully(await stack.connect(name, context=context))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(knock, 50)
    staying = await stack.connect(f"invented{chance.random()}.evil.test", context=context)

    assert remembered("invented")  # as long as it is there
    await trio.aclose_forcefully(staying)
    with trio.fail_after(10):
        while True:
            if not remembered("invented"):
                break
            await trio.sleep(0.1)  # the last connections are being closed, in real time


def remembered(part: str) -> set[str]:
    """Return the host names with `part` in them that anything in this process refers to."""
    gc.collect()
    return {
        text
        for owner in gc.get_objects()
        for text in gc.get_referents(owner)
        if type(text) is str and part in text and text.endswith((".test", DOMAIN))
    }
