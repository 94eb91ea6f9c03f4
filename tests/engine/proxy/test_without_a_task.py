"""What the proxy answers without a task: let through by the same rules, written down once, cut in time.

All of it with real connections, for only those are answered so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from msgspec.structs import replace

from tests.fakes import START
from tests.stack import Answer, Person, Stack, open_stack, read_answer
from tport.engine.net import moments
from tport.engine.net.tls_stream import TlsStream
from tport.engine.proxy.tunnels import Tunnel, Tunnels
from tport.engine.types.lock import LockTarget
from tport.engine.types.role import PRESETS, Conditions, Role
from tport.engine.types.session import session_id

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LOOK = 0.2  # s, instead of moments.LOOK


class Slow:
    """The application `raw`: answers at once, but `/slow` only when it may."""

    def __init__(self, stack: Stack) -> None:
        self.asked = trio.Event()
        self.may = trio.Event()
        self._app = stack.raw_app
        self._app.script = self._serve

    async def _serve(self, stream: trio.SocketStream) -> None:
        while head := await self._app.take_head(stream):
            if b" /slow" in head:
                self.asked.set()
                await self.may.wait()
            await stream.send_all(OK)


class Browser:
    """One connection of a person to `raw`."""

    def __init__(self, person: Person, client: TlsStream) -> None:
        self._person = person
        self.client = client

    async def send(self, target: str, *, more: str = "", method: str = "GET") -> None:
        stack = self._person.stack
        await self.client.send_all(
            f"{method} {target} HTTP/1.1\r\nHost: {stack.host('raw')}:{stack.port}\r\n"
            f"Cookie: {self._person.cookie('raw')}\r\n{more}\r\n".encode()
        )

    async def get(self, target: str, *, more: str = "", method: str = "GET") -> Answer:
        await self.send(target, more=more, method=method)
        return await self.answer()

    async def answer(self) -> Answer:
        with trio.fail_after(10):
            return await read_answer(self.client)


@asynccontextmanager
async def opened(
    role: Role = PRESETS["access"],
) -> AsyncIterator[tuple[Stack, Person, Slow, Browser]]:
    """Yield what has everything known that is needed to go without a task."""
    async with open_stack() as stack:
        if role.name not in PRESETS:
            await stack.admin.put_role(role=role)
        alice = await stack.user("alice", roles=(role.name,))
        slow = Slow(stack)
        await alice.open("raw")
        client = await stack.connect(stack.host("raw"))
        browser = Browser(alice, client)
        try:
            assert (await browser.get("/first")).status == 200
            yield stack, alice, slow, browser
        finally:
            slow.may.set()
            await trio.aclose_forcefully(client)


async def test_each_request_is_written_down_once() -> None:
    async with opened() as (stack, _, _, browser):
        for number in range(20):
            assert (await browser.get(f"/{number}")).body == b"hello"
        logged = await stack.requests(path="/19")

    paths = [each["path"] for each in logged]
    assert sorted(map(str, paths)) == sorted(["/first", *(f"/{number}" for number in range(20))])


Change = Callable[[Stack, Person], Awaitable[object]]


async def _ended(stack: Stack, person: Person) -> None:
    await stack.api.end_app_session(id=session_id(person.apps[stack.host("raw")]))


async def _signed_out(stack: Stack, person: Person) -> None:
    await stack.api.sign_out(id=session_id(person.web))


async def _without_role(stack: Stack, person: Person) -> None:
    await stack.admin.update_user(name=person.name, roles=(), traits=None)


async def _locked(stack: Stack, person: Person) -> None:
    await stack.admin.create_lock(target=LockTarget(user=person.name), message="", ttl=0)


async def _deleted(stack: Stack, person: Person) -> None:
    await stack.admin.delete_user(name=person.name)


@pytest.mark.parametrize("change", [_ended, _signed_out, _without_role, _locked, _deleted])
async def test_who_may_no_longer_is_let_through_no_more_and_what_was_sent_is_written_down(
    change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both what comes then, and the answer to what was sent before and takes longer than a moment."""
    monkeypatch.setattr(moments, "LOOK", LOOK)
    async with opened() as (stack, alice, slow, browser):
        await trio.sleep(3 * LOOK)
        await browser.send("/slow")
        await slow.asked.wait()
        await change(stack, alice)
        refused = await browser.answer()
        slow.may.set()

        assert refused.status in {302, 401, 403}
        assert b"hello" not in refused.body
        [entry] = [each for each in await stack.requests(path="/slow") if each["path"] == "/slow"]
        assert entry["error"] == "cut"
        client = await stack.connect(stack.host("raw"))
        further = await Browser(alice, client).get("/further")
        assert further.status in {302, 401, 403}
        assert not any(b"/further" in head for head in stack.raw_app.heads)
        await trio.aclose_forcefully(client)


