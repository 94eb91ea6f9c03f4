"""Offers of agents: which count, who owns a name, who is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, JENKINS, PROXY, World, open_world
from tport.engine.auth.apps import abandoned
from tport.engine.auth.apps import apps as apps_module
from tport.engine.auth.apps.abandoned import ABANDONED
from tport.engine.auth.cluster import AuthSettings, host_of
from tport.engine.auth.stores import Definition, Stored
from tport.engine.defaults import PRESENCE_TTL
from tport.engine.errors import InvalidRequest, NotFound, Unavailable
from tport.engine.pki.keys import make_csr, make_key
from tport.engine.storage.backend import Delete, Item, Operation
from tport.engine.types.app import (
    KEPT,
    App,
    Cors,
    DynamicLabel,
    Header,
    Rewrite,
    Timeouts,
    UpstreamTls,
)
from tport.engine.types.device_token import DeviceToken
from tport.engine.types.resource import AppResource

OTHER = replace(GRAFANA, uri="http://localhost:3001")


def with_password(app: App, value: str = "Basic YTpodW50ZXIy") -> App:
    """Return the application as a file of its agent may have it, with a secret in a header."""
    return replace(app, rewrite=Rewrite(headers=(Header("Authorization", value),)))


async def refusal(
    world: World, app: App, *, host: str = "agent-2", pinned: tuple[str, ...] | None = None
) -> str:
    [server] = await world.offer(app, host=host, pinned=pinned)
    return server.refused


async def test_an_offer_counts_and_shows_its_labels(world: World) -> None:
    command = DynamicLabel(name="os", command=("/usr/bin/uname",), period=5)
    [server] = await world.offer(replace(GRAFANA, commands=(command,)))
    assert (server.refused, server.labels, server.app.commands) == ("", {"env": "dev"}, ())


async def test_a_header_s_value_that_an_agent_of_0_1_tells_is_neither_kept_nor_shown(
    world: World,
) -> None:
    """OPS-03: not even where a proxy goes on with what an auth of 0.1 answered."""
    [server] = await world.offer(with_password(GRAFANA))
    [stored] = await world.service.cluster.stores.apps.all()
    assert server.refused == ""
    assert stored.app.rewrite.headers == server.app.rewrite.headers
    assert server.app.rewrite.headers == (Header("Authorization", KEPT),)

    await world.tunnel(replace(server, app=with_password(GRAFANA)))
    [shown] = await world.admin.list_app_servers()
    assert shown == server


async def test_agents_of_both_versions_and_with_passwords_of_their_own_share_a_name(
    world: World,
) -> None:
    await world.serve(with_password(GRAFANA))
    assert await refusal(world, with_password(GRAFANA).as_offered({})) == ""
    assert await refusal(world, with_password(GRAFANA, "Basic eA=="), host="agent-3") == ""
    told = await refusal(world, with_password(OTHER, "Basic eA=="), host="agent-4")
    assert "another definition (uri differs)" in told
    assert "(rewrite differs)" in await refusal(world, GRAFANA, host="agent-4")


async def store_as_0_1_did(world: World, app: App, host: str) -> None:
    stored = replace(app, labels={}, description="")
    await world.service.cluster.stores.apps.create(app.name, Definition(app=stored, hosts=(host,)))


async def test_what_0_1_stored_whole_keeps_no_agent_out_and_is_without_values_soon(
    world: World,
) -> None:
    """OPS-03: also that of an agent that never comes back."""
    for app in map(with_password, (GRAFANA, JENKINS)):
        await store_as_0_1_did(world, app, "agent-1")

    for host in ("agent-1", "agent-2"):
        assert await refusal(world, with_password(GRAFANA).as_offered({}), host=host) == ""
    assert "is away" in await refusal(world, JENKINS)
    world.pass_time(seconds=PRESENCE_TTL)
    await world.service.apps.tick()

    stored = await world.service.cluster.stores.apps.all()
    assert [each.app.name for each in stored] == ["grafana", "jenkins"]
    assert {each.app.rewrite.headers for each in stored} == {(Header("Authorization", KEPT),)}
    assert stored[1].hosts == ("agent-1",)


async def test_what_auth_hands_out_whole_is_known_again_without_the_values(world: World) -> None:
    """It is told agents in full; what they then offer is the same application, and shown as such."""
    await hand_out(world, with_password(GRAFANA))
    [server] = await world.serve(with_password(GRAFANA).as_offered({}))
    assert server.refused == ""
    changed = with_password(OTHER, "Basic eA==")
    await hand_out(world, changed)

    assert await refusal(world, changed.as_offered({})) == ""
    [handed] = await world.admin.get_resources(kind="app", name="", secrets=False)
    assert isinstance(handed, AppResource)
    assert handed.app.rewrite.headers == (Header("Authorization", "Basic eA=="),)


async def test_the_names_that_one_agent_gives_are_counted_for_a_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG-10: each is written down, and read whenever anybody offers something."""
    monkeypatch.setattr(apps_module, "MAX_NAMES", 5)
    for number in range(8):
        why = await refusal(world, App(name=f"a{number}", uri="http://localhost:1"))
        assert ("names within a day" in why) == (number >= 5)
    assert len(await world.service.cluster.stores.apps.all()) == 5
    assert await refusal(world, App(name="a0", uri="http://localhost:1")) == ""
    assert await refusal(world, App(name="b", uri="http://localhost:1"), host="agent-3") == ""

    await world.service.apps.tick()
    world.clock.now += timedelta(seconds=2 * PRESENCE_TTL)
    await world.service.apps.tick()
    world.clock.now += ABANDONED
    assert await refusal(world, App(name="a9", uri="http://localhost:1")) == ""


