"""Device tokens through a whole cluster: what programs reach with them, and what they don't."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import trio

from tests.security.conftest import MovableClock
from tests.security.test_proxy_access import ACCEPT, KEY
from tests.stack import DOMAIN, Answer, Person, Stack, open_stack, read_answer
from tport.engine.defaults import DEVICE_TOKEN_BURST
from tport.engine.net.tls_stream import TlsStream
from tport.engine.types.app import App, Cors
from tport.engine.types.device_token import PREFIX, NewDeviceToken
from tport.engine.types.lock import LockTarget
from tport.engine.types.role import Conditions, Role

WRONG = PREFIX + "x" * 43


@pytest.fixture
async def made(stack: Stack, alice: Person) -> NewDeviceToken:
    return await make(alice)


async def make(person: Person, app: str = "echo", *, ttl: float = 3600.0) -> NewDeviceToken:
    acting = person.stack.api.acting_for(person.web)
    return await acting.create_device_token(app=app, name=f"script {app} {ttl}", ttl=ttl)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(secret: str, user: str = "git") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


def own(secret: str) -> dict[str, str]:
    return {"Tport-Authorization": f"Bearer {secret}"}


FORMS = {"bearer": bearer, "basic": basic, "own": own}


async def ask(
    stack: Stack, headers: dict[str, str], target: str = "/x", app: str = "echo"
) -> Answer:
    return await stack.request(stack.host(app), target, headers)


def reason(answer: Answer) -> str:
    assert answer.status == 401
    told = json.loads(answer.body)
    assert told["message"]
    assert told["error"] == "not-signed-in"
    return str(told["reason"])


# --- What a token opens ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_web_04_a_token_opens_its_application_in_each_form_and_never_reaches_it(
    stack: Stack, made: NewDeviceToken, form: str
) -> None:
    """WEB-04, AZ-03: the agent gets the same signed word of who asks as for a browser."""
    answer = await ask(stack, {**FORMS[form](made.secret), "Cookie": "theirs=1"}, "/path?q=1")

    assert answer.status == 200
    [seen] = stack.echo.seen
    assert seen.target == b"/path?q=1"
    assert seen.values(b"authorization") == []
    assert seen.values(b"tport-authorization") == []
    assert seen.values(b"cookie") == [b"theirs=1"]
    assert len(seen.values(b"teleport-jwt-assertion")) == 1
    assert made.secret.encode() not in repr(seen).encode()
    assert answer.all("set-cookie") == []


async def test_the_applications_own_authorization_passes_beside_ours(
    stack: Stack, made: NewDeviceToken
) -> None:
    for theirs in ("Bearer the-app's-own", "Basic YWxpY2U6c2VjcmV0"):
        answer = await ask(stack, {**own(made.secret), "Authorization": theirs})
        assert answer.status == 200
        assert stack.echo.seen[-1].values(b"authorization") == [theirs.encode()]


async def test_the_applications_own_authorization_passes_with_a_cookie(
    stack: Stack, alice: Person
) -> None:
    answer = await alice.get("echo", Authorization="Bearer the-app's-own")

    assert answer.status == 200
    assert stack.echo.seen[-1].values(b"authorization") == [b"Bearer the-app's-own"]


async def test_any_method_and_body_goes_through(stack: Stack, made: NewDeviceToken) -> None:
    """As WebDAV needs them."""
    for method in ("POST", "PUT", "PROPFIND", "MKCOL"):
        answer = await stack.request(
            stack.host("echo"), "/dav", bearer(made.secret), method=method, body=b"<x/>"
        )
        assert (answer.status, answer.body) == (200, b"<x/>")


async def test_a_websocket_opens_with_a_token(stack: Stack, alice: Person) -> None:
    made = await make(alice, "raw")

    async with await _websocket(stack, made.secret) as socket:
        assert (await read_answer(socket)).status == 101


async def test_web_10_a_websocket_with_a_token_may_say_any_origin(
    stack: Stack, alice: Person
) -> None:
    """WEB-10: libraries make one up. What a browser could send unasked, Basic, counts for none."""
    made = await make(alice, "raw")
    foreign = "Origin: https://elsewhere.example.com\r\n"

    async with await _websocket(stack, made.secret, foreign) as socket:
        assert (await read_answer(socket)).status == 101
    remembered = f"Authorization: {basic(made.secret)['Authorization']}\r\n"
    async with await _websocket(stack, "", foreign + remembered) as socket:
        assert reason(await read_answer(socket)) == "device-token"
    async with await _websocket(stack, "", remembered) as socket:
        assert (await read_answer(socket)).status == 101


# --- What wrong ones get -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_az_12_a_wrong_token_is_told_so_and_not_whether_the_application_exists(
    stack: Stack, alice: Person, form: str
) -> None:
    """AZ-12, AZ-01: even where the browser's cookie would open it."""
    await alice.open("echo")
    answers = [
        await ask(stack, {**FORMS[form](secret), "Cookie": alice.cookie("echo")}, app=app)
        for secret in (WRONG, PREFIX, PREFIX + "!")
        for app in ("echo", "no-such-app")
    ]

    assert {reason(answer) for answer in answers} == {"device-token"}
    assert len({answer.body for answer in answers}) == 1
    for answer in answers:
        assert answer.header("www-authenticate").startswith(f'Bearer realm="{DOMAIN}"')
        assert answer.header("content-type") == "application/json"
    assert stack.echo.seen == []
    await stack.event("auth.failed", app_public_addr=stack.host("echo"))


