"""Applications of one group: their pages may call each other, and opening one opens the others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.rogue import open_rogue_agent
from tests.stack import Answer, Person, RawApp, Stack, open_stack
from tport.engine.types.app import App, Cors

PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type, x-token",
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
async def stack(nursery: trio.Nursery) -> AsyncIterator[Stack]:
    raw = RawApp()
    raw.answers(ANSWER)
    uri = f"http://127.0.0.1:{await nursery.start(raw.run)}"
    listed = Cors(allowed_origins=("https://portal.example.com",), exposed_headers=("ETag",))
    async with open_stack(
        apps=[
            App(name="page", uri=uri, group="Shop"),
            App(name="api", uri=uri, group="Shop"),
            App(name="feed", uri=uri, group="Shop", cors=listed),
            App(name="other", uri=uri, group="Stock"),
        ],
        drain=False,
    ) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


def origin(stack: Stack, app: str) -> str:
    return stack.url(app, "")


def readers(answer: Answer) -> tuple[str, str]:
    return (
        answer.header("access-control-allow-origin"),
        answer.header("access-control-allow-credentials"),
    )


@pytest.mark.parametrize("app", ["api", "feed"])
async def test_a_page_of_the_group_may_call_with_credentials_and_read(
    stack: Stack, alice: Person, app: str
) -> None:
    page = origin(stack, "page")

    asked = await stack.request(
        stack.host(app), "/x", {"Origin": page, **PREFLIGHT}, method="OPTIONS"
    )
    answer = await alice.get(app, Origin=page)

    assert asked.status == 204
    assert asked.header("access-control-allow-methods") == "PUT"
    assert asked.header("access-control-allow-headers") == "content-type, x-token"
    assert (answer.status, answer.body) == (200, b"hi")
    assert readers(asked) == readers(answer) == (page, "true")
    assert "Origin" in answer.all("vary")


@pytest.mark.parametrize("app", ["other", "echo", "no-such-app"])
async def test_nobody_else_may(stack: Stack, alice: Person, app: str) -> None:
    elsewhere = {"Origin": origin(stack, app)}

    asked = await stack.request(stack.host("api"), "/x", elsewhere | PREFLIGHT, method="OPTIONS")
    answer = await alice.get("api", **elsewhere)

    assert asked.status == 401
    assert readers(asked) == readers(answer) == ("", "")
    assert answer.all("vary") == ["Origin"]


async def test_the_group_s_pages_learn_that_a_session_is_missing(stack: Stack) -> None:
    page = origin(stack, "page")

    answer = await stack.request(stack.host("api"), "/x", {"Origin": page})

    assert (answer.status, readers(answer)) == (401, (page, "true"))


@pytest.mark.parametrize(("app", "status"), [("page", 200), ("other", 403)])
async def test_web_10_a_websocket_may_come_from_the_group_s_pages(
    stack: Stack, alice: Person, app: str, status: int
) -> None:
    upgrade = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}

    answer = await alice.get(
        "api", Origin=origin(stack, app), Upgrade="websocket", Connection="Upgrade", **upgrade
    )

    assert answer.status == status


async def test_a_group_s_name_claimed_by_another_agent_opens_nothing(
    stack: Stack, alice: Person
) -> None:
    """Else whoever may offer any application could read all others with people's sessions."""
    rogue = App(name="rogue", uri="http://127.0.0.1:1", group="Shop")
    async with open_rogue_agent(stack) as agent, agent.tunnel(rogue) as tunnel:
        assert tunnel.verdicts.refused == {}
        await alice.open("rogue")  # it counts, hence the proxy has heard of it too
        answer = await alice.get("api", Origin=origin(stack, "rogue"))

    assert answer.status == 200
    assert readers(answer) == ("", "")
