"""AZ-01 to AZ-07 through a whole cluster: deny when in doubt, deny what was taken away, cut what runs."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import jwt
import pytest
import trio
from trio.testing import MockClock

from tests.certs import forge
from tests.rogue import open_rogue_proxy, request_head
from tests.security.conftest import MovableClock
from tests.stack import DOMAIN, PASSWORD, Person, Stack, open_stack, read_answer
from tport.engine.agent.join import auth_dial
from tport.engine.api.remote import open_remote_auth
from tport.engine.auth.machines.watch import Watches
from tport.engine.config.address import Address
from tport.engine.errors import AccessDenied, Locked, TportError, Unavailable
from tport.engine.process import wall_clock
from tport.engine.proto.tunnel import NoAnswer, ResponseHead
from tport.engine.proxy.passage import CLOSE_DEADLINE
from tport.engine.proxy.service import JUDGE_INTERVAL
from tport.engine.types.app import App
from tport.engine.types.identity import Identity
from tport.engine.types.lock import LockTarget
from tport.engine.types.role import Conditions, Role, RoleOptions
from tport.engine.types.session import session_id

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(
    hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
).decode()
JSON = {"Accept": "application/json"}


@pytest.fixture
async def stack(clock: MovableClock) -> AsyncIterator[Stack]:
    async with open_stack(labels={"env": "dev"}, drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


# --- Fail closed -------------------------------------------------------------------------------------


def _bug(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("a bug, put there by a test")


def _down(*_: object, **__: object) -> NoReturn:
    raise Unavailable("storage is away")


DECISION = [
    *("tport.engine.proxy.apps.check_app_access", "tport.engine.agent.apps.check_app_access"),
    *("tport.engine.proxy.sign_in.find_cookie", "tport.engine.proxy.sign_in.session_id"),
    *("tport.engine.api.cache.AuthCache.app_session", "tport.engine.api.cache.AuthCache.epoch"),
    *(
        "tport.engine.api.cache.AuthCache.live_session",
        "tport.engine.auth.calls.calls.Calls.app_session",
    ),
    *(
        "tport.engine.auth.sessions.launch.Launcher.sign_session",
        "tport.engine.auth.rights.roles.Roles.allowed",
    ),
    *("tport.engine.agent.apps.verify_session_credential", "tport.engine.auth.stores.Store.find"),
    *("tport.engine.proxy.tunnels.Tunnels.candidates", "tport.engine.access.rbac.check_app_access"),
    *("tport.engine.proxy.service.room", "tport.engine.agent.apps.AgentApps._refusal"),
]


@pytest.mark.parametrize("fault", [_bug, _down])
async def test_az_01_a_fault_in_any_step_of_the_decision_denies(
    stack: Stack, alice: Person, fault: Callable[..., NoReturn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-01: whatever breaks on the way to "yes", the application is not asked."""
    wrong: dict[str, object] = {}
    for step in DECISION:
        await alice.open("echo")  # a session that neither proxy nor agent has seen
        with monkeypatch.context() as patch:
            patch.setattr(step, fault)
            answer = await alice.get("echo", **JSON)
        if answer.status < 400 or stack.echo.seen:
            wrong[step] = (answer.status, stack.echo.seen[:])
        stack.echo.seen.clear()

    assert wrong == {}
    assert (await alice.get("echo")).status == 200


