"""HTTP-18: nothing that a stranger can say, and no other's secret, brings a request to an agent."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.rogue import Tunnel, open_rogue_agent
from tests.stack import Person, Stack, open_stack
from tport.engine.defaults import STRANGER_REQUESTS
from tport.engine.types.app import App
from tport.engine.types.device_token import PREFIX
from tport.engine.types.session import session_id

AT_ONCE = 4  # connections
IN_A_ROW = STRANGER_REQUESTS  # on each; all but the last are well-formed, so that all are answered

METHODS = ["GET"] * 8 + ["POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "PROPFIND", "QUERY"]
PATHS = [
    *("/", "/admin", "/index.html", "/a?b=c", "/?code=x&state=y", "//", "/%2e%2e/", "/..;/admin"),
    *("/healthz", "/webapi/ping", "/webapi/cas", "/favicon.ico", "/robots.txt", "/static/x.css"),
    *("/.tport", "/.tport/", "/.tport/auth", "/.tport/auth?code=x&state=y", "/.tport/../admin"),
    *("/.tport/open?chain=x", "/.tport/session", "/.TPORT/auth", "/.tport%2fauth", "/.tport/x"),
    *("/x-teleport-auth", "/x-teleport-auth/../admin", "/teleport-logout", "/.tport/logout"),
    *(
        "/.well-known/acme-challenge/x",
        "/.well-known/jwks.json",
        "/web/launch?state=x",
        "/web/apps",
    ),
]
HEADERS = [
    *("User-Agent: ELB-HealthChecker/2.0", "User-Agent: kube-probe/1.29", "User-Agent: git/2.43"),
    *("User-Agent: Mozilla/5.0", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: cross-site"),
    *("Sec-Fetch-Dest: iframe", "Sec-Fetch-Dest: document", "Accept: text/html", "Accept: */*"),
    *("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: evil.test", "X-Forwarded-Uri: /public"),
    *("X-Forwarded-User: alice", "X-Original-Url: /healthz", "X-Rewrite-Url: /healthz"),
    *("Forwarded: for=127.0.0.1", "X-Real-Ip: 127.0.0.1", "X-Client-Cert-Dn: CN=alice"),
    *("Teleport-Jwt-Assertion: eyJhbGciOiJub25lIn0.e30.", "Cf-Access-Token: x", "Proxy: x"),
    *("Authorization: Bearer x", "Authorization: Basic YWxpY2U6eA==", "Authorization: Negotiate x"),
    *("X-Api-Key: x", "X-Teleport-User: alice", "Tport-User: alice", "Via: 1.1 x", "X_User: alice"),
    *("Origin: https://evil.test", "Origin: null", "Access-Control-Request-Method: GET"),
    *("Connection: Upgrade\r\nUpgrade: h2c", "Connection: X-A", "Cache-Control: no-cache"),
]
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


class Strangers:
    """Makes requests for one application's host, of which none has a session that counts there."""

    def __init__(self, stack: Stack, alice: Person, late: Person, seed: int) -> None:
        """
        Args:
            alice: has a session for another application, and none for this one.
            late: had one for this, and is no user any more.
        """
        self._random = random.Random(seed)
        self._host = stack.host("vault")
        self._port = stack.port
        [other] = alice.apps.values()
        [over] = late.apps.values()
        app, web = stack.app_cookie, stack.web_cookie
        self._cookies = [
            *(f"{app}={other}", f"{web}={alice.web}", f"{app}={alice.web}", f"{app}={over}"),
            *(f"{app}={session_id(other)}", f"{app}={other}; {app}={over}", f'{app}="{other}"'),
            *(f"{app}={other[:-1]}", f"{app.lower()}={other}", f"{app}={other.swapcase()}", app),
            *(f"{app}=", f"{app}=x", f"{app}={'A' * 43}", f"{web}={other}", "session=admin", "a=b"),
        ]
        secrets = (other, alice.web, over, f"{PREFIX}{'A' * 43}", f"{PREFIX}{other}")
        self._credentials = [f"Authorization: Bearer {secret}" for secret in secrets]

    def request(self, *, mangled: bool = False) -> bytes:
        """Make one. `mangled`: a few of its bytes are others, or gone, or twice."""
        draw = self._random
        host = draw.choice([self._host, self._host.upper(), f"{self._host}.", f"{self._host}:1"])
        fields = [f"Host: {host}", *draw.sample(HEADERS, draw.randrange(4))]
        if draw.random() < 0.7:
            fields.append(f"Cookie: {draw.choice(self._cookies)}")
        if draw.random() < 0.2:
            fields.append(f"Cookie: {draw.choice(self._cookies)}")
        if draw.random() < 0.2 and not any("Authorization" in field for field in fields):
            fields.append(draw.choice(self._credentials))
        method, body = draw.choice(METHODS), b""
        if method in ("POST", "PUT", "PATCH"):
            body = draw.choice([b"", b"a=b", b"x" * 3000])
            fields.append(f"Content-Length: {len(body)}")
        elif mangled and method == "GET" and draw.random() < 0.5:
            fields.append(HANDSHAKE)
        draw.shuffle(fields)
        lines = [f"{method} {draw.choice(PATHS)} HTTP/1.1", *fields, "", ""]
        raw = "\r\n".join(lines).encode("latin-1") + body
        return self._mangle(raw) if mangled else raw

    def _mangle(self, raw: bytes) -> bytes:
        draw, data = self._random, bytearray(raw)
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(data))
            match draw.randrange(3):
                case 0:
                    data[at] = draw.randrange(256)
                case 1:
                    del data[at : at + draw.randrange(1, 9)]
                case _:
                    data[at:at] = data[at : at + draw.randrange(1, 40)]
        return bytes(data)

    async def ask(self, stack: Stack) -> Counter[int]:
        """Send IN_A_ROW requests on one connection; count the answers by status."""
        sent = [self.request() for _ in range(IN_A_ROW - 1)] + [self.request(mangled=True)]
        said = b""
        stream = await stack.connect(self._host)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, b"".join(sent))
                while len(answers(said)) < IN_A_ROW:
                    # Half a request at the end is none: nothing more is said then.
                    is_due = len(answers(said)) < IN_A_ROW - 1
                    with trio.move_on_after(20 if is_due else 0.1) as quiet:
                        more = await stream.receive_some(65536)
                        assert more or not is_due, "closed after a well-formed request"
                        said += more
                    if quiet.cancelled_caught or not more:
                        break
        finally:
            await trio.aclose_forcefully(stream)
        assert len(answers(said)) >= IN_A_ROW - 1, "no answer to a well-formed request"
        return Counter(answers(said))