async def test_web_07_a_token_is_for_one_application(stack: Stack, made: NewDeviceToken) -> None:
    """WEB-07, AZ-12: elsewhere it is as wrong as any other."""
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    for app in ("raw", "no-such-app"):
        answer = await ask(stack, bearer(made.secret), app=app)
        assert answer.body == (await ask(stack, bearer(WRONG), app=app)).body

    assert stack.raw_app.connections == 0
    assert (await ask(stack, bearer(made.secret))).status == 200


async def test_a_token_is_over_when_its_time_is(
    stack: Stack, alice: Person, clock: MovableClock
) -> None:
    made = await make(alice, ttl=600.0)
    assert (await ask(stack, bearer(made.secret))).status == 200

    clock.ahead += timedelta(seconds=601)

    assert reason(await ask(stack, bearer(made.secret))) == "device-token"


async def test_two_tokens_that_differ_open_nothing(
    stack: Stack, alice: Person, made: NewDeviceToken
) -> None:
    other = await make(alice, ttl=7200.0)

    answer = await ask(stack, {**bearer(made.secret), **own(other.secret)})

    assert reason(answer) == "device-token"
    assert (await ask(stack, {**bearer(made.secret), **own(made.secret)})).status == 200


async def test_auth_13_wrong_tokens_are_limited_by_address_and_right_ones_never(
    stack: Stack, alice: Person, made: NewDeviceToken
) -> None:
    """AUTH-13: and no more is written down than was let through."""
    statuses = [(await ask(stack, bearer(WRONG))).status for _ in range(DEVICE_TOKEN_BURST + 5)]
    limited = await ask(stack, bearer(WRONG))

    assert statuses[:DEVICE_TOKEN_BURST] == [401] * DEVICE_TOKEN_BURST
    assert limited.status == 429
    assert 0 < int(limited.header("retry-after")) <= 60
    assert (await ask(stack, bearer(made.secret))).status == 200
    assert (await alice.get("echo")).status == 200
    refused = [
        one for one in await stack.events("auth.failed") if "device token" in str(one["error"])
    ]
    assert len(refused) <= DEVICE_TOKEN_BURST + 1


async def test_a_program_without_a_token_is_asked_for_one_and_a_browser_is_not(
    stack: Stack,
) -> None:
    """git and WebDAV clients send Basic only where it is asked for; browsers would open a window."""
    program = await ask(stack, {"User-Agent": "git/2.39.5", "Accept": "*/*"})
    script = await ask(stack, {"User-Agent": "Mozilla/5.0 (X11)", "Accept": "*/*"})
    fetch = await ask(stack, {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})

    assert program.all("www-authenticate") == [
        f'Bearer realm="{DOMAIN}"',
        f'Basic realm="{DOMAIN}"',
    ]
    for answer in (script, fetch):
        assert answer.all("www-authenticate") == [f'Bearer realm="{DOMAIN}"']
    assert {answer.status for answer in (program, script, fetch)} == {401}


# --- Where a token is not taken ----------------------------------------------------------------------


async def test_az_11_a_token_is_no_cookie_no_session_and_no_other_secret(
    stack: Stack, alice: Person, made: NewDeviceToken
) -> None:
    """AZ-11: every kind of secret opens its own door only."""
    assert (await ask(stack, bearer(made.secret))).status == 200  # it is remembered now
    await alice.open("echo")
    app_secret = alice.apps[stack.host("echo")]

    as_cookie = await ask(stack, {"Cookie": f"{stack.app_cookie}={made.secret}"})
    as_web = await stack.request(
        DOMAIN, stack.proxy_url + "/", {"Cookie": f"{stack.web_cookie}={made.secret}"}
    )
    invite = await stack.request(DOMAIN, f"/web/invite/{made.secret}")

    assert reason(as_cookie) == "session-over"
    assert as_web.status in (302, 400, 404)
    assert invite.status == 404
    for secret in (app_secret, alice.web, PREFIX + app_secret, PREFIX + alice.web):
        assert (await ask(stack, bearer(secret))).status == 401
    assert len(stack.echo.seen) == 1