async def test_agents_that_agree_share_a_name_and_those_that_do_not_are_refused(
    world: World,
) -> None:
    await world.serve(GRAFANA)
    same = replace(GRAFANA, labels={"env": "prod"}, description="the other one")
    assert await refusal(world, same) == ""
    assert "another definition (uri differs)" in await refusal(world, OTHER, host="agent-3")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cors": Cors(allowed_origins=("https://a\r\nX: y",))}, "no origin"),
        ({"required_apps": ("grafana",)}, "this app itself"),
        ({"group": "<b>"}, "no group"),
    ],
)
async def test_an_agent_is_not_believed_that_its_settings_can_be_meant(
    world: World, change: dict[str, object], why: str
) -> None:
    assert why in await refusal(world, replace(GRAFANA, **change))


async def hand_out(world: World, app: App) -> None:
    await world.admin.put_resource(resource=AppResource(app=app), mode="upsert")


async def test_a_changed_application_that_auth_hands_out_is_taken_from_each_agent_at_once(
    world: World,
) -> None:
    """None waits for the others, who still offer the one before."""
    tuned = replace(GRAFANA, timeouts=Timeouts(response_head=5), tls=UpstreamTls(server_name="g"))
    await hand_out(world, tuned)
    servers = await world.offer(tuned.as_offered({"env": "dev"}), host="agent-1")
    servers += await world.offer(tuned.as_offered({"env": "dev"}), host="agent-2")
    await world.tunnel(*servers)
    changed = replace(tuned, uri=OTHER.uri)
    await hand_out(world, changed)

    offer = changed.as_offered({})
    assert await refusal(world, offer, host="agent-1") == ""
    assert "another definition" in await refusal(world, tuned.as_offered({}), host="agent-3")
    assert await refusal(world, offer, host="agent-2") == ""
    assert await refusal(world, offer, host="agent-3") == ""


async def test_what_auth_hands_out_takes_no_name_from_an_agent_s_own_file(world: World) -> None:
    """AG-04: though an administrator made it, people use what was there."""
    await world.serve(GRAFANA)
    await hand_out(world, OTHER)

    assert "another definition (uri differs)" in await refusal(world, OTHER)


async def test_an_application_made_anew_waits_for_no_agent_of_the_one_before(
    world: World,
) -> None:
    await hand_out(world, GRAFANA)
    await world.serve(GRAFANA)
    await world.admin.delete_resource(kind="app", name="grafana")
    await world.tunnel()
    world.pass_time(seconds=20)
    await world.service.apps.tick()
    assert "is away" in await refusal(world, OTHER)
    await hand_out(world, OTHER)

    assert await refusal(world, OTHER) == ""


async def test_an_agent_alone_may_change_its_definition(world: World) -> None:
    await world.serve(GRAFANA)
    assert await refusal(world, OTHER, host="agent-1") == ""


