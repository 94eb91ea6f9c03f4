"""AuthAPI's two bodies keep one promise: each test here runs in process and over TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from tests.engine.auth.world import CLUSTER, GRAFANA, PASSWORD, World, open_world
from tests.fakes import WallClock
from tport.engine.api import wire
from tport.engine.api.answers import ProxyReport, SignedIn
from tport.engine.api.changes import Change, Current, RoleChanged
from tport.engine.api.protocol import AuthAPI
from tport.engine.api.remote import check_is_auth, open_remote_auth
from tport.engine.auth import server as server_module
from tport.engine.auth.calls.calls import Calls
from tport.engine.auth.server import AuthServer
from tport.engine.defaults import ALPN_AUTH, MAX_CALL, NEW_PER_ADDRESS
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSignedIn,
    OutOfTime,
    Unavailable,
)
from tport.engine.net.tls import connect_tls
from tport.engine.net.tls_stream import TlsStream
from tport.engine.pki.contexts import auth_client_context
from tport.engine.pki.keys import KeyPair, make_csr, make_key
from tport.engine.types.event_query import EventQuery
from tport.engine.types.identity import Identity, IdentityKind
from tport.engine.types.role import Conditions, Role


def now_clock() -> WallClock:
    """OpenSSL has a clock of its own, so here the service's must show the same time."""
    return WallClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(clock=now_clock()) as world:
        yield world


