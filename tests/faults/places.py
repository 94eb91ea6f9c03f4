"""What tests of faults put together: further agents in the test's own run, and who asks through them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from tests.stack import Answer, EchoApp, Person, Stack, read_answer
from tport.engine.agent.service import AgentSettings, run_agent
from tport.engine.config.address import Address
from tport.engine.net.http1 import Exchange
from tport.engine.process import wall_clock
from tport.engine.types.app import App

PATIENCE: Final = 60.0  # s of the test's clock for what must come at last
_MACHINES: Final[dict[trio.lowlevel.Task, str]] = {}  # what each agent's first task calls its own


def machine() -> str:
    """Return the machine that the task that asks runs on, as far as it is an agent's; "": it is none's."""
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None and task not in _MACHINES:
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    return _MACHINES.get(task, "") if task is not None else ""


class Teller(EchoApp):
    """Answers with which agent asked; /sized/N with N bytes that `wanted` knows."""

    async def answer(self, exchange: Exchange) -> None:
        while await exchange.receive_body():
            pass
        request = exchange.request
        kind, _, size = request.target[1:].partition(b"/")
        if kind == b"sized":
            await exchange.respond(200, [], wanted(int(size)))
            return
        names = [value for name, value in request.headers if name == b"x-forwarded-server"]
        await exchange.respond(200, [], names[0] if names else b"")


def wanted(size: int) -> bytes:
    """Bytes in which no piece could stand for another."""
    return b"".join(n.to_bytes(4, "big") for n in range(size // 4 + 1))[:size]


@asynccontextmanager
async def open_teller() -> AsyncIterator[Teller]:
    teller = Teller()
    async with trio.open_nursery() as nursery:
        await nursery.start(teller.run)
        yield teller
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_agent(
    stack: Stack, name: str, apps: Sequence[App], *, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[trio.Event]:
    """Run a further agent, on a machine that calls itself `name`; set what is yielded to stop it.

    Args:
        port: where it finds the proxy; 0: at its own port.
    """
    made = await stack.admin.create_token(
        roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
    )

    async def token() -> str:
        return made.token

    stop = trio.Event()
    with tempfile.TemporaryDirectory(prefix="tport-") as folder:
        settings = AgentSettings(
            folder=Path(folder),
            proxy=Address(host, port or stack.port),
            hostname=name,
            apps=apps,
            debug_app=False,
            token=token,
        )

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            task = trio.lowlevel.current_task()
            _MACHINES[task] = name
            try:
                await run_agent(settings, wall_clock, stop, task_status=task_status)
            finally:
                del _MACHINES[task]

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield stop
            nursery.cancel_scope.cancel()


async def ask(
    person: Person,
    app: str,
    target: str = "/",
    *,
    method: str = "GET",
    body: bytes = b"",
    patience: float = PATIENCE,
) -> Answer:
    """Ask on a connection of its own, with the session that the person has."""
    stack, host = person.stack, person.stack.host(app)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {host}:{stack.port}\r\n"
        f"Cookie: {person.cookie(app)}\r\nAccept: application/json\r\n{length}\r\n"
    )
    with trio.fail_after(patience):
        tls = await stack.connect(host)
        try:
            await tls.send_all(head.encode() + body)
            return await read_answer(tls, method=method)
        finally:
            await trio.aclose_forcefully(tls)


async def prefers(person: Person, app: str, agent: str) -> None:
    """Open the application until the session is one whose requests go to that agent."""
    for _ in range(100):
        await person.open(app)
        if (await ask(person, app)).body == agent.encode():
            return
    raise AssertionError(f"no session of a hundred goes to {agent}")


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float) -> float:
    """Wait until it holds; return how long that took, in seconds of the test's clock."""
    began = trio.current_time()
    while not await holds():
        if trio.current_time() - began > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await trio.sleep(0.05)
    return trio.current_time() - began


async def offering(stack: Stack, app: str) -> set[str]:
    """Return the machines whose agents offer it now, as far as auth knows."""
    servers = await stack.admin.list_app_servers()
    return {each.hostname for each in servers if each.app.name == app and not each.refused}