async def test_a_name_whose_agents_are_gone_waits_a_day_for_them(world: World) -> None:
    """The same host, or one whose token names the app, needn't wait."""
    await world.serve(GRAFANA)
    await world.tunnel()
    world.pass_time(seconds=15)
    world.service.presence.tick()
    await world.service.apps.tick()
    assert "is away" in await refusal(world, OTHER)
    assert await refusal(world, OTHER, host="agent-1") == ""

    world.pass_time(seconds=15)
    await world.service.apps.tick()
    assert await refusal(world, GRAFANA, pinned=("grafana", "dumper")) == ""

    world.pass_time(seconds=15)
    await world.service.apps.tick()
    world.pass_time(hours=24)
    assert await refusal(world, OTHER, host="agent-9") == ""


async def test_a_name_of_an_earlier_run_is_not_kept_for_ever_though_storage_failed_just_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(GRAFANA)
    await world.tunnel()
    world.pass_time(seconds=15)
    world.service.presence.tick()
    begun_anew = apps_module.Apps(world.service.cluster, world.service.presence)

    async def fail(_: object) -> NoReturn:
        raise Unavailable("storage is full")

    with monkeypatch.context() as full:
        full.setattr(world.backend, "batch", fail)
        with pytest.raises(Unavailable):
            await begun_anew.tick()
    await begun_anew.tick()

    definition = await world.service.cluster.stores.apps.get("grafana")
    assert definition.gone == world.clock.now


@pytest.fixture
def short_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """One abandoned name is kept, and those beyond it go after 10 s by two looks."""
    for name, value in (("MAX_KEPT", 1), ("EVERY", 5.0), ("HELD", 10.0), ("AT_ONCE", 2)):
        monkeypatch.setattr(abandoned, name, value)


async def names_kept(world: World) -> list[str]:
    """Return what is known of names, once auth has had its time to forget some."""
    await trio.sleep(30)
    return [each.app.name for each in await world.service.cluster.stores.apps.all()]


async def leave(world: World) -> None:
    """Have all agents go, and be taken for gone."""
    await world.tunnel()
    world.pass_time(seconds=PRESENCE_TTL)
    world.service.presence.tick()
    await trio.sleep(2)


@pytest.mark.usefixtures("short_of_room")
async def test_names_that_nobody_has_offered_for_a_day_are_forgotten_but_for_the_last(
    world: World, autojump_clock: MockClock
) -> None:
    """AG-10: a lost agent may give 3,000 each day, and an honest one has one for each branch."""
    for number in range(6):
        await world.serve(replace(JENKINS, name=f"branch-{number}"), host=f"agent-{number}")
        await leave(world)
    await world.serve(GRAFANA)
    world.pass_time(seconds=ABANDONED.total_seconds() - 200)
    assert len(await names_kept(world)) == 7, "one may still come back"

    world.pass_time(seconds=300)

    assert await names_kept(world) == ["branch-5", "grafana"]
    assert await refusal(world, replace(OTHER, name="branch-1")) == ""


@pytest.mark.usefixtures("short_of_room")
async def test_a_clock_that_is_ahead_for_seconds_takes_no_name_from_its_agents(
    world: World, autojump_clock: MockClock
) -> None:
    for app in (GRAFANA, JENKINS):
        await world.serve(app)
        await leave(world)
    world.pass_time(days=2)
    await trio.sleep(8)
    world.pass_time(days=-2)

    assert await names_kept(world) == ["grafana", "jenkins"]
    assert "is away" in await refusal(world, OTHER)


@pytest.mark.usefixtures("short_of_room")
async def test_a_name_is_kept_for_whoever_is_there_though_auth_took_them_for_gone(
    world: World, autojump_clock: MockClock
) -> None:
    """As when auth was out of its proxies' reach: their tunnels went on, and nothing is offered anew."""
    servers = await world.serve(GRAFANA, JENKINS)
    await leave(world)
    await world.tunnel(*servers)
    await trio.sleep(2)
    world.pass_time(days=2)
    await world.tunnel(*servers)

    assert await names_kept(world) == ["grafana", "jenkins"]
    assert await world.service.apps.is_ours(f"grafana.{PROXY}")


