"""Live sessions as they are listed, and ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.engine.auth.world import GRAFANA, World
from tport.engine.auth.sessions import session_list
from tport.engine.errors import InvalidRequest, NotFound, NotSignedIn
from tport.engine.types.session import SessionInfo


async def listed(world: World, user: str = "") -> list[tuple[str, str, str]]:
    found = await world.admin.list_sessions(user=user, limit=100)
    return sorted((each.kind, each.user, each.app) for each in found)


async def test_what_is_live_is_listed_with_where_it_came_from_and_no_secret(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    world.pass_time(seconds=1)
    opened = await world.open(alice)

    app, web = await world.admin.list_sessions(user="", limit=10)

    assert web == SessionInfo(
        id=alice.session.id,
        kind="web",
        user="alice",
        remote="192.0.2.1",
        user_agent="UA",
        created=alice.session.created,
        expires=alice.session.expires,
    )
    assert (app.id, app.kind, app.app) == (opened.session.id, "app", "grafana")
    assert (app.host, app.web_session, app.user_agent) == (opened.session.host, web.id, "UA")
    assert alice.secret not in repr((app, web))
    assert opened.secret not in repr((app, web))


async def reset(world: World) -> None:
    await world.admin.reset_user(name="alice")


async def delete(world: World) -> None:
    await world.admin.delete_user(name="alice")


async def wait(world: World) -> None:
    world.pass_time(hours=13)


@pytest.mark.parametrize("end", [reset, delete, wait], ids=lambda f: f.__name__)
async def test_what_is_over_is_not_listed(
    world: World, end: Callable[[World], Awaitable[None]]
) -> None:
    await world.serve(GRAFANA)
    await world.open(await world.alice())
    assert len(await listed(world)) == 2

    await end(world)

    assert await listed(world) == []


async def test_a_session_of_an_app_that_a_change_voided_is_not_listed(world: World) -> None:
    await world.serve(GRAFANA)
    await world.open(await world.alice())
    await world.admin.update_user(name="alice", roles=None, traits={"team": ("ops",)})

    assert await listed(world) == [("web", "alice", "")]


async def test_a_session_is_ended_with_what_came_from_it_and_that_is_written_down(
    world: World,
) -> None:
    alice, bob = await world.alice(), await world.alice("bob")
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    assert await listed(world, "BOB") == [("web", "bob", "")]

    gone = await world.admin.end_session(id=alice.session.id[:8])

    assert gone.user == "alice"
    assert await listed(world) == [("web", "bob", "")]
    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=opened.session.id)
    assert (await world.proxy.web_session(id=bob.session.id)).user == "bob"
    ended = [e for e in world.audit.events if e.type in ("user.logout", "app.session.end")]
    assert [(e.type, e.fields["user"], e.fields["ended_by"]) for e in ended] == [
        ("app.session.end", "alice", "admin-1"),
        ("user.logout", "alice", "admin-1"),
    ]


async def test_an_app_session_ends_alone(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)

    await world.admin.end_session(id=opened.session.id)

    assert await listed(world) == [("web", "alice", "")]


async def test_a_session_must_be_named_well_enough(world: World) -> None:
    alice = await world.alice()
    with pytest.raises(InvalidRequest):
        await world.admin.end_session(id=alice.session.id[:7])
    with pytest.raises(InvalidRequest):
        await world.admin.end_session(id="")
    with pytest.raises(NotFound):
        await world.admin.end_session(id="0" * 64)
    with pytest.raises(InvalidRequest):
        await world.admin.list_sessions(user="", limit=0)


async def test_people_see_and_end_their_own_sessions_and_nobody_else_s(world: World) -> None:
    """AZ-12: somebody else's session is as one that doesn't exist."""
    alice, bob = await world.alice(), await world.alice("bob")
    second = await world.sign_in()
    as_alice = world.proxy.acting_for(alice.secret)

    own = await as_alice.list_own_sessions()
    assert {each.id for each in own} == {alice.session.id, second.session.id}
    with pytest.raises(NotFound):
        await as_alice.end_own_session(id=bob.session.id)
    await as_alice.end_own_session(id=second.session.id)

    assert await listed(world) == [("web", "alice", ""), ("web", "bob", "")]


async def test_an_id_that_begins_several_sessions_ends_none_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_list, "SHORTEST", 0)
    for name in ("alice", "bob"):
        await world.alice(name)
    with pytest.raises(InvalidRequest, match="2 sessions begin with"):
        await world.admin.end_session(id="")
    assert len(await world.admin.list_sessions(user="", limit=10)) == 2
