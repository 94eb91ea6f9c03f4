"""TLS-01 to TLS-08 and TLS-11 at a running proxy's door: who gets in where, by what is shown."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import trio

from tests.certs import forge
from tests.stack import DOMAIN, Answer, Stack, open_stack, read_all
from tport.engine.agent.join import auth_dial
from tport.engine.agent.service import AgentSettings, run_agent
from tport.engine.agent.state import FILE, AgentState, save_state
from tport.engine.api.remote import open_remote_auth
from tport.engine.config.address import Address
from tport.engine.defaults import ALPN_ACME, ALPN_AUTH, ALPN_HTTP, ALPN_TUNNEL
from tport.engine.errors import ConfigError, InvalidRequest, TportError
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.tls import connect_tls
from tport.engine.pki.authority import Authority, AuthorityKind, new_authority
from tport.engine.pki.contexts import tunnel_client_context
from tport.engine.pki.keys import KeyPair
from tport.engine.process import wall_clock
from tport.engine.proto.tunnel import Inbox, ProxyHello
from tport.engine.proto.yamux import HEADER
from tport.engine.types.app import App
from tport.engine.types.identity import Identity, IdentityKind
from tport.engine.types.session import session_id

HOUR = timedelta(hours=1)
NAMES = (DOMAIN, f"echo.{DOMAIN}", f"nosuch.{DOMAIN}", "elsewhere.test", None)
NAVIGATION = {"Accept": "text/html"}


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


async def alert_or_bytes(stream: trio.abc.Stream) -> bytes | str:
    """Return what comes until the end; the alert's name when that is what comes."""
    try:
        return await read_all(stream)
    except trio.BrokenResourceError as broken:
        cause = broken.__cause__
        return str(getattr(cause, "reason", None) or cause)


# --- Who gets a tunnel -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_tls_01_no_certificate_no_tunnel_whatever_the_name(
    stack: Stack, name: str | None
) -> None:
    """TLS-01: an alert, and not a byte of the tunnel's."""
    context = stack.context(alpn=[ALPN_TUNNEL], verify=False)
    before = await stack.admin.status()
    came: bytes | str = b""
    try:
        async with await stack.connect(name, context=context) as tls:
            await tls.send_all(HEADER.pack(0, 0, 1, 1, 0))
            came = await alert_or_bytes(tls)
    except ssl.SSLError as error:
        came = error.reason
    except trio.BrokenResourceError:
        came = "cut"

    assert isinstance(came, str), came
    assert len((await stack.admin.status()).agents) == len(before.agents) == 1


async def test_tls_01_without_a_certificate_auth_takes_those_who_join_and_no_others(
    stack: Stack,
) -> None:
    hosts = stack.auth.authorities.host
    dial = auth_dial(Address("127.0.0.1", stack.port), None, hosts, wall_clock)
    async with open_remote_auth(dial) as auth:
        assert await auth.ping() == DOMAIN
        with pytest.raises(TportError, match="may not"):
            await auth.list_users()
        with pytest.raises(TportError, match="may not"):
            await auth.sign_in(username="alice", password="x", remote="", user_agent="")


async def test_tls_02_nothing_that_carries_an_identity_is_resumed(stack: Stack) -> None:
    """TLS-02: neither tickets nor session ids, by whatever name the second connection asks."""
    agent = _pair(stack, "agent")
    tunnel = tunnel_client_context(agent, stack.auth.authorities.host)
    reused = await trio.to_thread.run_sync(_resumes, stack.port, tunnel, DOMAIN, f"echo.{DOMAIN}")
    assert not reused

    alice = await stack.user("alice")  # browsers do resume; nobody is anybody by that
    await alice.open("echo")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = stack.context()
        context.minimum_version = context.maximum_version = version
        await trio.to_thread.run_sync(_resumes, stack.port, context, stack.host("echo"), DOMAIN)
    assert (await stack.request(stack.host("echo"), "/", NAVIGATION)).status == 302