async def test_who_comes_back_while_auth_takes_others_for_gone_is_not_taken_for_gone(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The definition is as it was, so that the offer writes nothing that would be in the way."""
    await world.serve(GRAFANA, JENKINS)
    await world.tunnel()
    definitions = world.service.cluster.stores.apps
    read, marked = definitions.read, list[str]()

    async def read_late(name: str) -> Stored[Definition]:
        found = await read(name)
        marked.append(name)
        if len(marked) == 1:
            await world.offer(*(app for app in (GRAFANA, JENKINS) if app.name != name))
        return found

    monkeypatch.setattr(definitions, "read", read_late)
    world.pass_time(seconds=PRESENCE_TTL)
    world.service.presence.tick()
    await trio.sleep(3)

    [back] = [each for each in await definitions.all() if each.app.name != marked[0]]
    assert back.gone is None


@pytest.mark.usefixtures("short_of_room")
async def test_who_comes_back_at_the_last_moment_finds_the_name_as_it_was(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await world.serve(replace(JENKINS, name=f"branch-{number}"), host=f"agent-{number}")
        await leave(world)
    world.pass_time(days=1)
    batch, waited = world.backend.batch, list[int]()

    async def batch_late(operations: Sequence[Operation]) -> list[Item | None]:
        if any(isinstance(each, Delete) for each in operations) and not waited:
            waited.append(len(operations))
            await world.offer(replace(JENKINS, name="branch-1"), host="agent-9")
        return await batch(operations)

    monkeypatch.setattr(world.backend, "batch", batch_late)

    assert await names_kept(world) == ["branch-1", "branch-3"]
    assert waited == [2]


@pytest.mark.usefixtures("short_of_room")
async def test_a_name_is_kept_while_somebody_has_a_device_token_for_it(
    world: World, autojump_clock: MockClock
) -> None:
    """Programs go on to ask meanwhile, and are told that it is away."""
    stores = world.service.cluster.stores
    alice = await world.alice()
    for app in (GRAFANA, JENKINS):
        await world.serve(app)
        await leave(world)
    token = DeviceToken(
        id="t",
        name="n",
        user="alice",
        user_id=alice.session.user_id,
        proofs=1,
        app="grafana",
        created=world.clock.now,
        expires=world.clock.now + timedelta(days=9),
    )
    await stores.device_tokens.put("t", token)
    world.pass_time(days=2)

    assert await names_kept(world) == ["grafana", "jenkins"]
    assert await world.service.apps.main_host("grafana") == f"grafana.{PROXY}"
    await stores.device_tokens.delete("t")
    assert await names_kept(world) == ["jenkins"]


async def test_a_definition_is_written_only_when_it_changes(world: World) -> None:
    await world.serve(GRAFANA)
    [before] = await world.backend.range("/apps/")
    await world.serve(replace(GRAFANA, labels={"env": "prod"}))
    assert await world.backend.range("/apps/") == [before]


async def test_a_refusal_is_written_down_once(world: World) -> None:
    await world.serve(GRAFANA)
    for _ in range(3):
        await refusal(world, OTHER)
    assert world.audit.codes().count("TPA01W") == 1


async def test_one_bad_app_leaves_the_others_alone(world: World) -> None:
    bad = replace(JENKINS, public_addr=PROXY)
    grafana, jenkins, twice = await world.offer(GRAFANA, bad, GRAFANA)
    assert (grafana.refused, bool(jenkins.refused), "twice" in twice.refused) == ("", True, True)


async def test_a_name_or_label_that_can_not_be_is_refused(world: World) -> None:
    assert "sub-domain" in await refusal(world, replace(GRAFANA, name="gra fana"))
    assert "label" in await refusal(world, replace(GRAFANA, labels={"a b": "c"}))
    assert "labels" in await refusal(
        world, replace(GRAFANA, labels={f"l{n}": "x" for n in range(101)})
    )
    with pytest.raises(InvalidRequest):
        await world.offer(*(replace(GRAFANA, name=f"a{n}") for n in range(1001)))


async def test_a_proxy_that_falls_silent_is_forgotten_with_its_agents(world: World) -> None:
    await world.serve(GRAFANA)
    status = await world.admin.status()
    assert [agent.host_id for agent in status.agents] == ["agent-1"]
    assert status.proxy_addrs == (f"{PROXY}:3080",)
    world.pass_time(seconds=15)
    world.service.presence.tick()
    status = await world.admin.status()
    assert (status.agents, status.app_servers) == ((), ())


async def test_what_two_proxies_report_is_one_list(world: World) -> None:
    [server] = await world.serve(GRAFANA)
    await world.tunnel(server, proxy="proxy-2")
    [agent] = (await world.admin.status()).agents
    assert agent.proxies == ("proxy-1", "proxy-2")
    assert await world.admin.list_app_servers() == (server,)
    await world.tunnel(proxy="proxy-1")
    assert await world.admin.list_app_servers() == (server,)


async def test_web_certificates_are_for_hosts_that_are_served(world: World) -> None:
    await world.offer(GRAFANA)
    csr = make_csr(make_key())
    for host in (PROXY, f"grafana.{PROXY}"):
        assert "BEGIN CERTIFICATE" in await world.proxy.web_certificate(csr=csr, host=host)
    for host in (f"nothing.{PROXY}", "bank.example.net"):
        with pytest.raises(NotFound):
            await world.proxy.web_certificate(csr=csr, host=host)


async def test_among_many_applications_the_names_of_proxies_are_read_no_more_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand applications, each offered anew when a proxy starts, kept auth busy for seconds."""
    read: list[str] = []

    def counted(address: str) -> str:
        read.append(address)
        return host_of(address)

    monkeypatch.setattr("tport.engine.auth.apps.apps.host_of", counted)

    async def cost(app: App) -> int:
        read.clear()
        assert await refusal(world, app) == ""
        return len(read)

    among_few = await cost(GRAFANA)
    for number in range(30):
        await world.offer(replace(GRAFANA, name=f"app-{number}"), host=f"agent-{number}")
    assert await cost(JENKINS) == among_few


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("not a host!", "no host name"),
        ("192.0.2.1", "IP address"),
        ("grafana", "has no domain"),
        (PROXY, "the proxy's own"),
        ("example.com", "a parent of the proxy's"),
        (f"a.b.{PROXY}", "public_addr"),
        ("Grafana.Example.ORG", "write 'grafana.example.org'"),
    ],
)
async def test_an_address_that_no_application_may_have_is_refused_with_the_reason(
    world: World, address: str, why: str
) -> None:
    """AG-04."""
    assert why in await refusal(world, replace(GRAFANA, public_addr=address))