class Cable:
    """Connects to an AuthServer in memory, and remembers each end on auth's side."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.server = AuthServer(world.service, "auth-1")
        self.nursery = nursery
        self.far_ends: list[trio.abc.Stream] = []

    def pair(self, kind: IdentityKind | None, name: str) -> KeyPair | None:
        if kind is None:
            return None
        if kind == "admin":
            return self.world.service.joining.admin_identity(name)
        return self.world.service.issue_own_identity(kind, name)

    async def dial(self, pair: KeyPair | None) -> TlsStream:
        near, far = trio.testing.memory_stream_pair()
        self.far_ends.append(far)

        async def serve() -> None:
            await self.server.serve_connection(far, remote="192.0.2.7")

        self.nursery.start_soon(serve)
        context = auth_client_context(pair, self.world.service.authorities.host)
        tls = await connect_tls(near, context, server_name=None, alpn=ALPN_AUTH)
        check_is_auth(tls.peer_certificate, self.world.service.authorities.host, self.world.clock())
        return tls

    def dialler(
        self, kind: IdentityKind | None, name: str = ""
    ) -> Callable[[], Awaitable[TlsStream]]:
        pair = self.pair(kind, name or f"{kind}-1")

        async def dial() -> TlsStream:
            return await self.dial(pair)

        return dial


@asynccontextmanager
async def open_cable(world: World) -> AsyncIterator[Cable]:
    async with trio.open_nursery() as nursery:
        yield Cable(world, nursery)
        nursery.cancel_scope.cancel()


@dataclass
class Bodies:
    """The same service behind one of the two bodies."""

    world: World
    proxy: AuthAPI
    admin: AuthAPI
    agent: AuthAPI
    anyone: AuthAPI


@pytest.fixture(params=["in process", "remote"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Bodies]:
    async with open_world(clock=now_clock()) as world:
        if request.param == "in process":
            yield Bodies(world, world.proxy, world.admin, world.agent, world.anyone)
            return
        async with (
            open_cable(world) as cable,
            open_remote_auth(cable.dialler("proxy")) as proxy,
            open_remote_auth(cable.dialler("admin")) as admin,
            open_remote_auth(cable.dialler("agent")) as agent,
            open_remote_auth(cable.dialler(None)) as anyone,
        ):
            yield Bodies(world, proxy, admin, agent, anyone)


async def test_a_process_of_our_own_is_known_without_a_certificate_and_may_send_more() -> None:
    """A proxy with very many applications reports them all, too."""
    async with open_world(clock=now_clock()) as world, trio.open_nursery() as nursery:
        server = AuthServer(world.service, "auth")
        identity = Identity(kind="proxy", name="proxy-1", cluster=world.service.cluster.name)

        async def dial() -> trio.abc.Stream:
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_own, far, identity)
            return near

        async with open_remote_auth(dial, max_body=wire.MAX_ANSWER) as proxy:
            addrs = tuple(f"{n}.{'x' * 200}.test:443" for n in range(MAX_CALL // 200))
            await proxy.report(
                report=ProxyReport(proxy_id="proxy-1", public_addrs=addrs, tunnels=())
            )
            with pytest.raises(AccessDenied):
                await proxy.list_users()
            async with proxy.watch() as changes:
                await anext(changes)
        assert world.service.presence.proxies == ("proxy-1",)
        nursery.cancel_scope.cancel()


async def test_a_person_is_invited_signs_in_and_opens_an_app(api: Bodies) -> None:
    invite = await api.admin.create_user(
        name="alice", roles=("access",), traits={"env": ("dev", "prod")}
    )
    signed_in = await api.proxy.accept_invite(
        token=invite.url.rpartition("/")[2], password=PASSWORD, remote="192.0.2.1", user_agent="UA"
    )
    assert isinstance(signed_in, SignedIn)
    await api.world.serve(GRAFANA)
    host, state = "grafana.tport.example.com", "0" * 64
    code = await api.proxy.launch(web_session=signed_in.session.id, host=host, state=state, age=0)
    opened = await api.proxy.redeem(code=code.code, state=state, host=host, remote="192.0.2.1")
    assert await api.proxy.app_session(id=opened.session.id) == opened.session
    assert (await api.proxy.sign_session(id=opened.session.id)).credential
    await api.proxy.sign_out(id=signed_in.session.id)
    with pytest.raises(NotSignedIn):
        await api.proxy.app_session(id=opened.session.id)
    [info] = await api.admin.list_users()
    assert info.user.traits == {"env": ("dev", "prod")}


async def test_a_machine_joins(api: Bodies) -> None:
    token = await api.admin.create_token(
        roles=("app",), ttl=60, app_name="grafana", app_uri="http://localhost:3000", max_uses=1
    )
    joined = await api.anyone.join(
        token=token.token, csr=make_csr(make_key()), role="app", hostname="box"
    )
    assert joined.authorities == await api.agent.authorities()
    assert joined.expires - api.world.clock() == timedelta(hours=24)
    assert await api.anyone.ping() == CLUSTER


@pytest.mark.parametrize("session", ["", "0" * 64, "gone"])
async def test_who_acts_for_nobody_has_not_the_proxy_s_own_rights(
    api: Bodies, session: str
) -> None:
    with pytest.raises(NotSignedIn):
        await api.proxy.acting_for(session).list_roles()


async def test_roles_travel_whole(api: Bodies) -> None:
    role = Role(
        name="dev",
        allow=Conditions(app_labels={"env": ("dev", "^pr.*$")}),
        other={"options": {"port_forwarding": True}},
    )
    await api.admin.put_role(role=role)
    assert role in await api.admin.list_roles()
    assert role in await api.proxy.list_roles()


async def test_errors_arrive_as_themselves(api: Bodies) -> None:
    await api.admin.create_user(name="alice", roles=("access",), traits={})
    with pytest.raises(AlreadyExists) as exists:
        await api.admin.create_user(name="alice", roles=("access",), traits={})
    assert "tport users reset alice" in exists.value.hint
    with pytest.raises(NotFound):
        await api.admin.delete_user(name="bob")
    with pytest.raises(InvalidRequest):
        await api.admin.create_user(name="/", roles=("access",), traits={})
    with pytest.raises(NotSignedIn):
        await api.proxy.web_session(id="0" * 64)
    with pytest.raises(AccessDenied) as denied:
        await api.agent.list_users()
    assert type(denied.value) is AccessDenied


async def test_a_limit_says_for_how_long(api: Bodies) -> None:
    csr = make_csr(make_key())
    for _ in range(10):
        with pytest.raises(AccessDenied):
            await api.anyone.join(token="0" * 32, csr=csr, role="app", hostname="")
    with pytest.raises(LimitExceeded) as limited:
        await api.anyone.join(token="0" * 32, csr=csr, role="app", hostname="")
    assert limited.value.retry_after == 6


async def test_a_watch_tells_all_and_then_changes(api: Bodies) -> None:
    async with api.proxy.watch() as changes:
        async for change in changes:
            if isinstance(change, Current):
                break
        role = Role(name="new")
        await api.admin.put_role(role=role)
        with trio.fail_after(30):
            async for change in changes:
                if not isinstance(change, Current):
                    break
        assert change == RoleChanged(role=role)
    await api.proxy.ping()


async def test_a_watch_that_may_not_be_is_denied(api: Bodies) -> None:
    for caller in (api.admin, api.anyone):
        with pytest.raises(AccessDenied):
            async with caller.watch() as changes:
                await anext(changes)


async def test_status_and_events_can_be_read(api: Bodies) -> None:
    await api.world.alice()
    await api.world.serve(GRAFANA)
    status = await api.admin.status()
    assert (status.users, len(status.agents), len(status.app_servers)) == (1, 1, 1)
    query = EventQuery(types=("user.create",), since=api.world.clock())
    page = await api.admin.search_events(query=query, cursor="", limit=10)
    assert [event["name"] for event in page.events] == ["alice"]
    assert (await api.proxy.proxy_keys()).seal


# --- What only a connection can do --------------------------------------------------------------


async def test_one_connection_serves_call_after_call(world: World) -> None:
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("proxy")) as proxy:
        for _ in range(5):
            await proxy.ping()
        assert len(cable.far_ends) == 1


async def test_a_read_survives_a_kept_connection_that_died_and_a_write_does_not(
    world: World,
) -> None:
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("admin")) as admin:
        await admin.ping()
        await trio.aclose_forcefully(cable.far_ends[0])
        assert await admin.ping() == CLUSTER
        assert len(cable.far_ends) == 2
        await trio.aclose_forcefully(cable.far_ends[1])
        with pytest.raises(Unavailable, match="may have been done"):
            await admin.create_user(name="alice", roles=("access",), traits={})
        assert await admin.list_users() == ()


async def test_an_auth_that_can_not_be_reached_is_a_connection_problem() -> None:
    async def dial() -> trio.abc.Stream:
        raise OSError("no route")

    async with open_remote_auth(dial) as auth:
        with pytest.raises(ConnectionProblem):
            await auth.ping()
        with pytest.raises(ConnectionProblem):
            async with auth.watch():
                pass


async def test_an_auth_that_says_nothing_is_given_up_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def dial() -> trio.abc.Stream:
        near, far = trio.testing.memory_stream_pair()
        ends.append(far)
        return near

    ends: list[trio.abc.Stream] = []
    async with open_remote_auth(dial) as auth:
        with pytest.raises(Unavailable, match="within 10 s"):
            await auth.ping()
        assert trio.current_time() == pytest.approx(10)
        with pytest.raises(ConnectionProblem, match="silent"):
            async with auth.watch() as changes:
                await anext(changes)


async def test_a_watch_ends_loudly_when_auth_goes(world: World) -> None:
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("agent")) as agent:
        async with agent.watch() as changes:
            await anext(changes)
            await trio.aclose_forcefully(cable.far_ends[0])
            with pytest.raises((ConnectionProblem, Unavailable)):
                await read_on(changes)


async def test_an_expired_certificate_may_only_do_what_anyone_may(world: World) -> None:
    """TLS-02 (auth part): who calls is judged at each request, not at the handshake.

    R-13: and is told that it is the time, which may be a wrong clock's, and no refusal for good.
    """
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("proxy")) as proxy:
        await proxy.list_roles()
        world.pass_time(hours=25)
        with pytest.raises(OutOfTime, match="expired at"):
            await proxy.list_roles()
        assert await proxy.ping() == CLUSTER
        world.pass_time(days=31)
        with pytest.raises(AccessDenied):
            await proxy.ping()


async def test_a_watch_ends_with_its_certificate(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("agent")) as agent:
        async with agent.watch() as changes:
            await anext(changes)
            world.pass_time(hours=25)
            with pytest.raises(ConnectionProblem):
                await read_on(changes)


async def test_a_proxy_is_not_taken_for_auth(world: World) -> None:
    pair = world.service.issue_own_identity("proxy", "proxy-1")
    der = x509.load_pem_x509_certificate(pair.chain.encode()).public_bytes(Encoding.DER)
    for certificate in (der, None):
        with pytest.raises(AccessDenied):
            check_is_auth(certificate, world.service.authorities.host, world.clock())


async def read_on(changes: AsyncIterator[Change]) -> None:
    async for _ in changes:
        pass


async def raw(cable: Cable, request: bytes, *, kind: IdentityKind | None = None) -> bytes:
    stream = await cable.dial(cable.pair(kind, "x"))
    await stream.send_all(request)
    answer = b""
    try:
        with trio.move_on_after(30):
            while piece := await stream.receive_some():
                answer += piece
    except trio.BrokenResourceError:
        pass
    return answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/ping HTTP/1.1\r\nHost: auth\r\nConnection: close\r\n\r\n", b"404"),
        (b"POST /v2/ping HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", b"404"),
        (b"POST /v1/drop HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", b"404"),
        (b"POST /v1/__init__ HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", b"404"),
        (b"POST /v1/ping HTTP/1.1\r\nHost: auth\r\nContent-Length: 1048577\r\n\r\n", b"400"),
        (b'POST /v1/ping HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: 7\r\n\r\n{"a":1}', b"400"),
        (b"POST /v1/list_users HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", b"403"),
        (b"rubbish\r\n\r\n", b"400"),
    ],
    ids=["method", "version", "unknown", "dunder", "too large", "unknown field", "denied", "no HTTP"],
)  # fmt: skip
async def test_what_is_no_call_is_refused(world: World, request_: bytes, status: bytes) -> None:
    async with open_cable(world) as cable:
        answer = await raw(cable, request_)
    assert answer.split(b" ", 2)[1] == status


async def test_a_bug_tells_the_caller_nothing_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OPS-08 (auth part)."""

    async def broken() -> None:
        raise RuntimeError("s3cret in /home/somebody")

    monkeypatch.setattr(world.service.users, "all", broken)
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("admin")) as admin:
        with pytest.raises(Unavailable) as told:
            await admin.list_users()
    assert "s3cret" not in str(told.value)
    assert "s3cret" in caplog.text


