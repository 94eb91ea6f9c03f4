"""A request gets through, and only for who may: the shortest proof that the parts fit."""

from __future__ import annotations

import pytest

from tests.stack import open_stack
from tport.engine.errors import AccessDenied
from tport.engine.types.session import session_id


async def test_a_signed_in_user_reaches_the_application() -> None:
    async with open_stack() as stack:
        alice = await stack.user("alice")

        answer = await alice.get("echo", "/path?q=1")

        assert (answer.status, answer.body) == (200, b"hello")
        [seen] = stack.echo.seen
        assert seen.target == b"/path?q=1"
        assert seen.values(b"x-forwarded-proto") == [b"https"]
        assert seen.values(b"teleport-jwt-assertion") != []


async def test_without_a_session_nothing_reaches_the_application() -> None:
    async with open_stack() as stack:
        answer = await stack.request(stack.host("echo"), "/", {"Accept": "text/html"})

        assert answer.status == 302
        assert answer.header("location").startswith("https://tport.localhost:")
        assert stack.echo.seen == []


async def test_a_role_taken_away_ends_what_it_opened_but_not_the_sign_in() -> None:
    async with open_stack() as stack:
        alice = await stack.user("alice")
        await alice.open("echo")
        await stack.admin.update_user(name="alice", roles=(), traits=None)

        answer = await alice.get("echo")

        assert answer.status == 401
        assert stack.echo.seen == []
        assert (await stack.api.web_session(id=session_id(alice.web))).user == "alice"
        with pytest.raises(AccessDenied):
            await alice.open("echo")


async def test_a_mistyped_name_gets_the_page_that_a_forbidden_one_gets_not_a_broken_certificate() -> (
    None
):
    async with open_stack() as stack:
        answer = await stack.request("ecoh.tport.localhost", "/", {"Accept": "text/html"})

        assert answer.status == 302
        assert "/web/launch?" in answer.header("location")


@pytest.mark.parametrize("drain", [True, False])
async def test_a_test_that_fails_in_a_cluster_fails(drain: bool) -> None:
    with pytest.raises(BaseException) as raised:
        async with open_stack(drain=drain):
            raise AssertionError("the test's own")

    problem: BaseException = raised.value
    while isinstance(problem, BaseExceptionGroup):
        [problem] = problem.exceptions
    assert str(problem) == "the test's own"