def answers(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-9]\d\d) ", said)]


class Agent:
    """An agent that counts what it is asked, and answers nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, tunnel: Tunnel) -> None:
        while True:
            await tunnel.mux.accept()
            self.asked += 1


@asynccontextmanager
async def counting(stack: Stack) -> AsyncIterator[Agent]:
    vault = App(name="vault", uri="http://127.0.0.1:1")
    async with (
        open_rogue_agent(stack) as rogue,
        rogue.tunnel(vault) as tunnel,
        trio.open_nursery() as nursery,
    ):
        assert tunnel.verdicts.refused == {}
        agent = Agent()
        nursery.start_soon(agent.run, tunnel)
        yield agent
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "count",
    [
        3_000,
        pytest.param(100_000, marks=[pytest.mark.torture, pytest.mark.timeout(1800)]),
    ],
)
async def test_http_18_no_request_without_a_session_reaches_an_agent(count: int) -> None:
    """HTTP-18: by the thousand, with others' secrets, and whatever exempts elsewhere."""
    seed = random.randrange(2**32)
    told: Counter[int] = Counter()
    async with open_stack(drain=False) as stack, counting(stack) as agent:
        alice, late = await stack.user("alice"), await stack.user("late")
        await alice.open("echo")
        await late.open("vault")
        await stack.admin.delete_user(name="late")

        async def some(strangers: Strangers) -> None:
            while told.total() < count:
                told.update(await strangers.ask(stack))

        async with trio.open_nursery() as nursery:
            for n in range(AT_ONCE):
                nursery.start_soon(some, Strangers(stack, alice, late, seed + n))
        assert agent.asked == 0, f"seed {seed}"
        assert stack.echo.seen == []

        await alice.open("vault")  # and with a session it does
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.get, "vault")  # which nobody answers
            with trio.fail_after(20):
                while not agent.asked:  # noqa: ASYNC110 - what it waits for comes by a network
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert agent.asked == 1
    assert told.total() >= count
    assert told.keys() >= {302, 400, 401, 404}, "they were not as various as they should be"
