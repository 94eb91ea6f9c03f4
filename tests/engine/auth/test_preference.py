"""How people sign in, changed while auth runs: at once, never against the file, nothing unseen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from tests.engine.auth.sso.visits import ANN, GOOGLE, Visit, session_of, sso_world
from tests.engine.auth.visitor import Visitor
from tests.engine.auth.world import CLUSTER, PROXY, World, open_world
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep
from tport.engine.auth.cluster import AuthSettings
from tport.engine.config.in_force import SECOND_FACTOR, WEB_IDLE_TIMEOUT
from tport.engine.config.resource_text import resource_value
from tport.engine.errors import AlreadyExists, CompareFailed, InvalidRequest, NotFound, NotSignedIn
from tport.engine.types.factor import FactorPolicy, SecondFactor
from tport.engine.types.preference import Preference
from tport.engine.types.resource import PREFERENCE, Kind, PreferenceResource, PutMode
from tport.engine.types.setting import DEFAULT, Origin, Setting

KIND: Kind = "cluster_auth_preference"
IN_FILE = Origin("file", "tport.yaml:12")


def wants(word: SecondFactor | None = None, idle: float | None = None) -> Preference:
    policy = None if word is None else FactorPolicy.from_word(word)
    local = None if word is None else True
    return Preference(second_factor=policy, web_idle_timeout=idle, local_auth=local)


@asynccontextmanager
async def cluster(
    word: SecondFactor = "off", *, in_file: tuple[str, ...] = ()
) -> AsyncIterator[World]:
    """Open one whose second factor is `word`, with an idle time of an hour; `in_file`: paths."""
    values = {SECOND_FACTOR: word, WEB_IDLE_TIMEOUT: "1h", "tport.data_dir": "/x"}
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=(f"{PROXY}:3080",),
        second_factor=FactorPolicy.from_word(word),
        web_idle=timedelta(hours=1),
        shown=tuple(
            Setting(path=path, value=value, origin=IN_FILE if path in in_file else DEFAULT)
            for path, value in values.items()
        ),
    )
    async with open_world(settings=settings) as world:
        yield world


async def shown(world: World) -> PreferenceResource:
    [found] = await world.admin.get_resources(kind=KIND, name=PREFERENCE, secrets=False)
    assert isinstance(found, PreferenceResource)
    return found


async def put(
    world: World, preference: Preference, mode: PutMode = "upsert", revision: str = ""
) -> str:
    resource = PreferenceResource(preference=preference, revision=revision)
    return await world.admin.put_resource(resource=resource, mode=mode)


@pytest.mark.parametrize("word", ["off", "optional", "on", "otp", "webauthn"])
async def test_it_is_shown_as_it_is_in_force(word: SecondFactor) -> None:
    async with cluster(word) as world:
        found = await shown(world)
    value = resource_value(found)

    assert found.preference == wants(word, 3600)
    assert found.rp_id == ("" if word in ("off", "otp") else PROXY)
    assert (value["spec"]["second_factor"], value["spec"]["web_idle_timeout"]) == (word, "1h")
    assert value["metadata"] == {
        "name": PREFERENCE,
        "labels": {"teleport.dev/origin": "defaults"},
        "revision": "0",
    }


async def test_a_change_counts_at_once_and_is_written_down_with_what_it_changed() -> None:
    async with cluster("off") as world:
        alice = Visitor(world)
        assert isinstance(await alice.invited(), SignedIn)
        assert await put(world, wants("on")) == "created"
        step = await alice.password()
        assert isinstance(step, NextStep)
        assert (step.to, step.may_skip) == ("enrol", False)
        assert (await world.proxy.factor_policy()).word == "on"
        found = await shown(world)
        assert (found.origin, found.preference) == ("dynamic", wants("on", 3600))
        [event] = [e for e in world.audit.events if e.type == "auth_preference.update"]

    assert event.code == "TCAUTH001I"
    assert event.fields == {
        "user": "admin-1",
        "name": PREFERENCE,
        "second_factor": "on",
        "web_idle_timeout": "1h",
        "local_auth": "yes",
        "changes": ["second_factor: off -> on"],
    }


async def test_what_cannot_be_written_down_is_not_done() -> None:
    async with cluster("on") as world:
        world.audit.broken = True
        with pytest.raises(Exception, match="audit log"):
            await put(world, wants("off"))
        assert (await world.proxy.factor_policy()).word == "on"


async def test_an_idle_time_counts_for_sessions_that_are_there() -> None:
    async with cluster("off") as world:
        alice = await world.alice()
        world.pass_time(minutes=20)
        await put(world, wants(idle=600))
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=alice.session.id)
        await put(world, wants(idle=0))
        world.pass_time(hours=3)
        assert (await world.proxy.web_session(id=alice.session.id)).user == "alice"


async def test_a_password_s_length_follows() -> None:
    async with cluster("off") as world:
        invite = await world.admin.create_user(name="bob", roles=("access",), traits={})
        token = invite.url.rpartition("/")[2]
        assert (await world.proxy.invite(token=token)).password_min == 15
        await put(world, wants("on"))
        assert (await world.proxy.invite(token=token)).password_min == 12


async def test_removed_it_is_as_the_file_says_again() -> None:
    async with cluster("optional") as world:
        await put(world, wants("off", 0))
        await world.admin.delete_resource(kind=KIND, name=PREFERENCE)
        assert (await shown(world)).preference == wants("optional", 3600)
        assert (await shown(world)).revision == "0"
        with pytest.raises(NotFound):
            await world.admin.delete_resource(kind=KIND, name=PREFERENCE)
        assert world.audit.codes().count("TCAUTH001I") == 2
        with pytest.raises(NotFound):
            await world.admin.delete_resource(kind=KIND, name="another")


async def test_what_the_file_sets_is_refused_with_its_line_and_the_rest_is_taken() -> None:
    async with cluster("on", in_file=(SECOND_FACTOR,)) as world:
        assert (await shown(world)).origin == "config-file"
        with pytest.raises(
            InvalidRequest, match=r"second_factor is set to on in tport.yaml:12"
        ) as no:
            await put(world, wants("off"))
        assert "change it there and restart auth" in no.value.hint
        with pytest.raises(InvalidRequest, match=r"tport.yaml:12"):
            await world.admin.preview_preference(preference=wants("off"))
        await put(world, wants("on", 7200))  # as `get` printed it, but for the idle time
        assert (await shown(world)).preference == wants("on", 7200)
        stored = await world.service.cluster.stores.preference.get("auth_preference")
        assert stored == replace(wants("on", 7200), second_factor=None)


async def test_the_file_wins_over_what_was_stored_before_it_said_so() -> None:
    async with cluster("on", in_file=(SECOND_FACTOR,)) as world:
        await world.service.cluster.stores.preference.put("auth_preference", wants("off", 7200))
        assert (await world.proxy.factor_policy()).word == "on"
        assert (await shown(world)).preference == wants("on", 7200)


async def test_what_the_file_overrules_is_logged_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster("on", in_file=(SECOND_FACTOR,)) as world:
        await world.service.preference.tell_overruled()
        await world.service.cluster.stores.preference.put("auth_preference", wants("off", 7200))
        assert caplog.messages == []
        await world.service.preference.tell_overruled()

    assert caplog.messages == [
        "second_factor is on, as tport.yaml:12 says; off, as cluster_auth_preference has it,"
        " does not count"
    ]


async def test_what_the_file_says_as_well_is_not_logged_as_overruled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster("on", in_file=(SECOND_FACTOR, WEB_IDLE_TIMEOUT)) as world:
        await world.service.cluster.stores.preference.put("auth_preference", wants("on", 7200))
        await world.service.preference.tell_overruled()

    [told] = caplog.messages
    assert told.startswith("web_idle_timeout is 1h")


async def test_each_setting_says_whether_the_file_or_the_resource_decides_it() -> None:
    async with cluster("on", in_file=(WEB_IDLE_TIMEOUT,)) as world:
        await put(world, wants("otp"))
        found = {each.path: each for each in await world.admin.list_settings()}

    assert found[SECOND_FACTOR].value == "otp"
    assert found[SECOND_FACTOR].origin == Origin("resource", KIND)
    assert (found[WEB_IDLE_TIMEOUT].value, found[WEB_IDLE_TIMEOUT].origin) == ("1h", IN_FILE)
    assert found["tport.data_dir"].origin == DEFAULT


async def test_of_two_who_read_the_same_the_second_changes_nothing() -> None:
    """By a command and in a page alike; and from the beginning, when nothing is stored."""
    async with cluster("on") as world:
        first = await shown(world)
        await put(world, wants("otp"), "update", first.revision)
        with pytest.raises(CompareFailed):
            await put(world, wants("off"), "update", first.revision)
        with pytest.raises(CompareFailed, match="meanwhile by admin-1"):
            await world.admin.set_preference(preference=wants("off"), revision=0)
        with pytest.raises(AlreadyExists):
            await put(world, wants("off"), "create")
        second = await world.admin.get_preference()
        await world.admin.set_preference(preference=wants("webauthn"), revision=second.revision)
        with pytest.raises(CompareFailed):
            await world.admin.set_preference(preference=wants("off"), revision=second.revision)
        await world.admin.reset_preference()
        with pytest.raises(CompareFailed):
            await put(world, wants("off"), "update", str(second.revision))
        assert (await world.proxy.factor_policy()).word == "on"


@pytest.mark.parametrize(
    "wrong",
    [
        Preference(second_factor=FactorPolicy(kinds=(), required=True)),
        Preference(second_factor=FactorPolicy(kinds=("totp",), required=False)),
        wants(idle=1),
        wants(idle=-1),
        wants(idle=1e300),
    ],
)
async def test_what_cannot_be_meant_is_not_stored(wrong: Preference) -> None:
    async with cluster("on") as world:
        with pytest.raises(InvalidRequest):
            await put(world, wrong)
        assert (await shown(world)).revision == "0"


async def test_passkeys_are_for_the_proxy_s_host_and_no_other() -> None:
    async with cluster("on") as world:
        there = PreferenceResource(preference=wants("on"), rp_id=PROXY)
        elsewhere = PreferenceResource(preference=wants("on"), rp_id="other.test")
        await world.admin.put_resource(resource=there, mode="upsert")
        with pytest.raises(InvalidRequest, match=PROXY):
            await world.admin.put_resource(resource=elsewhere, mode="upsert")


async def test_before_it_is_stored_it_is_said_what_the_next_sign_in_asks_of_whom() -> None:
    async with cluster("optional") as world:
        await Visitor(world, name="app").with_app()
        await world.admin.create_user(name="bare", roles=("access",), traits={})

        async def asks(word: SecondFactor) -> tuple[tuple[str, ...], ...]:
            found = await world.admin.preview_preference(preference=wants(word))
            return found.shows, found.sets_up, found.password

        assert await asks("optional") == (("app",), (), ("bare",))
        assert await asks("on") == (("app",), ("bare",), ())
        assert await asks("webauthn") == ((), ("app", "bare"), ())
        assert await asks("off") == ((), (), ("app", "bare"))
        assert (await shown(world)).revision == "0", "a preview changes nothing"


async def test_whom_a_provider_vouches_for_is_asked_for_no_password() -> None:
    ours_on_top = replace(GOOGLE, name="strict", cluster_second_factor=True)
    async with sso_world(GOOGLE, ours_on_top) as (world, provider, _):
        await world.alice()
        session_of(await Visit(world).come(provider, **ANN))
        bob = ANN | {"sub": "2", "email": "bob@x.test"}
        await Visit(world, "oidc/strict").come(provider, **bob)

        async def asks(wanted: Preference) -> dict[str, tuple[str, ...]]:
            found = to_builtins(await world.admin.preview_preference(preference=wanted))
            return {name: users for name, users in found.items() if users}

        vouched, strict = ("ann@x.test",), ("bob@x.test",)
        assert await asks(wants("off")) == {
            "password": ("alice",),
            "vouched": vouched,
            "kept_out": strict,
        }
        assert await asks(wants("on")) == {"vouched": vouched, "sets_up": ("alice", *strict)}
        assert await asks(replace(wants("on"), local_auth=False)) == {
            "kept_out": ("alice",),
            "vouched": vouched,
            "sets_up": strict,
        }
        await world.admin.delete_resource(kind="oidc", name="google")
        assert await asks(wants("on")) == {"kept_out": vouched, "sets_up": ("alice", *strict)}


async def test_an_idle_time_that_begins_to_count_does_so_from_the_last_request() -> None:
    """Who was busy while none counted is not signed out by the change."""
    async with cluster("off") as world:
        await put(world, wants(idle=0))
        alice = await world.alice()
        world.pass_time(hours=3)
        await world.proxy.acting_for(alice.secret).own_account()
        await put(world, wants(idle=600))
        world.pass_time(minutes=5)
        assert (await world.proxy.web_session(id=alice.session.id)).user == "alice"
        world.pass_time(minutes=10)
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=alice.session.id)
