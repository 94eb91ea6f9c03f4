"""`tport selftest APP`, as a function: against a whole cluster in the test's own run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
import trio

from tests.stack import Seen, Stack, open_stack
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import NotFound, Unavailable
from tport.engine.proto.cookies import is_ours
from tport.engine.selftest.figures import Figure
from tport.engine.selftest.report import Report
from tport.engine.selftest.running import USER_PREFIX, measure_app
from tport.engine.types.app import App
from tport.engine.types.role import Role

ROUNDS = 3


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    deep = App(name="deep", uri="http://127.0.0.1:1/ui/start?tab=1")
    async with open_stack(apps=(deep,), drain=False) as stack:
        yield stack


class Spoken:
    """What was told, and what was warned of."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []


async def measure(
    stack: Stack, app: str, *, auth: AuthAPI | None = None, roles: tuple[str, ...] = ("access",)
) -> tuple[Report, Spoken]:
    spoken = Spoken()
    with trio.fail_after(30):
        found = await measure_app(
            auth or stack.admin,
            app,
            roles=roles,
            rounds=ROUNDS,
            tell=spoken.told.append,
            warn=spoken.warned.append,
        )
    return found, spoken


def figures(found: Report) -> Mapping[str, Figure]:
    return {figure.name: figure for figure in found.figures}


async def names(stack: Stack) -> list[str]:
    return [info.user.name for info in await stack.admin.list_users()]


async def test_an_application_that_works_is_measured_both_ways(stack: Stack) -> None:
    found, spoken = await measure(stack, "echo")

    assert found.ok
    assert found.failure is None
    numbers = figures(found)
    assert (numbers["status"].direct, numbers["status"].through) == (200, 200)
    for name in ("request_median", "request_p99", "first_byte"):
        assert numbers[name].direct is not None, name
        assert numbers[name].through is not None, name
        assert numbers[name].samples == ROUNDS
    assert spoken.told
    assert spoken.warned == []


async def test_nothing_but_get_of_the_front_page_reaches_it_and_it_knows_the_visitor(
    stack: Stack,
) -> None:
    await measure(stack, "echo")

    seen: list[Seen] = stack.echo.seen
    assert {(each.method, each.target) for each in seen} == {(b"GET", b"/")}
    through = [each for each in seen if each.values(b"teleport-jwt-assertion")]
    assert len(through) == 1 + 2 * ROUNDS  # once, the warm-up, and what counts
    assert not any(is_ours(c) for each in seen for c in each.values(b"cookie"))


async def test_the_visitor_is_removed_and_says_by_name_what_it_was(stack: Stack) -> None:
    await stack.user("alice")

    await measure(stack, "echo")

    assert await names(stack) == ["alice"]
    [made] = [e for e in await stack.events("user.create") if e["name"] != "alice"]
    [gone] = await stack.events("user.delete")
    assert str(made["name"]).startswith(USER_PREFIX)
    assert gone["name"] == made["name"]


async def test_the_debug_app_shows_that_its_headers_are_right(stack: Stack) -> None:
    found, _ = await measure(stack, "dumper")

    numbers = figures(found)
    assert found.ok
    assert numbers["headers"].ok
    assert numbers["status"].direct is None
    assert "inside the agent" in numbers["status"].note


async def test_an_application_that_is_down_is_told_by_hop_and_cause(stack: Stack) -> None:
    found, _ = await measure(stack, "deep")

    numbers = figures(found)
    assert not found.ok
    assert found.failure is not None
    assert (found.failure.hop, found.failure.error) == ("app", "unreachable")
    assert "connection refused" in found.failure.cause
    assert found.advice
    assert numbers["sign_in"].ok
    assert numbers["status"].ok is False
    assert numbers["request_median"].ok is None
    assert await names(stack) == []


async def test_an_application_that_answers_500_itself_is_told_from_one_that_is_not_reached(
    stack: Stack,
) -> None:
    stack.raw_app.answers(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    found, _ = await measure(stack, "raw")

    status = figures(found)["status"]
    assert (found.failure, status.ok, status.through) == (None, False, 500)
    assert "not at tport" in status.note


async def test_what_can_only_be_asked_once_directly_is_not_compared(stack: Stack) -> None:
    """Asked straight it hangs up from the second time on; through tport it works."""
    straight = []

    async def script(stream: trio.SocketStream) -> None:
        head = await stack.raw_app.take_head(stream)
        if b"teleport-jwt-assertion" not in head:
            straight.append(head)
            if len(straight) > 1:
                return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    stack.raw_app.script = script

    found, _ = await measure(stack, "raw")

    assert found.ok
    assert found.failure is None
    median = figures(found)["request_median"]
    assert (median.direct, median.samples) == (None, ROUNDS)


async def test_a_visitor_whose_role_opens_nothing_is_told_what_the_page_says(stack: Stack) -> None:
    await stack.admin.put_role(role=Role(name="nothing"))

    found, _ = await measure(stack, "echo", roles=("nothing",))

    sign_in = figures(found)["sign_in"]
    assert sign_in.ok is False
    assert "You may not open this" in sign_in.note
    assert found.failure is not None
    assert found.failure.hop == "proxy"
    assert any("--roles" in line for line in found.advice)
    assert stack.echo.seen == []
    assert await names(stack) == []


async def test_an_application_that_nobody_offers_is_not_found_and_no_user_is_made(
    stack: Stack,
) -> None:
    with pytest.raises(NotFound, match="'nope'") as missing:
        await measure(stack, "nope")

    assert "echo" in missing.value.hint
    assert not await stack.events("user.create")


async def test_a_role_that_is_none_leaves_no_user(stack: Stack) -> None:
    with pytest.raises(NotFound, match="no role is called 'x'"):
        await measure(stack, "echo", roles=("x",))

    assert await names(stack) == []


class Forgetful:
    """An administrator's AuthAPI that can't remove anybody."""

    def __init__(self, auth: AuthAPI) -> None:
        self._auth = auth

    def __getattr__(self, name: str) -> Any:
        return getattr(self._auth, name)

    async def delete_user(self, *, name: str) -> None:
        raise Unavailable("storage can't answer now")


async def test_a_user_who_can_t_be_removed_is_told_with_the_command_that_removes_them(
    stack: Stack,
) -> None:
    found, spoken = await measure(stack, "echo", auth=cast("AuthAPI", Forgetful(stack.admin)))

    [user] = await names(stack)
    assert not found.ok
    assert figures(found)["user_removed"].ok is False
    assert spoken.warned == [
        f"the user {user} could not be removed (storage can't answer now): tport users rm {user}"
    ]


async def test_whoever_stops_it_in_the_middle_finds_no_user_left(stack: Stack) -> None:
    """The application never answers; the visitor waits for it when all is cancelled."""
    asked = trio.Event()

    async def never(stream: trio.SocketStream) -> None:
        if await stack.raw_app.take_head(stream):  # nothing: its agent looks whether it is there
            asked.set()
            await trio.sleep_forever()

    stack.raw_app.script = never
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, stack, "raw")
        with trio.fail_after(10):
            await asked.wait()
        assert len(await names(stack)) == 1
        nursery.cancel_scope.cancel()

    assert await names(stack) == []