def _resumes(port: int, context: ssl.SSLContext, first: str, second: str) -> bool:
    """Connect twice; tell whether the second connection went on with the first one's session."""
    context.check_hostname = False
    session, reused = None, False
    for name in (first, second):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=name, session=session) as tls,
        ):
            tls.settimeout(0.2)
            try:
                tls.recv(1)  # a ticket would come now
            except TimeoutError:
                pass
            session, reused = tls.session, bool(tls.session_reused)
    return reused


# --- SNI and Host --------------------------------------------------------------------------------------


async def test_tls_03_what_host_asks_for_must_be_what_sni_asked_for(stack: Stack) -> None:
    """TLS-03: with a live session for the application named; 421, closed, nobody asked."""
    alice = await stack.user("alice")
    await alice.open("echo")
    cookie = {"Cookie": alice.cookie("echo")}
    echo, raw = stack.host("echo"), stack.host("raw")
    careless = stack.context(verify=False)
    pairs: list[tuple[str | None, str]] = [
        *((raw, echo), (DOMAIN, echo), ("elsewhere.test", echo), (echo, DOMAIN), (echo, raw)),
        *((None, echo), (None, DOMAIN), (echo, "127.0.0.1"), (echo, "[::1]"), (None, "127.0.0.1")),
    ]
    got = {}
    for server_name, host in pairs:
        raw_request = (
            f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie['Cookie']}\r\n\r\n".encode()
        )
        answer = await stack.raw(server_name, raw_request, context=careless)
        got[server_name, host] = (answer.status, answer.closed)

    assert got == dict.fromkeys(pairs, (421, True))
    assert stack.echo.seen == []
    assert (await stack.request(echo, "/", cookie)).status == 200


async def test_tls_03_without_a_name_only_three_pages_answer(stack: Stack) -> None:
    careless = stack.context(verify=False)
    status = {}
    for path in (
        *("/webapi/ping", "/webapi/cas", "/healthz", "/", "/web/login", "/webapi/ping/"),
        *("/WEBAPI/PING", "/healthz%2f", "/.well-known/jwks.json", "/static/style.css"),
    ):
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{stack.port}\r\n\r\n".encode()
        status[path] = (await stack.raw(None, request, context=careless)).status

    assert [path for path, code in status.items() if code == 200] == [
        "/webapi/ping",
        "/webapi/cas",
        "/healthz",
    ]
    assert {code for code in status.values() if code != 200} == {421}


# --- ALPN ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offer",
    [
        *(["smtp"], ["h2"], ["tport-app/1"], ["tport-tcp/1"], [ALPN_ACME], ["HTTP/1.1"]),
        *([ALPN_TUNNEL, ALPN_HTTP], [ALPN_HTTP, ALPN_AUTH], [ALPN_TUNNEL, ALPN_AUTH]),
    ],
)
async def test_tls_04_a_protocol_we_do_not_speak_gets_an_alert(
    stack: Stack, offer: list[str]
) -> None:
    context = stack.context(alpn=offer, verify=False)

    with pytest.raises((ssl.SSLError, trio.BrokenResourceError)) as refused:
        await stack.connect(DOMAIN, context=context)

    assert isinstance(refused.value, ssl.SSLError)
    assert "NO_APPLICATION_PROTOCOL" in str(refused.value).upper().replace(" ", "_")


@pytest.mark.parametrize("offer", [[ALPN_HTTP], ["h2", ALPN_HTTP], []])
async def test_tls_04_browsers_are_served_whatever_else_they_offer(
    stack: Stack, offer: list[str]
) -> None:
    context = stack.context(alpn=offer)

    answer = await stack.request(DOMAIN, "/webapi/ping", context=context)

    assert answer.status == 200


