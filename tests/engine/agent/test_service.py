"""The agent put together: it joins, comes back, renews, waits for its proxy, and leaves in peace."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import trio

from tests.figures import BUSY
from tests.stack import Person, Stack, open_stack
from tport.engine.agent import service as service_module
from tport.engine.agent.join import renew_identity
from tport.engine.agent.service import AgentSettings, hostname_of, run_agent
from tport.engine.agent.state import AgentState, load_state, save_state
from tport.engine.config.address import Address
from tport.engine.errors import AccessDenied, ConfigError, ConnectionProblem, InvalidRequest
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.pki.keys import make_key
from tport.engine.types.app import App


def real_clock() -> datetime:
    return datetime.now(UTC)


class SlowApp:
    """An application that answers `/slow` when it is told to, and the rest at once."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.go_on = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])

        async def serve(stream: trio.SocketStream) -> None:
            await serve_http1(stream, self.answer)

        await trio.serve_listeners(serve, [listener])

    async def answer(self, exchange: Exchange) -> None:
        if exchange.request.target == b"/slow":
            self.begun.set()
            await self.go_on.wait()
        await exchange.respond(200, [], b"answer")


def settings(
    stack: Stack, folder: Path, *, token: str = "", port: int | None = None
) -> AgentSettings:
    async def read() -> str:
        await trio.lowlevel.checkpoint()
        return token

    return AgentSettings(
        folder=folder,
        proxy=Address("127.0.0.1", stack.port),
        hostname="box",
        apps=[App(name="second", uri=f"http://127.0.0.1:{port or stack.echo.port}")],
        debug_app=False,
        token=read if token else None,
    )


async def new_token(stack: Stack) -> str:
    made = await stack.admin.create_token(
        roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
    )
    return made.token


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(10):
        while not await condition():  # noqa: ASYNC110 - what another process would ask
            await trio.sleep(0.02)


async def serves(person: Person, app: str) -> bool:
    """Tell whether auth lists the application, and a request gets through."""
    servers = await person.stack.admin.list_app_servers()
    if app not in {server.app.name for server in servers}:
        return False
    return (await person.get(app)).status == 200


async def test_an_agent_joins_once_and_comes_back_as_itself(tmp_path: Path) -> None:
    async with open_stack() as stack, trio.open_nursery() as nursery:
        alice = await stack.user("alice")
        stop = trio.Event()
        joining = settings(stack, tmp_path, token=await new_token(stack))
        await nursery.start(run_agent, joining, real_clock, stop)
        await until(lambda: serves(alice, "second"))
        before = load_state(tmp_path)
        assert before is not None
        assert before.proxy == f"127.0.0.1:{stack.port}"
        stop.set()

        again = trio.Event()
        nursery_again = replace(joining, token=None)
        await nursery.start(run_agent, nursery_again, real_clock, again)
        await until(lambda: serves(alice, "second"))
        assert load_state(tmp_path) == before
        again.set()


async def test_without_an_identity_or_a_token_it_says_how_to_get_one(tmp_path: Path) -> None:
    async with open_stack() as stack:
        with pytest.raises(ConfigError) as told:
            await run_agent(settings(stack, tmp_path), real_clock, trio.Event())
        assert "tokens add" in told.value.hint


@pytest.mark.parametrize("token", ["nonsense", "0" * 64])
async def test_a_token_that_is_none_is_refused_and_leaves_nothing(
    tmp_path: Path, token: str
) -> None:
    async with open_stack() as stack:
        pin = (await new_token(stack)).partition(".")[2]
        wrong = settings(stack, tmp_path, token=f"{token}.{pin}")
        with pytest.raises((AccessDenied, InvalidRequest)):
            await run_agent(wrong, real_clock, trio.Event())
        assert load_state(tmp_path) is None


async def test_a_proxy_that_the_pin_does_not_vouch_for_gets_no_token(tmp_path: Path) -> None:
    """AG-16: another cluster's proxy at the address; the secret is never sent there."""
    async with open_stack() as stack:
        secret = (await new_token(stack)).partition(".")[0]
        other = settings(stack, tmp_path, token=f"{secret}.{'0' * 64}")
        with pytest.raises(AccessDenied):
            await run_agent(other, real_clock, trio.Event())

        # and the secret is as good as new
        good = replace(other, pins=[])
        assert good.token is not None
        assert load_state(tmp_path) is None


async def test_without_a_pin_an_unknown_authority_vouches_for_nothing(tmp_path: Path) -> None:
    async with open_stack() as stack:
        secret = (await new_token(stack)).partition(".")[0]
        unpinned = settings(stack, tmp_path, token=secret)
        with pytest.raises(ConnectionProblem) as told:
            await run_agent(unpinned, real_clock, trio.Event())
        assert "pin" in told.value.hint