async def test_a_listener_serves_over_real_sockets(world: World) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    pair = world.service.issue_own_identity("proxy", "proxy-1")

    async def dial() -> trio.abc.Stream:
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        context = auth_client_context(pair, world.service.authorities.host)
        return await connect_tls(tcp, context, server_name=None, alpn=ALPN_AUTH)

    async with trio.open_nursery() as nursery:
        server = AuthServer(world.service, "auth-1")
        await nursery.start(server.serve_listener, listeners[0])
        async with open_remote_auth(dial) as auth:
            assert await auth.ping() == CLUSTER
            assert len(await auth.list_roles()) == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
async def test_who_does_not_offer_our_protocol_is_left_before_a_call(
    world: World, protocols: list[str]
) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    async with open_cable(world) as cable:
        near, far = trio.testing.memory_stream_pair()
        cable.nursery.start_soon(partial(cable.server.serve_connection, far, remote="192.0.2.7"))
        tls = trio.SSLStream(near, context)
        answer = b""
        with trio.fail_after(30), suppress(trio.BrokenResourceError):
            await tls.send_all(b"POST /v1/ping HTTP/1.1\r\nHost: auth\r\n\r\n")
            answer = bytes(await tls.receive_some())

    assert answer == b""


async def test_a_call_that_does_not_say_its_size_is_refused_when_it_is_too_large(
    world: World,
) -> None:
    head = b"POST /v1/ping HTTP/1.1\r\nHost: auth\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with open_cable(world) as cable:
        tls = await cable.dial(None)
        chunk = b"%x\r\n" % (MAX_CALL + 1) + b"x" * (MAX_CALL + 1)
        cable.nursery.start_soon(_send_quietly, tls, head + chunk)
        with trio.fail_after(30):
            answer = await tls.receive_some()
        cable.nursery.cancel_scope.cancel()

    assert answer.split()[1] == b"400"