async def test_tls_04_http_in_a_tunnel_is_closed_without_an_echo(stack: Stack) -> None:
    """TLS-04: even from a genuine agent: nothing of what it sent comes back."""
    context = tunnel_client_context(_pair(stack, "agent"), stack.auth.authorities.host)
    plain = await trio.open_tcp_stream("127.0.0.1", stack.port)
    async with await connect_tls(plain, context, server_name=DOMAIN, alpn=ALPN_TUNNEL) as tls:
        await tls.send_all(b"GET /reflected-by-a-confused-proxy HTTP/1.1\r\nHost: x\r\n\r\n")
        came = await alert_or_bytes(tls)

    assert b"reflected" not in (came if isinstance(came, bytes) else came.encode())
    assert b"HTTP" not in (came if isinstance(came, bytes) else came.encode())


async def test_tls_04_a_tunnel_in_http_is_a_bad_request(stack: Stack) -> None:
    answer = await stack.raw(DOMAIN, HEADER.pack(0, 0, 1, 1, 0) + b"\r\n\r\n")

    assert (answer.status, answer.closed) == (400, True)


async def test_tls_04_plain_http_is_told_to_use_https(stack: Stack) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", stack.port) as plain:
        await plain.send_all(b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
        said = await read_all(plain)

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in said
    assert b"secret" not in said


async def test_tls_04_garbage_gets_nothing(stack: Stack) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", stack.port) as plain:
        await plain.send_all(b"EHLO mail.test\r\n")
        try:
            assert await read_all(plain) == b""
        except trio.BrokenResourceError:
            pass  # reset: as good


# --- Certificates --------------------------------------------------------------------------------------


async def test_tls_05_an_agent_whose_authorities_are_gone_or_broken_does_not_start(
    stack: Stack,
) -> None:
    """TLS-05: it names the file, and never dials somebody it can't verify."""
    state = _agent_state(stack)
    nobody = msgspec.structs.replace(state.authorities, host=())
    cut = msgspec.structs.replace(state.authorities, host=(state.authorities.host[0][:200],))
    with tempfile.TemporaryDirectory(prefix="tport-") as name:
        folder = Path(name)
        for broken in (nobody, cut):
            save_state(folder, msgspec.structs.replace(state, authorities=broken))
            assert FILE in await _refuses_to_start(stack, folder)
        path = folder / FILE
        path.write_bytes(path.read_bytes()[:-100])
        assert FILE in await _refuses_to_start(stack, folder)


async def _refuses_to_start(stack: Stack, folder: Path) -> str:
    settings = AgentSettings(
        folder=folder,
        proxy=Address("127.0.0.1", stack.port),
        hostname="broken",
        apps=(App(name="broken", uri="http://127.0.0.1:1"),),
        debug_app=False,
        token=None,
    )
    why = ""
    with trio.fail_after(5):
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(run_agent, settings, wall_clock, trio.Event())
                nursery.cancel_scope.cancel()
        except* ConfigError as refused:
            why = str(refused.exceptions[0])
    assert why, "it started"
    return why


def _agent_state(stack: Stack) -> AgentState:
    pair = _pair(stack, "agent")
    return AgentState(
        host_id="broken",
        key=pair.key,
        certificate=pair.chain,
        authorities=stack.auth.authorities,
        proxy=f"127.0.0.1:{stack.port}",
        renew_at=wall_clock() + HOUR,
        expires=wall_clock() + HOUR,
    )


def _identity(kind: IdentityKind, cluster: str = DOMAIN) -> Identity:
    return Identity(kind=kind, name="someone", cluster=cluster)


def _pair(stack: Stack, kind: IdentityKind) -> KeyPair:
    """A certificate as the host authority makes them."""
    return forge(stack.auth.cluster.keys["host"], _identity(kind))


def _under(issuer: KeyPair, identity: Identity) -> KeyPair:
    leaf = forge(issuer, identity)
    return KeyPair(chain=leaf.chain + issuer.chain, key=leaf.key)


PEERS: Mapping[str, Callable[[Mapping[AuthorityKind, Authority]], KeyPair]] = {
    "agent": lambda keys: forge(keys["host"], _identity("agent")),
    "proxy": lambda keys: forge(keys["host"], _identity("proxy")),
    "admin": lambda keys: forge(keys["host"], _identity("admin")),
    "auth": lambda keys: forge(keys["host"], _identity("auth")),
    "user": lambda keys: forge(keys["user"], _identity("user")),
    "user by the host CA": lambda keys: forge(keys["host"], _identity("user")),
    "agent by the user CA": lambda keys: forge(keys["user"], _identity("agent")),
    "admin by the user CA": lambda keys: forge(keys["user"], _identity("admin")),
    "agent by the web CA": lambda keys: forge(keys["web"], _identity("agent")),
    "self-signed": lambda keys: forge(None, _identity("agent")),
    "self-signed admin": lambda keys: forge(None, _identity("admin")),
    "another CA of our name": lambda keys: forge(
        new_authority("host", DOMAIN, now=wall_clock()), _identity("agent")
    ),
    "another cluster's": lambda keys: forge(keys["host"], _identity("agent", "other.test")),
    "expired": lambda keys: forge(
        keys["host"], _identity("agent"), start=-60 * 24 * HOUR, end=-40 * 24 * HOUR
    ),
    "expired admin": lambda keys: forge(
        keys["host"], _identity("admin"), start=-2 * HOUR, end=-HOUR
    ),
    "not yet valid": lambda keys: forge(
        keys["host"], _identity("agent"), start=HOUR, end=2 * HOUR
    ),
    "CA:TRUE": lambda keys: forge(keys["host"], _identity("agent"), ca=True),
    "under an agent": lambda keys: _under(
        forge(keys["host"], _identity("agent")), _identity("agent")
    ),
    "under an intermediate": lambda keys: _under(
        forge(keys["host"], _identity("agent"), ca=True), _identity("admin")
    ),
    "without identity": lambda keys: forge(keys["host"], None),
    "extension not critical": lambda keys: forge(
        keys["host"], _identity("agent"), critical=False
    ),
}  # fmt: skip
OPENS = {"agent": {"tunnel", "auth as a machine"}, "proxy": {"auth as a machine"}}
OPENS["admin"] = {"auth as admin"}


async def test_tls_06_each_door_opens_for_its_own_kind_of_certificate(stack: Stack) -> None:
    """TLS-06: every kind of certificate at the tunnel and at auth: only the diagonal succeeds."""
    wrong: dict[str, object] = {}
    for name, make in PEERS.items():
        pair = make(stack.auth.cluster.keys)
        opened = await _doors(stack, pair)
        if opened != OPENS.get(name, set()):
            wrong[name] = opened

    assert wrong == {}


async def test_tls_06_browsers_are_never_asked_for_a_certificate(stack: Stack) -> None:
    """TLS-06: at the web UI and at applications none counts for anything."""
    answers: list[Answer] = []
    for pair in (None, _pair(stack, "admin"), _pair(stack, "proxy")):
        context = stack.context()
        if pair is not None:
            _show(context, pair)
        answers.append(
            await stack.request(stack.host("echo"), "/", {"Accept": "*/*"}, context=context)
        )

    assert {answer.status for answer in answers} == {401}
    assert stack.echo.seen == []


async def _doors(stack: Stack, pair: KeyPair) -> set[str]:
    """Return what opens for who shows this certificate."""
    opened = set()
    if await _gets_a_tunnel(stack, pair):
        opened.add("tunnel")
    hosts = stack.auth.authorities.host
    dial = auth_dial(Address("127.0.0.1", stack.port), pair, hosts, wall_clock)
    async with open_remote_auth(dial) as auth:
        try:
            await auth.emit(events=())
            opened.add("auth as a machine")
        except TportError:
            pass
        try:
            await auth.list_users()
            opened.add("auth as admin")
        except TportError:
            pass
    return opened


async def _gets_a_tunnel(stack: Stack, pair: KeyPair) -> bool:
    context = tunnel_client_context(pair, stack.auth.authorities.host)
    plain = await trio.open_tcp_stream("127.0.0.1", stack.port)
    try:
        tls = await connect_tls(plain, context, server_name=DOMAIN, alpn=ALPN_TUNNEL)
    except TportError:
        return False
    mux = Mux(tls, client=False, peer_may_open=True)
    greeted = False
    with trio.fail_after(5):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mux.run)
                greeted = isinstance(await next_control(await mux.accept(), Inbox()), ProxyHello)
                nursery.cancel_scope.cancel()
        except* (TportError, trio.BrokenResourceError):
            pass
    return greeted