async def test_insecure_believes_anybody_and_says_so_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stack() as stack, trio.open_nursery() as nursery:
        secret = (await new_token(stack)).partition(".")[0]
        insecure = replace(settings(stack, tmp_path, token=secret), insecure=True)
        stop = trio.Event()
        await nursery.start(run_agent, insecure, real_clock, stop)
        stop.set()
    assert any("INSECURE" in r.message for r in caplog.records if r.levelno >= logging.WARNING)


async def test_a_renewed_certificate_replaces_the_tunnel_under_a_running_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "TICK", 0.05)
    caplog.set_level(logging.INFO)
    async with open_stack() as stack, trio.open_nursery() as nursery:
        alice, app = await stack.user("alice"), SlowApp()
        port = await nursery.start(app.run)
        joining = settings(stack, tmp_path, token=await new_token(stack), port=port)
        first = trio.Event()
        await nursery.start(run_agent, joining, real_clock, first)
        first.set()
        joined = load_state(tmp_path)
        assert joined is not None
        due = real_clock() + timedelta(days=1)
        save_state(tmp_path, msgspec.structs.replace(joined, renew_at=due))

        await nursery.start(run_agent, joining, real_clock, trio.Event())
        await until(lambda: serves(alice, "second"))
        got: list[int] = []

        async def ask() -> None:
            got.append((await alice.get("second", "/slow")).status)

        nursery.start_soon(ask)
        with trio.fail_after(5 * BUSY):
            await app.begun.wait()
        caplog.clear()
        due_from_now_on(monkeypatch, due)

        async def replaced() -> bool:
            return any("tunnel to the proxy is up" in r.message for r in caplog.records)

        await until(replaced)
        renewed = load_state(tmp_path)
        assert renewed is not None
        assert renewed.certificate != joined.certificate
        assert await serves(alice, "second")
        assert got == []
        app.go_on.set()

        async def answered() -> bool:
            return got == [200]

        await until(answered)
        nursery.cancel_scope.cancel()


def due_from_now_on(monkeypatch: pytest.MonkeyPatch, renew_at: datetime) -> None:
    """Have a certificate be due that is to be renewed at this very time; one that stops has another."""
    monkeypatch.setattr(AgentState, "is_due", lambda state, _: state.renew_at == renew_at)


async def test_a_crash_before_the_next_certificate_was_kept_is_no_copy(tmp_path: Path) -> None:
    """AG-15: the key was written down before anybody heard of it, so the same is asked again."""
    async with open_stack() as stack, trio.open_nursery() as nursery:
        alice, stop = await stack.user("alice"), trio.Event()
        joining = settings(stack, tmp_path, token=await new_token(stack))
        await nursery.start(run_agent, joining, real_clock, stop)
        stop.set()
        joined = load_state(tmp_path)
        assert joined is not None
        asked = msgspec.structs.replace(joined, renew_at=real_clock(), next_key=make_key())
        save_state(tmp_path, asked)
        await renew_identity(asked, Address("127.0.0.1", stack.port), real_clock)

        await nursery.start(run_agent, replace(joining, token=None), real_clock, trio.Event())

        await until(lambda: serves(alice, "second"))
        renewed = load_state(tmp_path)
        assert renewed is not None
        assert (renewed.key, renewed.next_key) == (asked.next_key, "")
        nursery.cancel_scope.cancel()


async def test_on_a_full_disk_the_certificate_is_renewed_for_the_key_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart finds a key that may renew still."""

    def full(folder: Path, state: AgentState) -> None:
        raise ConfigError("can't be written: No space left on device", where=folder)

    monkeypatch.setattr(service_module, "TICK", 0.05)
    async with open_stack() as stack, trio.open_nursery() as nursery:
        alice, stop = await stack.user("alice"), trio.Event()
        joining = settings(stack, tmp_path, token=await new_token(stack))
        await nursery.start(run_agent, joining, real_clock, stop)
        stop.set()
        joined = load_state(tmp_path)
        assert joined is not None
        due = msgspec.structs.replace(joined, renew_at=real_clock())
        save_state(tmp_path, due)
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(service_module, "save_state", full)
        monkeypatch.setattr(AgentState, "is_due", lambda *_: False)  # but once it serves
        first = trio.Event()
        await nursery.start(run_agent, joining, real_clock, first)
        due_from_now_on(monkeypatch, due.renew_at)

        async def renewed() -> bool:
            return any("certificate renewed" in r.message for r in caplog.records)

        await until(renewed)
        first.set()
        monkeypatch.undo()
        assert load_state(tmp_path) == due

        await nursery.start(run_agent, replace(joining, token=None), real_clock, trio.Event())

        await until(lambda: serves(alice, "second"))
        assert (await stack.admin.status()).copied == ()
        nursery.cancel_scope.cancel()


async def test_a_renewal_that_fails_is_tried_again_soon_and_then_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock was put right is back within seconds; an auth that is away is not asked by all."""
    monkeypatch.setattr(service_module, "TICK", 0.1)
    tried: list[float] = []

    async def renew(state: AgentState, proxy: Address, clock: Callable[[], datetime]) -> AgentState:
        tried.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise ConnectionProblem("away, says a test")

    async with open_stack() as stack, trio.open_nursery() as nursery:
        joining = settings(stack, tmp_path, token=await new_token(stack))
        stop = trio.Event()
        await nursery.start(run_agent, joining, real_clock, stop)
        stop.set()
        joined = load_state(tmp_path)
        assert joined is not None
        due = real_clock()
        save_state(tmp_path, msgspec.structs.replace(joined, renew_at=due))
        monkeypatch.setattr(service_module, "renew_identity", renew)
        monkeypatch.setattr(AgentState, "is_due", lambda *_: False)  # but once it serves
        await nursery.start(run_agent, joining, real_clock, trio.Event())
        due_from_now_on(monkeypatch, due)

        async def many() -> bool:
            return len(tried) >= 4

        await until(many)
        nursery.cancel_scope.cancel()
    waits = [later - sooner for sooner, later in pairwise(tried)]
    assert waits[0] >= 0.1
    assert waits[1] >= 0.2
    assert waits[2] >= 0.4