async def test_an_agent_whose_offer_was_closed_to_a_person_meanwhile_answers_them_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though another agent's is open to them: what was sent was sent to this one."""
    monkeypatch.setattr(moments, "LOOK", LOOK)
    tunnels: list[Tunnel] = []
    add = Tunnels.add

    def note(self: Tunnels, tunnel: Tunnel) -> None:
        tunnels.append(tunnel)
        add(self, tunnel)

    monkeypatch.setattr(Tunnels, "add", note)
    allow = Conditions(app_labels={"*": ("*",)})
    deny = Conditions(app_labels={"secret": ("yes",)})
    async with opened(Role(name="most", allow=allow, deny=deny)) as (stack, _, slow, browser):
        await browser.send("/slow")
        await slow.asked.wait()
        [asked] = tunnels
        raw = asked.servers["raw"]
        other = Tunnel(asked.mux, replace(asked.identity, name="other"), remote="", since=START)
        other.servers = {"raw": replace(raw, host_id="other")}
        monkeypatch.setattr(Tunnels, "candidates", lambda *_: [other])
        asked.servers["raw"] = replace(raw, labels={"secret": "yes"})
        for _ in range(6):  # a halt of the machine takes one of these, and looks have the others
            await trio.sleep(LOOK / 2)
        slow.may.set()
        refused = await browser.answer()

        assert refused.status == 403
        assert b"hello" not in refused.body
        await stack.event("app.access.denied", app_name="raw")


async def test_what_takes_longer_than_a_moment_is_answered_by_a_task_and_written_down_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moments, "LOOK", LOOK)
    async with opened() as (stack, _, slow, browser):
        await browser.send("/slow")
        await slow.asked.wait()
        await trio.sleep(3 * LOOK)
        slow.may.set()
        answer = await browser.answer()
        assert (answer.status, answer.body) == (200, b"hello")
        assert (await browser.get("/after")).status == 200

        logged = [each["path"] for each in await stack.requests(path="/after")]
        assert sorted(map(str, logged)) == ["/after", "/first", "/slow"]


async def test_a_client_that_goes_leaves_no_stream_behind_and_is_written_down_once() -> None:
    async with opened() as (stack, _, slow, browser):
        await browser.send("/slow")
        await slow.asked.wait()
        await trio.aclose_forcefully(browser.client)
        logged = [each for each in await stack.requests(path="/slow") if each["path"] == "/slow"]

        assert [each["error"] for each in logged] == ["cut"]


@pytest.mark.parametrize(
    ("target", "method", "more"),
    [
        ("/.tport/x", "GET", ""),
        ("/teleport-logout", "GET", ""),
        (
            "/",
            "POST",
            "Content-Length: 0\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
        ),
        ("/", "GET", "Authorization: Bearer tport_device_x\r\n"),
    ],
    ids=["reserved", "sign-out", "cross-site", "device token"],
)
async def test_what_is_not_for_the_application_never_reaches_it_on_a_connection_that_is_known(
    target: str, method: str, more: str
) -> None:
    async with opened() as (stack, _, _, browser):
        before = len(stack.raw_app.heads)
        await browser.send(target, method=method, more=more)
        await browser.answer()

        assert len(stack.raw_app.heads) == before