def _show(context: ssl.SSLContext, pair: KeyPair) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pair.chain + pair.key)
        file.flush()
        context.load_cert_chain(file.name)


@pytest.mark.parametrize("name", ["a,role=admin", "a/O=editor", "a\0b", "a" * 300, "a\nb", ""])
async def test_tls_07_a_name_that_could_be_read_as_more_than_a_name_is_refused(
    stack: Stack, name: str
) -> None:
    with pytest.raises(InvalidRequest):
        await stack.admin.create_user(name=name, roles=("access",), traits={})


async def test_tls_08_knowing_a_session_id_opens_nothing(stack: Stack) -> None:
    """TLS-08: ids stand in logs; the cookie's value does not, and an id is no value for it."""
    alice = await stack.user("alice")
    await alice.open("echo")
    sid = session_id(alice.apps[stack.host("echo")])

    stolen = {"Cookie": f"{stack.app_cookie}={sid}", "Accept": "text/html"}
    answer = await stack.request(stack.host("echo"), "/", stolen)
    context = stack.context()
    _show(context, _pair(stack, "agent"))
    with_certificate = await stack.request(stack.host("echo"), "/", stolen, context=context)

    assert (answer.status, with_certificate.status) == (302, 302)
    assert stack.echo.seen == []
    dial = auth_dial(
        Address("127.0.0.1", stack.port),
        _pair(stack, "agent"),
        stack.auth.authorities.host,
        wall_clock,
    )
    async with open_remote_auth(dial) as auth:
        with pytest.raises(TportError, match="may not"):
            await auth.sign_session(id=sid)
    await stack.event("auth.failed", call="sign_session", caller="agent")


