"""Opening an app: code, app session, what agents are shown."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import jwt
import pytest
import trio

from tests.engine.auth.world import CLUSTER, GRAFANA, JENKINS, PROXY, STATE, World
from tport.engine.api.answers import OpenedApp
from tport.engine.auth.service import open_auth_service
from tport.engine.auth.sessions import launch as launch_module
from tport.engine.auth.sessions.launch import MANY
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.auth.stores import Store
from tport.engine.errors import AccessDenied, NotFound, NotSignedIn, Unavailable
from tport.engine.pki.jwt import verify_session_credential
from tport.engine.types.app import App
from tport.engine.types.identity import Identity
from tport.engine.types.role import Conditions, Role, RoleOptions
from tport.engine.types.session import session_id
from tport.engine.types.user import user_key

HOST = f"grafana.{PROXY}"


async def test_an_app_opens_with_a_code_that_is_bound_to_state_app_and_host(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA, JENKINS)
    opened = await world.open(alice)
    assert opened.session.id == session_id(opened.secret)
    assert (opened.session.app, opened.session.host) == ("grafana", HOST)
    assert await world.proxy.app_session(id=opened.session.id) == opened.session
    assert "T2007I" in world.audit.codes()


@pytest.mark.parametrize(
    ("state", "host"),
    [("0" * 64, HOST), ("", HOST), (STATE, f"jenkins.{PROXY}")],
    ids=["another browser's state", "no state cookie", "another host"],
)
async def test_a_code_that_comes_wrongly_is_burnt(world: World, state: str, host: str) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA, JENKINS)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=state, host=host, remote="")
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    assert "T2007E" in world.audit.codes()


async def test_a_code_is_good_for_a_minute(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    world.pass_time(seconds=60)
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")


async def test_of_two_who_redeem_one_code_at_once_at_most_one_gets_in(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    opened: list[str] = []

    async def redeem() -> None:
        try:
            got = await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
            opened.append(got.session.id)
        except AccessDenied:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(redeem)
    assert len(opened) <= 1


@pytest.mark.parametrize("is_stored", [False, True], ids=["before it is stored", "after it"])
async def test_a_code_that_comes_twice_while_its_session_is_made_leaves_none(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_stored: bool
) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    open_app = Sessions.open_app

    async def redeem() -> str:
        got = await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
        return got.session.id

    async def interrupted(sessions: Sessions, *args: Any) -> OpenedApp:
        monkeypatch.setattr(Sessions, "open_app", open_app)
        opened = await open_app(sessions, *args) if is_stored else None
        with pytest.raises(AccessDenied):
            await redeem()
        return opened or await open_app(sessions, *args)

    monkeypatch.setattr(Sessions, "open_app", interrupted)
    with suppress(AccessDenied):
        session = await redeem()
        with pytest.raises(NotSignedIn):
            await world.proxy.app_session(id=session)
    assert not await world.backend.range("/sessions/app/")


async def test_of_two_who_read_one_code_at_once_the_later_ends_what_the_first_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw it unspent: whose mark comes too late knows that it came twice, all the same."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    swap = Store.swap

    async def late(store: Store[Any], *args: Any, **more: Any) -> None:
        monkeypatch.setattr(Store, "swap", swap)
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
        await swap(store, *args, **more)

    monkeypatch.setattr(Store, "swap", late)
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    assert not await world.backend.range("/sessions/app/")


async def test_an_unknown_app_and_a_forbidden_one_are_refused_in_the_same_words(
    world: World,
) -> None:
    """AZ-12 (auth part)."""
    bob = await world.alice("bob", roles=("auditor",))
    await world.serve(GRAFANA)
    answers = []
    for host in (HOST, f"nothing.{PROXY}", "elsewhere.example.net"):
        with pytest.raises(AccessDenied) as denied:
            await world.proxy.launch(web_session=bob.session.id, host=host, state=STATE, age=0)
        answers.append((str(denied.value), denied.value.hint, type(denied.value)))
    assert len(set(answers)) == 1


async def test_rounds_are_counted_within_twenty_seconds(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA, JENKINS)

    async def round_(host: str = HOST, state: str = STATE) -> tuple[int, int]:
        code = await world.proxy.launch(web_session=alice.session.id, host=host, state=STATE, age=0)
        with suppress(AccessDenied):
            await world.proxy.redeem(code=code.code, state=state, host=host, remote="")
        return code.rounds, code.opened

    assert [await round_() for _ in range(3)] == [(1, 0), (2, 1), (3, 2)]
    assert await round_(state="") == (4, 3)  # one whose cookie doesn't come back is one, too
    assert await round_() == (5, 3)
    assert await round_(f"jenkins.{PROXY}") == (1, 0)
    world.pass_time(seconds=20)
    assert await round_() == (1, 0)


async def test_tabs_opened_side_by_side_are_one_round(world: World) -> None:
    """A browser that starts again opens all its tabs: each came here before any was let in."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    rounds = []
    for seconds in range(8):
        code = await world.proxy.launch(
            web_session=alice.session.id, host=HOST, state=STATE, age=seconds + 1
        )
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
        rounds.append(code.rounds)
        world.pass_time(seconds=1)

    assert rounds == [1] * 8


async def test_a_great_many_codes_are_a_loop_whatever_the_clocks_say(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    codes = [
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=3600)
        for _ in range(MANY)
    ]

    assert [code.rounds for code in codes] == [1] * (MANY - 1) + [MANY]