async def test_a_stop_lets_requests_finish(tmp_path: Path) -> None:
    async with open_stack() as stack, trio.open_nursery() as nursery:
        alice, app = await stack.user("alice"), SlowApp()
        port = await nursery.start(app.run)
        stop, ended = trio.Event(), trio.Event()
        joining = settings(stack, tmp_path, token=await new_token(stack), port=port)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await run_agent(joining, real_clock, stop, task_status=task_status)
            ended.set()

        await nursery.start(run)
        await until(lambda: serves(alice, "second"))
        got: list[int] = []

        async def ask() -> None:
            got.append((await alice.get("second", "/slow")).status)

        nursery.start_soon(ask)
        with trio.fail_after(5 * BUSY):
            await app.begun.wait()
        stop.set()
        await trio.sleep(0.2)
        assert not ended.is_set()
        app.go_on.set()
        with trio.fail_after(5 * BUSY):
            await ended.wait()

        assert got == [200]
        nursery.cancel_scope.cancel()


async def test_a_stop_of_an_idle_agent_takes_no_time(tmp_path: Path) -> None:
    async with open_stack() as stack:
        joining = settings(stack, tmp_path, token=await new_token(stack))
        stop = trio.Event()
        with trio.fail_after(3 * BUSY):
            async with trio.open_nursery() as nursery:
                await nursery.start(run_agent, joining, real_clock, stop)
                stop.set()


async def test_an_agent_with_nothing_to_offer_spends_no_token(tmp_path: Path) -> None:
    async def read() -> str:
        pytest.fail("the token was read")

    empty = AgentSettings(
        folder=tmp_path,
        proxy=Address("proxy.test", 3080),
        hostname="box",
        apps=[],
        debug_app=False,
        token=read,
    )
    with pytest.raises(ConfigError, match="no application to offer"):
        await run_agent(empty, real_clock, trio.Event())


async def test_an_agent_that_knows_no_proxy_says_how_to_name_one(tmp_path: Path) -> None:
    lost = AgentSettings(
        folder=tmp_path, proxy=None, hostname="box", apps=[], debug_app=True, token=None
    )
    with pytest.raises(ConfigError, match="no proxy to dial") as told:
        await run_agent(lost, real_clock, trio.Event())

    assert "--auth-server=HOST:PORT --app-name=NAME" in told.value.hint


async def test_a_token_for_one_application_offers_no_other_and_says_which_it_would_offer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """AG-03. With some of them allowed the cluster refuses the rest, one by one."""

    def app(name: str) -> App:
        return App(name=name, uri="http://127.0.0.1:1")

    async with open_stack() as stack, trio.open_nursery() as nursery:
        made = await stack.admin.create_token(
            roles=("app",), ttl=600, app_name="second", app_uri="", max_uses=1
        )
        both = replace(settings(stack, tmp_path, token=made.token), apps=[app("second"), app("no")])
        stop = trio.Event()
        await nursery.start(run_agent, both, real_clock, stop)
        with trio.fail_after(5 * BUSY):
            while "application no was refused by the cluster" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await trio.sleep(0.02)
        stop.set()

        other = replace(both, apps=[app("no")], token=None)
        with pytest.raises(AccessDenied, match="lets it offer only second"):
            await run_agent(other, real_clock, trio.Event())

        anew = replace(settings(stack, tmp_path, token=await new_token(stack)), apps=[app("no")])
        again = trio.Event()
        await nursery.start(run_agent, anew, real_clock, again)
        assert "it joins anew" in caplog.text
        again.set()


def test_the_machines_name_fits_into_a_header() -> None:
    assert hostname_of("box") == "box"
    assert hostname_of("bücher") == "agent"
    assert hostname_of("a\nb") == "agent"
    assert hostname_of("") != ""