async def test_az_01_who_asks_while_auth_is_away_is_told_so_and_not_let_in(
    stack: Stack, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.open("echo")
    monkeypatch.setattr("tport.engine.auth.calls.calls.Calls.app_session", _down)

    answer = await alice.get("echo", **JSON)

    assert answer.status == 503
    assert answer.header("retry-after") != ""
    assert stack.echo.seen == []


async def test_az_01_what_was_heard_from_auth_over_a_minute_ago_allows_nothing(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-01, AZ-04: for 60 s without a word live sessions go on; then 503 here, stale there."""
    mock_clock.rate = 1.0  # real sockets; and jumps, short enough for signs of life in between
    monkeypatch.setattr("tport.engine.auth.machines.watch.CURRENT_INTERVAL", math.inf)
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        assert (await alice.get("echo", **JSON)).status == 200
        sid = session_id(alice.apps[stack.host("echo")])
        app = App(name="echo", uri=f"http://127.0.0.1:{stack.echo.port}")
        signed = await stack.api.sign_session(id=sid)
        head = request_head("echo", sid, signed.credential)
        async with open_rogue_proxy(stack) as proxy, proxy.victim([app]) as ask:
            monkeypatch.setattr(Watches, "watch", _down)
            await _pass(mock_clock, 40)
            assert (await alice.get("echo", **JSON)).status == 200
            assert isinstance(await ask(head), ResponseHead)
            stack.echo.seen.clear()
            await _pass(mock_clock, 30)

            answer = await alice.get("echo", **JSON)
            refused = await ask(head)

        assert answer.status == 503
        assert isinstance(refused, NoAnswer)
        assert refused.kind == "stale"
        assert stack.echo.seen == []


async def _pass(clock: MockClock, seconds: float) -> None:
    """Let time pass in steps of 2.5 s, so that tunnels hear from each other in between."""
    for _ in range(math.ceil(seconds / 2.5)):
        clock.jump(2.5)
        await trio.sleep(0.02)


# --- Who may what ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "label", "opens"),
    [
        *(("prod", "prod", True), ("prod", "nonprod", False), ("prod", "PROD", False)),
        *(("^dev|prod$", "devil", False), ("^dev|prod$", "nonprod", False)),
        *(("^dev|prod$", "dev", True), ("^dev|prod$", "prod", True), ("dev-*", "dev-1", True)),
        *(("dev-*", "xdev-1", False), ("d?v", "dev", False), ("^(a+)+$", "a" * 60 + "b", False)),
    ],
)
async def test_az_02_a_pattern_means_the_whole_label(pattern: str, label: str, opens: bool) -> None:
    """AZ-02: at auth, where a session is made; and no pattern stalls it."""
    async with open_stack(labels={"env": label}, drain=False) as stack:
        allow = Conditions(app_labels={"env": (pattern,)})
        await stack.admin.put_role(role=Role(name="some", allow=allow))
        bob = await stack.user("bob", roles=("some",))
        with trio.fail_after(5):
            try:
                status = (await bob.get("echo")).status
            except AccessDenied:
                status = 403

    assert (status == 200) == opens


async def test_az_02_deny_wins_over_allow_at_once(stack: Stack, alice: Person) -> None:
    """AZ-02, AZ-01: also for a session that is open already."""
    assert (await alice.get("echo")).status == 200
    deny = Conditions(app_labels={"env": ("dev",)})
    anything = Conditions(app_labels={"*": ("*",)})
    await stack.admin.put_role(role=Role(name="access", allow=anything, deny=deny))

    with trio.fail_after(5):
        while (await alice.get("echo", **JSON)).status == 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)

    assert (await alice.get("echo", **JSON)).status == 403
    assert (await alice.get("raw", **JSON)).status != 403
    await stack.event("app.access.denied", user="alice", app_name="echo")


# --- What was taken away -------------------------------------------------------------------------------


async def _role_edited(stack: Stack, alice: Person) -> None:
    await stack.admin.put_role(role=Role(name="access"))


async def _roles_changed(stack: Stack, alice: Person) -> None:
    await stack.admin.put_role(role=Role(name="nothing"))
    await stack.admin.update_user(name="alice", roles=("nothing",), traits=None)


async def _user_deleted(stack: Stack, alice: Person) -> None:
    await stack.admin.delete_user(name="alice")


async def _user_reset(stack: Stack, alice: Person) -> None:
    await stack.admin.reset_user(name="alice")


async def _signed_out(stack: Stack, alice: Person) -> None:
    await stack.api.sign_out(id=session_id(alice.web))


async def _app_left(stack: Stack, alice: Person) -> None:
    left = await stack.request(
        stack.host("raw"), "/teleport-logout", {"Cookie": alice.cookie("raw")}
    )
    assert left.status == 200


async def _locked(stack: Stack, alice: Person) -> None:
    target = LockTarget(user="Alice")
    await stack.admin.create_lock(target=target, message="ask Kim", ttl=60)


async def _role_locked(stack: Stack, alice: Person) -> None:
    await stack.admin.create_lock(target=LockTarget(role="access"), message="", ttl=0)


TAKEN: dict[str, Callable[[Stack, Person], Awaitable[None]]] = {
    "role edited": _role_edited,
    "roles changed": _roles_changed,
    "user deleted": _user_deleted,
    "user reset": _user_reset,
    "signed out": _signed_out,
    "left the app": _app_left,
    "locked": _locked,
    "role locked": _role_locked,
}


@pytest.mark.parametrize("how", TAKEN)
async def test_az_04_what_runs_ends_when_what_allowed_it_does(
    stack: Stack, alice: Person, how: str
) -> None:
    """AZ-04: within 5 s a download is cut, a WebSocket closed with 1008, a request refused."""
    await _ends_all(stack, alice, TAKEN[how])


async def test_az_04_what_runs_ends_when_the_session_s_time_is_up(
    clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-04: nobody tells of that; it is found by a look at the clock, soon enough."""
    assert JUDGE_INTERVAL + CLOSE_DEADLINE < 5
    monkeypatch.setattr("tport.engine.proxy.service.JUDGE_INTERVAL", 0.1)
    brief = RoleOptions(max_session_ttl=timedelta(minutes=1))
    allow = Conditions(app_labels={"*": ("*",)})

    async def wait(stack: Stack, alice: Person) -> None:
        """Take nothing away: time does it."""
        clock.ahead += timedelta(minutes=1)

    async with open_stack(drain=False) as stack:
        await stack.admin.put_role(role=Role(name="brief", allow=allow, options=brief))
        await _ends_all(stack, await stack.user("bob", roles=("brief",)), wait)


async def _ends_all(
    stack: Stack, alice: Person, take: Callable[[Stack, Person], Awaitable[None]]
) -> None:
    await alice.open("raw")
    stack.raw_app.script = _endless(stack)
    get = f"GET / HTTP/1.1\r\nHost: {stack.host('raw')}\r\nCookie: {alice.cookie('raw')}\r\n"
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\n"
    )
    async with (
        await stack.connect(stack.host("raw")) as download,
        await stack.connect(stack.host("raw")) as socket,
    ):
        await download.send_all(f"{get}\r\n".encode())
        await socket.send_all(f"{get}{upgrade}\r\n".encode())
        begun = b""
        while b"\r\n\r\n" not in begun:
            begun += await download.receive_some()
        opened = await read_answer(socket)
        await take(stack, alice)
        with trio.fail_after(5):
            cut = await _rest(download)
            frames = opened.body + await _rest(socket)
            answer = await alice.get("raw", **JSON)

    assert opened.status == 101
    assert not cut.endswith(b"0\r\n\r\n")  # the browser can't take it for the whole
    reason = frames[frames.rindex(b"\x88") :]
    assert struct.unpack("!H", reason[2:4]) == (1008,)
    assert answer.status in (401, 403)


def _endless(stack: Stack) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Make an application that sends without end, as a body or as frames."""

    async def script(stream: trio.SocketStream) -> None:
        head = await stack.raw_app.take_head(stream)
        if b"websocket" in head.lower():
            switch = (
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            )
            await stream.send_all(switch.encode())
            piece = b"\x81\x05hello"
        else:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            piece = b"5\r\nhello\r\n"
        while True:
            await stream.send_all(piece)
            await trio.sleep(0.01)

    return script


async def _rest(stream: trio.abc.ReceiveStream) -> bytes:
    """Read until the other side closes or cuts."""
    data = b""
    try:
        while more := await stream.receive_some(65536):
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def test_az_04_who_is_locked_is_told_so_everywhere_and_goes_on_when_it_is_lifted(
    stack: Stack, alice: Person
) -> None:
    """AZ-04: the sessions live on, and do nothing; no new one is made."""
    await alice.open("echo")
    web = {"Cookie": f"{stack.web_cookie}={alice.web}", "Accept": "text/html"}
    lock = await stack.admin.create_lock(
        target=LockTarget(user="alice"), message="ask <Kim>", ttl=0
    )
    with trio.fail_after(5):
        while (refused := await alice.get("echo", **JSON)).status == 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)
    page = await alice.get("echo", Accept="text/html")
    home = await stack.request(DOMAIN, "/web", web)
    with pytest.raises(AccessDenied, match="user name or the password is wrong"):
        await stack.api.sign_in(
            username="alice", password=PASSWORD, remote="127.0.0.1", user_agent=""
        )
    with pytest.raises(Locked):
        await stack.api.acting_for(alice.web).list_own_sessions()
    await stack.admin.delete_lock(name=lock.name)
    with trio.fail_after(5):
        while (await alice.get("echo", **JSON)).status != 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)

    assert refused.status == page.status == home.status == 403
    assert json.loads(refused.body)["error"] == "locked"
    assert b"ask &lt;Kim&gt;" in page.body
    assert b"ask &lt;Kim&gt;" in home.body
    failed = await stack.event("user.login", user="alice", success=False)
    assert failed["error"] == f"lock {lock.name} on user alice"
    await stack.event("lock.created", name=lock.name, target="user alice")


async def test_az_04_who_is_locked_may_still_sign_out(stack: Stack, alice: Person) -> None:
    """AZ-04: at a machine of others, say; and a form of another site does not do it for them."""
    cookie = {"Cookie": f"{stack.web_cookie}={alice.web}", "Accept": "text/html"}
    await stack.admin.create_lock(target=LockTarget(user="alice"), message="", ttl=0)
    home = await stack.request(DOMAIN, "/web", cookie)
    form = await stack.request(DOMAIN, "/web/logout", cookie)
    [token] = re.findall(rb'name="token" value="([^"]+)"', form.body)
    post = {
        **cookie,
        "Origin": f"https://{DOMAIN}:{stack.port}",
        "Content-Type": "application/x-www-form-urlencoded",
    }

    async def send(value: bytes) -> int:
        body = b"token=" + value
        answer = await stack.request(DOMAIN, "/web/logout", post, method="POST", body=body)
        return answer.status

    assert b'/web/logout"' in home.body
    assert await send(b"another") == 403
    assert len(await stack.admin.list_sessions(user="alice", limit=9)) == 1
    assert await send(token) == 303
    assert await stack.admin.list_sessions(user="alice", limit=9) == ()


async def test_az_04_a_namesake_inherits_nothing(stack: Stack, alice: Person) -> None:
    """AZ-04: alice is deleted and made anew; what the first one held is dead."""
    assert (await alice.get("echo")).status == 200
    await stack.admin.delete_user(name="alice")
    namesake = await stack.user("alice")

    old = await alice.get("echo", **JSON)
    old_web = await stack.request(
        DOMAIN, "/", {"Cookie": f"{stack.web_cookie}={alice.web}", "Accept": "text/html"}
    )

    assert old.status == 401
    assert old_web.status == 302
    assert "/web/login" in old_web.header("location")
    assert (await namesake.get("echo")).status == 200


async def test_az_05_nobody_gives_themselves_a_role(stack: Stack) -> None:
    """AZ-05: neither strangers nor agents call what administrators call."""
    await stack.outsider("mallory")
    agent = forge(stack.auth.cluster.keys["host"], Identity(kind="agent", name="a", cluster=DOMAIN))
    for pair in (None, agent):
        hosts = stack.auth.authorities.host
        dial = auth_dial(Address("127.0.0.1", stack.port), pair, hosts, wall_clock)
        async with open_remote_auth(dial) as auth:
            for call in (
                lambda: auth.update_user(name="mallory", roles=("access",), traits=None),
                lambda: auth.put_role(role=Role(name="nothing")),
                lambda: auth.create_user(name="eve", roles=("access",), traits={}),
                lambda: auth.reset_user(name="mallory"),
            ):
                with pytest.raises(TportError, match="may not"):
                    await call()

    [mallory] = [
        each.user for each in await stack.admin.list_users() if each.user.name == "mallory"
    ]
    assert mallory.roles == ("nothing",)


# --- The application's token -----------------------------------------------------------------------------


async def test_az_06_an_application_s_token_is_for_it_alone() -> None:
    """AZ-06, AZ-07: two applications at one URI: `app` tells their tokens apart; ES256, by kid."""
    async with open_stack(drain=False) as probe:
        uri = f"http://127.0.0.1:{probe.echo.port}"
        async with open_stack(apps=[App(name="twin", uri=uri)], drain=False) as stack:
            alice = await stack.user("alice")
            before = datetime.now(UTC)
            for app in ("echo", "twin"):
                assert (await alice.get(app)).status == 200
            tokens = [
                seen.values(b"teleport-jwt-assertion")[0].decode()
                for seen in (*stack.echo.seen, *probe.echo.seen)
            ]
            answer = await stack.request(DOMAIN, "/.well-known/jwks.json")
            session = await stack.api.app_session(id=session_id(alice.apps[stack.host("echo")]))

    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(json.loads(answer.body)).keys}
    claims: list[dict[str, Any]] = []
    header: dict[str, Any] = {}
    for token, audience in zip(tokens, (f"http://127.0.0.1:{stack.echo.port}", uri), strict=True):
        header = jwt.get_unverified_header(token)
        assert header["alg"] == "ES256"
        claims.append(
            jwt.decode(token, keys[header["kid"]], algorithms=["ES256"], audience=audience)
        )
    assert [each["app"] for each in claims] == ["echo", "twin"]
    assert claims[0]["jti"] != claims[1]["jti"]
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(tokens[0], keys[header["kid"]], algorithms=["ES256"], audience=uri)
    for each in claims:
        assert each["iss"] == each["cluster"] == DOMAIN
        assert each["sub"] == "alice"
        life = datetime.fromtimestamp(each["exp"], UTC) - before
        assert life <= timedelta(minutes=5, seconds=1)
        assert datetime.fromtimestamp(each["exp"], UTC) <= session.expires


async def test_az_07_no_key_that_signs_leaves_auth(stack: Stack, alice: Person) -> None:
    """AZ-07, AZ-12: an agent's disk and memory of the cluster hold public keys only."""
    assert (await alice.get("echo")).status == 200
    agent = stack.running.config.data_dir / "agent" / "agent.json"
    state = json.loads(agent.read_bytes())

    for key in state["authorities"]["jwks"]["keys"]:
        assert key.keys() <= {"kty", "crv", "x", "y", "n", "e", "use", "alg", "kid"}
    assert state["key"].count("PRIVATE KEY") == 2  # its own, from BEGIN to END
    assert "PRIVATE" not in json.dumps(state["authorities"])