async def test_an_app_session_ends_with_its_web_session_and_alone(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA, JENKINS)
    first, second = await world.open(alice), await world.open(alice, f"jenkins.{PROXY}")
    await world.proxy.end_app_session(id=first.session.id)
    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=first.session.id)
    await world.proxy.app_session(id=second.session.id)
    await world.proxy.sign_out(id=alice.session.id)
    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=second.session.id)
    with pytest.raises(NotSignedIn):
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    assert await world.backend.range("/sessions/") == []


async def test_the_shortest_ttl_of_the_roles_bounds_both_sessions(world: World) -> None:
    short = Role(
        name="short",
        allow=Conditions(app_labels={"*": ("*",)}),
        options=RoleOptions(max_session_ttl=timedelta(hours=1)),
    )
    await world.admin.put_role(role=short)
    alice = await world.alice(roles=("access", "short"))
    await world.serve(GRAFANA)
    world.pass_time(minutes=30)
    opened = await world.open(alice)
    assert opened.session.expires == alice.session.expires
    assert alice.session.expires - alice.session.created == timedelta(hours=1)


async def test_a_role_that_0_1_took_with_a_session_of_a_thousand_years_opens(world: World) -> None:
    options = RoleOptions(max_session_ttl=timedelta.max)
    long = Role(name="long", allow=Conditions(app_labels={"*": ("*",)}), options=options)
    await world.service.cluster.stores.roles.put("long", long)
    alice = await world.alice(roles=("long",))
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    assert opened.session.expires == alice.session.expires


async def test_agents_are_shown_a_signed_session_with_the_apps_own_token(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    signed = await world.proxy.sign_session(id=opened.session.id)
    keys = world.service.authorities.jwks
    now = world.clock()
    shown = verify_session_credential(signed.credential, jwks=keys, cluster="example", now=now)
    assert (shown.sid, shown.user, shown.app, shown.host) == (
        opened.session.id,
        "alice",
        "grafana",
        HOST,
    )
    assert shown.user_key == user_key(opened.session.user_id)
    assert (signed.renew_at - now).total_seconds() == 240
    assert (signed.expires - now).total_seconds() == 300
    claims = jwt.decode(shown.jwt, options={"verify_signature": False})
    assert claims["aud"] == ["http://localhost:3000"]
    assert claims["traits"] == {"team": ["dev"]}


async def test_who_may_open_an_app_may_while_its_agents_are_not_heard_of(world: World) -> None:
    """A machine that slept, an agent that just came back: a proxy has its tunnel, auth no word yet."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    await world.tunnel()

    opened = await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    await world.proxy.sign_session(id=opened.session.id)
    await world.admin.update_user(name="alice", roles=("auditor",), traits=None)

    with pytest.raises(NotSignedIn):
        await world.proxy.sign_session(id=opened.session.id)


async def test_a_signed_session_ends_when_its_session_does(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    world.pass_time(hours=12, minutes=-2)
    await world.tunnel(*await world.offer(GRAFANA))
    signed = await world.proxy.sign_session(id=opened.session.id)
    assert signed.expires == opened.session.expires
    world.pass_time(minutes=2)
    with pytest.raises(NotSignedIn):
        await world.proxy.sign_session(id=opened.session.id)


async def test_a_role_that_no_longer_allows_stops_the_next_signature(world: World) -> None:
    """AZ-03 (auth part): access is judged when the code is made, spent, and at each signature."""
    dev = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))
    await world.admin.put_role(role=dev)
    alice = await world.alice(roles=("dev",))
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    await world.admin.put_role(role=Role(name="dev"))
    with pytest.raises(AccessDenied):
        await world.proxy.sign_session(id=opened.session.id)
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")


async def test_auth_that_has_just_begun_does_not_call_a_known_app_unknown(world: World) -> None:
    alice = await world.alice()
    await world.offer(GRAFANA)  # stored; not yet reported by any proxy
    with pytest.raises(Unavailable):
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    world.pass_time(seconds=15)
    with pytest.raises(AccessDenied):
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)


async def test_a_public_address_is_the_apps_only_one(world: World) -> None:
    alice = await world.alice()
    jira = App(name="jira", uri="http://localhost:1", public_addr="jira.example.com")
    await world.serve(jira)
    opened = await world.open(alice, "jira.example.com")
    assert opened.session.app == "jira"
    with pytest.raises(AccessDenied):
        await world.proxy.launch(
            web_session=alice.session.id, host=f"jira.{PROXY}", state=STATE, age=0
        )


async def test_an_app_whose_agent_has_left_is_told_to_be_away(world: World) -> None:
    """And no code is made: the browser would come back with it to nobody."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    await world.tunnel()
    with pytest.raises(NotFound, match="no agent that offers grafana is connected"):
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    assert await world.backend.range("/launches/") == []


async def test_auth_that_has_just_begun_calls_no_live_session_unknown(world: World) -> None:
    """Its proxies have not reported yet: whoever had opened the application is asked to wait."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    async with open_auth_service(
        backend=world.backend,
        audit=world.audit,
        clock=SteadyClock(world.clock),
        settings=world.service.cluster.settings,
    ) as again:
        proxy = again.as_caller(Identity(kind="proxy", name="p", cluster=CLUSTER), "192.0.2.7")
        with pytest.raises(Unavailable, match="has just started"):
            await proxy.sign_session(id=opened.session.id)


async def test_the_count_of_rounds_is_bounded_those_longest_without_one_go_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_module, "MAX_ROUNDS", 2)
    await world.serve(GRAFANA)
    for name in ("alice", "bob", "carol"):
        await world.open(await world.alice(name))
    assert len(world.service.launcher._ways) == 2