# --- Host names ------------------------------------------------------------------------------------------


async def test_tls_11_a_host_has_one_form_and_anything_else_is_none() -> None:
    """TLS-11: also with 101 applications; never another one, never an unauthenticated path."""
    many = [App(name=f"app{n}", uri="http://127.0.0.1:1") for n in range(101)]
    async with open_stack(apps=many, drain=False) as stack:
        alice = await stack.user("alice")
        await alice.open("echo")
        echo = stack.host("echo")
        same = (echo.upper(), echo.title(), f"{echo}.", f"{echo}:443", f"{echo}.:{stack.port}")
        bad = (
            *(f"{echo}:0443", f"{echo}:99999", f"user@{echo}", f"{echo}\t.", f"{echo}%00"),
            *(echo.replace("e", "\u0435").encode().decode("latin-1"), f"{echo}..", f"{echo}:"),
        )
        got: dict[str, int] = {}
        for host in (*same, *bad):
            request = f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {alice.cookie('echo')}\r\n\r\n"
            got[host] = (await stack.raw(echo, request.encode("latin-1"))).status
        by_sni = await stack.request(
            echo, "/", {"Cookie": alice.cookie("echo")}, server_name=echo.upper()
        )
        last = await stack.request(stack.host("app100").upper(), "/", NAVIGATION)

    assert got == {**dict.fromkeys(same, 200), **dict.fromkeys(bad, 400)}
    assert (by_sni.status, last.status) == (200, 302)
    assert len(stack.echo.seen) == len(same) + 1