async def test_az_11_the_proxys_own_pages_take_no_token(stack: Stack, made: NewDeviceToken) -> None:
    """AZ-11: and it is no way into what is reserved on the application's host."""
    for form in FORMS.values():
        page = await stack.request(
            DOMAIN, f"/web/cluster/{DOMAIN}/apps", {**form(made.secret), "Accept": "text/html"}
        )
        assert page.status == 302
        assert "/web/login" in page.header("location")
        session = await ask(stack, form(made.secret), "/.tport/session")
        assert reason(session) == "no-session"
        await ask(stack, form(made.secret), "/teleport-logout")
        assert (await ask(stack, form(made.secret))).status == 200


async def test_web_08_a_token_in_a_url_opens_nothing(stack: Stack, made: NewDeviceToken) -> None:
    """WEB-08."""
    for target in (
        f"/?access_token={made.secret}",
        f"/?token={made.secret}",
        f"/.tport/auth?code={made.secret}&state=x",
        f"/.tport/session?token={made.secret}",
    ):
        assert (await ask(stack, {}, target)).status != 200

    assert stack.echo.seen == []


async def test_ops_03_no_token_is_written_down(
    stack: Stack, made: NewDeviceToken, caplog: pytest.LogCaptureFixture
) -> None:
    """OPS-03, WEB-08: neither on a disk of ours nor in a log, right or wrong."""
    caplog.set_level("DEBUG")
    for form in FORMS.values():
        await ask(stack, form(made.secret))
        await ask(stack, form(WRONG))
    await stack.event("device_token.use", sid=made.token.id, user="alice", app_name="echo")

    for text in (stack.files(), caplog.text):
        assert made.secret not in text
        assert WRONG not in text


# --- No page sends it --------------------------------------------------------------------------------


async def test_web_05_a_token_brings_no_authority_that_a_page_could_ride(
    stack: Stack, alice: Person, made: NewDeviceToken
) -> None:
    """WEB-05: a browser that remembers a Basic secret sends it for any page; that doesn't count."""
    await alice.open("echo")
    for more in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": f"https://evil.{DOMAIN}:{stack.port}"},
        {"Origin": "null"},
    ):
        answer = await stack.request(
            stack.host("echo"),
            "/delete",
            {**basic(made.secret), **more, "Cookie": alice.cookie("echo")},
            method="POST",
            body=b"x=1",
        )
        assert reason(answer) == "device-token"

    assert stack.echo.seen == []


async def test_web_13_a_page_of_another_origin_needs_leave_to_send_a_token(
    stack: Stack, alice: Person, made: NewDeviceToken
) -> None:
    """WEB-13: the browser asks first, and without the application's `cors` the answer is no."""
    preflight = {
        "Origin": "https://elsewhere.example.com",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }

    answer = await stack.request(stack.host("echo"), "/x", preflight, method="OPTIONS")

    assert answer.status == 401
    assert answer.header("access-control-allow-origin") == ""


async def test_web_13_what_cors_allows_may_send_a_token() -> None:
    """WEB-13: a page that knows the token, and whose origin is listed."""
    async with open_stack(drain=False) as probe:
        cors = Cors(
            allowed_origins=("https://elsewhere.example.com",), allowed_headers=("authorization",)
        )
        app = App(name="api", uri=f"http://127.0.0.1:{probe.echo.port}", cors=cors)
        async with open_stack(apps=[app], drain=False) as stack:
            made = await make(await stack.user("alice"), "api")
            origin = {"Origin": "https://elsewhere.example.com", "Sec-Fetch-Site": "cross-site"}
            asked = {
                **origin,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            }
            leave = await stack.request(stack.host("api"), "/x", asked, method="OPTIONS")
            answer = await ask(stack, {**origin, **bearer(made.secret)}, app="api")

    assert leave.status == 204
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "https://elsewhere.example.com"


# --- What is taken away ------------------------------------------------------------------------------


async def _revoked(stack: Stack, alice: Person, made: NewDeviceToken) -> None:
    await stack.api.acting_for(alice.web).revoke_device_token(id=made.token.id)


async def _deleted(stack: Stack, alice: Person, made: NewDeviceToken) -> None:
    await stack.admin.delete_device_token(id=made.token.id[:12])