async def test_an_address_that_is_left_out_is_the_same_as_the_one_that_is_written(
    world: World,
) -> None:
    """One agent may write what the other leaves to be understood, and both serve."""
    await world.serve(GRAFANA)
    written = replace(GRAFANA, public_addr=f"grafana.{PROXY}")
    assert await refusal(world, written) == ""
    assert "(uri differs)" in await refusal(world, replace(written, uri=OTHER.uri), host="agent-3")


async def test_what_is_remembered_of_refusals_and_of_last_offers_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apps_module, "MAX_REFUSALS", 2)
    monkeypatch.setattr(apps_module, "MAX_REMEMBERED", 2)
    for number in range(4):
        assert await refusal(world, replace(GRAFANA, name=f"app-{number}", public_addr=PROXY))
        await world.serve(replace(GRAFANA, name=f"good-{number}"))

    assert len(world.service.apps._told) == 2
    assert len(world.service.apps._last) == 2


async def test_an_application_has_the_name_that_people_will_see_or_none_yet(world: World) -> None:
    assert await world.service.apps.main_host("nobody-defined") == ""
    assert world.service.apps.default_host("wiki") == f"wiki.{PROXY}:3080"
    async with open_world(settings=AuthSettings(cluster="example", proxy_addrs=())) as bare:
        assert bare.service.apps.default_host("wiki") == ""


async def test_agents_that_say_different_addresses_are_told_so(world: World) -> None:
    await world.serve(replace(GRAFANA, public_addr="graphs.example.com"))
    told = await refusal(world, replace(GRAFANA, public_addr="other.example.com"), host="agent-3")
    assert "another definition (public_addr differs)" in told


async def test_what_auth_hands_out_may_have_an_address_of_its_own(world: World) -> None:
    await hand_out(world, replace(GRAFANA, public_addr="graphs.example.com"))
    await world.serve(replace(GRAFANA, public_addr="graphs.example.com"))
    assert "public_addr differs" in await refusal(world, GRAFANA, host="agent-3")