async def _send_quietly(stream: trio.abc.SendStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def test_a_call_that_takes_too_long_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def status(_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(server_module, "AUTH_CALL_DEADLINE", 0.05)
    monkeypatch.setattr(Calls, "status", status)
    async with open_cable(world) as cable, open_remote_auth(cable.dialler("admin")) as admin:
        with pytest.raises(Unavailable, match="status took longer"):
            await admin.status()


async def test_strangers_of_one_address_take_few_handshakes_a_second_until_one_is_known_there(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """DOS-01: a handshake is a millisecond of auth's time, and agents of a NAT come back all at once."""
    monkeypatch.setattr(
        server_module, "_ROOM", replace(server_module._ROOM, strangers_per_address=4)
    )
    async with open_cable(world) as cable:

        async def seconds_of(dials: int) -> float:
            began = trio.current_time()
            for _ in range(dials):
                await trio.aclose_forcefully(await cable.dial(None))
            return trio.current_time() - began

        assert await seconds_of(4) == 0
        assert await seconds_of(5) == pytest.approx(5 / NEW_PER_ADDRESS)

        async with open_remote_auth(cable.dialler("agent")) as agent:
            await agent.ping()
        assert await seconds_of(20) == 0


async def test_where_there_is_no_room_a_connection_ends_before_its_handshake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cable(world) as cable:
        monkeypatch.setattr(cable.server._seats, "take", lambda _: None)
        with pytest.raises(ConnectionProblem):
            await cable.dial(None)