async def _user_deleted(stack: Stack, alice: Person, made: NewDeviceToken) -> None:
    await stack.admin.delete_user(name="alice")


async def _user_reset(stack: Stack, alice: Person, made: NewDeviceToken) -> None:
    await stack.admin.reset_user(name="alice")


async def _role_edited(stack: Stack, alice: Person, made: NewDeviceToken) -> None:
    await stack.admin.put_role(role=Role(name="access"))


async def _user_locked(stack: Stack, alice: Person, made: NewDeviceToken) -> None:
    await stack.admin.create_lock(target=LockTarget(user="alice"), message="", ttl=0.0)


TAKEN: dict[str, Callable[[Stack, Person, NewDeviceToken], Awaitable[None]]] = {
    "revoked": _revoked,
    "revoked by an administrator": _deleted,
    "user deleted": _user_deleted,
    "user reset": _user_reset,
    "user locked": _user_locked,
    "role edited": _role_edited,
}


@pytest.mark.parametrize("how", TAKEN)
async def test_az_04_what_a_token_runs_ends_with_what_allowed_it(
    stack: Stack, alice: Person, how: str
) -> None:
    """AZ-04: within 5 s, the open WebSocket and the next request."""
    made = await make(alice, "raw")
    async with await _websocket(stack, made.secret) as socket:
        assert (await read_answer(socket)).status == 101

        await TAKEN[how](stack, alice, made)
        with trio.fail_after(5):
            frames = await _rest(socket)
            answer = await ask(stack, bearer(made.secret), app="raw")

    assert b"\x03\xf0" in frames  # closed with 1008
    assert answer.status == (403 if how in ("user locked", "role edited") else 401)


async def _rest(stream: trio.abc.ReceiveStream) -> bytes:
    """Read until the proxy closes; it may cut what it was sent and has not read."""
    data = b""
    try:
        while more := await stream.receive_some(65536):
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def test_az_04_a_change_of_roles_is_felt_and_ends_no_token(
    stack: Stack, made: NewDeviceToken
) -> None:
    """AZ-04: what is granted is so within 5 s. What just runs is cut; whoever asks again goes on."""
    anything = Conditions(app_labels={"*": ("*",)})
    await stack.admin.put_role(role=Role(name="also", allow=anything))
    statuses: list[int] = []

    async def keep_asking() -> None:
        while True:
            try:
                statuses.append((await ask(stack, bearer(made.secret))).status)
            except (trio.BrokenResourceError, EOFError):
                pass

    async def more() -> None:
        enough = len(statuses) + 5
        with trio.fail_after(20):
            while len(statuses) < enough:  # noqa: ASYNC110 - over a network
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_asking)
        nursery.start_soon(keep_asking)
        for roles in (("access", "also"), ("also",), ("access",), ("access", "also")):
            await more()
            await stack.admin.update_user(name="alice", roles=roles, traits=None)
        await more()
        nursery.cancel_scope.cancel()
    await stack.admin.update_user(name="alice", roles=("auditor",), traits=None)
    with trio.fail_after(5):
        while (await ask(stack, bearer(made.secret))).status != 403:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)
    await stack.admin.update_user(name="alice", roles=("access",), traits=None)
    with trio.fail_after(5):
        while (await ask(stack, bearer(made.secret))).status != 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)

    assert set(statuses) == {200}


async def test_az_04_a_token_goes_on_when_the_watch_is_lost_and_found(
    stack: Stack, alice: Person, made: NewDeviceToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-04: nothing remembered counts then; all is asked again, and what runs is not cut."""
    raw = await make(alice, "raw")
    assert (await ask(stack, bearer(made.secret))).status == 200
    async with await _websocket(stack, raw.secret) as socket:
        assert (await read_answer(socket)).status == 101
        for feed in [*stack.auth.watches._feeds]:
            feed.end()
        await trio.sleep(2.5)

        with trio.move_on_after(2) as waiting:
            await socket.receive_some(1)
        answer = await ask(stack, bearer(made.secret))

    assert waiting.cancelled_caught
    assert answer.status == 200


async def _websocket(stack: Stack, secret: str, more: str = "") -> TlsStream:
    """Open a WebSocket at `raw`, which then says nothing; `more`: lines of its head."""

    async def script(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        switch = (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )
        await stream.send_all(switch.encode())
        await stream.receive_some(65536)

    stack.raw_app.script = script
    socket = await stack.connect(stack.host("raw"))
    shown = f"Authorization: Bearer {secret}\r\n" if secret else ""
    head = (
        f"GET / HTTP/1.1\r\nHost: {stack.host('raw')}\r\n{shown}{more}"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    await socket.send_all(head.encode())
    return socket
