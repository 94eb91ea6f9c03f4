"""A whole cluster whose proxy is two real processes: what one of them does, the other knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import trio
import trio.lowlevel
from msgspec.structs import replace

from tests.figures import BUSY
from tests.owner import Owner
from tests.stack import Person, Stack, open_stack
from tport.engine.types.app import App

TIMES = 12  # requests at a time, on a connection each: both workers have some of them
PATIENCE = 5.0 * BUSY  # s within which a change counts everywhere


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(workers=2, trusted_proxies=["127.0.0.0/8"]) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


async def statuses(alice: Person, app: str) -> set[int]:
    found: set[int] = set()

    async def get() -> None:
        found.add((await alice.get(app)).status)

    if alice.stack.host(app) not in alice.apps:
        await alice.open(app)
    async with trio.open_nursery() as nursery:
        for _ in range(TIMES):
            nursery.start_soon(get)
    return found


async def test_a_session_is_good_at_every_worker_and_a_role_taken_away_counts_at_each(
    stack: Stack, alice: Person
) -> None:
    assert await statuses(alice, "echo") == {200}
    served: set[object] = set()
    with trio.fail_after(PATIENCE):
        while len(served) < 2:
            await trio.sleep(0.05)
            served |= {each["server_id"] for each in await stack.requests(user="alice")}

    await stack.admin.update_user(name="alice", roles=(), traits=None)
    with trio.fail_after(PATIENCE):
        while await statuses(alice, "echo") & {200}:  # noqa: ASYNC110 - real processes, real time
            await trio.sleep(0.05)


async def is_listed(stack: Stack, app: str) -> bool:
    return app in {each.app.name for each in (await stack.admin.status()).app_servers}


async def test_an_application_that_was_just_added_is_offered_by_every_worker(
    stack: Stack, alice: Person
) -> None:
    """Its agent tells them one after the other: who comes in between waits."""
    service = stack.running.config.app_service
    fresh = App(name="fresh", uri=f"http://127.0.0.1:{stack.echo.port}")
    stack.reload(replace(service, apps=(*service.apps, fresh)))
    with trio.fail_after(PATIENCE):
        while not await is_listed(stack, "fresh"):  # noqa: ASYNC110 - it is, in real time
            await trio.sleep(0.001)
    assert await statuses(alice, "fresh") == {200}


async def test_many_who_sign_in_at_once_hold_up_no_application(stack: Stack) -> None:
    """Hashing has a queue with an end; a worker's other calls of auth don't stand in it."""
    people = [await stack.user(f"bob{number}") for number in range(10)]
    answers: list[int] = []

    async def guess(number: int) -> None:
        stranger = Owner(stack, lambda: datetime.now(UTC))
        stranger.remote = f"198.51.100.{number}"  # each may try as often as anybody
        answers.append((await stranger.give_password(f"wrong {number}")).status)

    slowest = 0.0
    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(guess, number)
        for person in people:  # whose sessions no worker has seen yet
            began = trio.current_time()
            assert (await person.get("echo")).status == 200
            slowest = max(slowest, trio.current_time() - began)

    assert set(answers) <= {403, 429, 503}
    assert slowest < PATIENCE
