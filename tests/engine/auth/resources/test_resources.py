"""Resources in auth: written by revision, read whole, deleted with what they gave."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.machines.test_watch import after, until_current
from tests.engine.auth.sso.visits import ANN, GOOGLE, OCTO, Visit, session_of, sso_world
from tests.engine.auth.world import CLUSTER, GRAFANA, PROXY, World, open_world
from tport.engine.api.changes import AppDefined, AppUndefined
from tport.engine.auth.cluster import AuthSettings, StaticToken
from tport.engine.auth.resources import resources as resources_module
from tport.engine.config.resource_text import yaml_text
from tport.engine.config.resources import read_resources
from tport.engine.errors import AlreadyExists, CompareFailed, InvalidRequest, NotFound
from tport.engine.pki.keys import make_csr, make_key
from tport.engine.types.app import App, DynamicLabel, UpstreamTls
from tport.engine.types.factor import OFF, Factors
from tport.engine.types.identity import Identity
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.resource import (
    AppResource,
    AppServerResource,
    AuthorityResource,
    GithubResource,
    Kind,
    LockResource,
    OidcResource,
    Resource,
    RoleResource,
    TokenResource,
    UserResource,
    UserSecrets,
)
from tport.engine.types.role import Conditions, Role
from tport.engine.types.token import JoinToken, token_id
from tport.engine.types.user import User

SECRET = "0123456789abcdef0123456789abcdef"
DEV = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))

EXAMPLES: dict[Kind, Resource] = {
    "role": RoleResource(role=DEV),
    "user": UserResource(user=User(name="bob", roles=("access",))),
    "token": TokenResource(token=JoinToken(id=token_id(SECRET), hint=SECRET[:8])),
    "app": AppResource(app=GRAFANA),
    "lock": LockResource(lock=Lock(name="l1", target=LockTarget(role="editor"))),
}
NAMES: dict[Kind, str] = {
    "role": "dev",
    "user": "Bob",
    "token": SECRET,
    "app": "grafana",
    "lock": "l1",
}
R = TypeVar("R", bound=Resource)


async def only(world: World, kind: Kind) -> Resource:
    [found] = await world.admin.get_resources(kind=kind, name=NAMES[kind], secrets=False)
    return found


@pytest.mark.parametrize("kind", EXAMPLES)
async def test_a_resource_is_made_once_read_replaced_by_its_revision_and_removed(
    world: World, kind: Kind
) -> None:
    resource = EXAMPLES[kind]
    with pytest.raises(NotFound):
        await only(world, kind)
    with pytest.raises(NotFound):
        await world.admin.put_resource(resource=resource, mode="update")

    assert await world.admin.put_resource(resource=resource, mode="create") == "created"
    first = await only(world, kind)
    assert first.revision
    with pytest.raises(AlreadyExists):
        await world.admin.put_resource(resource=resource, mode="create")
    assert await world.admin.put_resource(resource=resource, mode="upsert") == "updated"
    second = await only(world, kind)
    assert second.revision != first.revision
    for mode in ("upsert", "update"):
        with pytest.raises(CompareFailed, match="changed meanwhile"):
            await world.admin.put_resource(resource=first, mode=mode)
    assert await only(world, kind) == second
    assert await world.admin.put_resource(resource=second, mode="update") == "updated"

    await world.admin.delete_resource(kind=kind, name=NAMES[kind])
    with pytest.raises(NotFound):
        await only(world, kind)
    with pytest.raises(NotFound):
        await world.admin.delete_resource(kind=kind, name=NAMES[kind])


@pytest.mark.parametrize("kind", EXAMPLES)
async def test_what_cannot_be_written_down_is_not_stored(world: World, kind: Kind) -> None:
    """OPS-02."""
    world.audit.broken = True
    with pytest.raises(Exception, match="can't be written"):
        await world.admin.put_resource(resource=EXAMPLES[kind], mode="create")
    world.audit.broken = False
    with pytest.raises(NotFound):
        await only(world, kind)


async def test_a_user_from_a_file_has_no_password_and_gets_a_link_by_reset(world: World) -> None:
    await world.admin.put_resource(resource=EXAMPLES["user"], mode="create")
    [info] = await world.admin.list_users()
    assert (info.has_password, info.invited_until, info.user.epoch) == (False, None, 1)

    link = await world.admin.reset_user(name="bob")

    assert (await world.accept(link.url)).session.user == "bob"


async def test_a_changed_user_stays_themselves_and_what_was_granted_counts_no_more(
    world: World,
) -> None:
    """AZ-04."""
    alice = await world.alice()
    await world.admin.put_resource(
        resource=UserResource(user=User(name="alice", roles=("auditor",))), mode="upsert"
    )
    [info] = await world.admin.list_users()
    assert info.user.id == alice.session.user_id
    assert (info.user.roles, info.user.traits, info.user.epoch) == (("auditor",), {}, 2)
    assert (await world.proxy.web_session(id=alice.session.id)).user == "alice"


async def test_roles_given_for_a_time_are_not_made_lasting_by_an_edit(world: World) -> None:
    alice = await world.alice(roles=("auditor",))
    request = await world.proxy.acting_for(alice.secret).request_access(
        host="grafana.tport.example.com", reason=""
    )
    await world.admin.approve_request(id=request.id, role="access", ttl=3600, answer="")
    [shown] = await world.admin.get_resources(kind="user", name="alice", secrets=False)
    assert isinstance(shown, UserResource)
    assert shown.user.roles == ("auditor",)

    await world.admin.put_resource(resource=shown, mode="update")

    [info] = await world.admin.list_users()
    assert info.user.roles == ("auditor", "access")
    assert [grant.role for grant in info.user.grants] == ["access"]


async def test_whom_a_provider_vouches_for_does_not_become_local_by_a_file() -> None:
    """tport get users > f; tport create -f f, here or in a cluster that doesn't know them."""
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        [shown] = await world.admin.get_resources(kind="user", name="", secrets=False)
        text = yaml_text([shown])
        [(read, _)], _ = read_resources(text, name="f")

        assert await world.admin.put_resource(resource=read, mode="upsert") == "updated"
        [info] = await world.admin.list_users()
        assert (info.user.origin, info.user.expires is None) == ("oidc/google", False)

        await world.admin.delete_user(name="ann@x.test")
        assert isinstance(read, UserResource)
        unseen = replace(read, revision="")
        with pytest.raises(InvalidRequest, match="signs in by oidc/google") as told:
            await world.admin.put_resource(resource=unseen, mode="upsert")
        assert "created_by.connector" in told.value.hint
        assert await world.admin.list_users() == ()
        await world.alice("ann@x.test")
        with pytest.raises(InvalidRequest, match="signs in by oidc/google"):
            await world.admin.put_resource(resource=unseen, mode="upsert")


async def test_a_role_that_is_not_there_gives_no_user(world: World) -> None:
    with pytest.raises(NotFound, match="no role is called 'acess'"):
        await world.admin.put_resource(
            resource=UserResource(user=User(name="bob", roles=("acess",))), mode="create"
        )


async def test_secrets_come_only_when_asked_for_and_that_is_written_down(world: World) -> None:
    await world.alice()
    [plain] = await world.admin.get_resources(kind="user", name="alice", secrets=False)
    public = await world.admin.get_resources(kind="cert_authority", name="", secrets=False)
    assert "argon2" not in repr(plain)
    assert "PRIVATE" not in repr(public)
    assert "TPX02W" not in world.audit.codes()

    [secret] = await world.admin.get_resources(kind="user", name="alice", secrets=True)
    private = await world.admin.get_resources(kind="cert_authority", name="", secrets=True)

    assert isinstance(secret, UserResource)
    assert secret.secrets is not None
    assert secret.secrets.password_hash.startswith("$argon2id$")
    assert repr(private).count("PRIVATE") == 4 * 2
    assert world.audit.codes().count("TPX02W") == 2


@pytest.mark.parametrize(
    "resource",
    [
        UserResource(
            user=User(name="bob", roles=("editor",)),
            secrets=UserSecrets(id="x", password_hash="$argon2id$mine"),
        ),
        AuthorityResource(name="host", spec={}),
        AppResource(app=replace(GRAFANA, allow_metadata=True)),
        AppResource(app=replace(GRAFANA, uri="http://169.254.169.254/")),
        AppResource(app=replace(GRAFANA, uri="file:///etc/passwd")),
        AppResource(app=replace(GRAFANA, tls=UpstreamTls(client_key="/etc/shadow"))),
        AppResource(
            app=replace(GRAFANA, commands=(DynamicLabel(name="x", command=("/bin/ls",), period=1),))
        ),
        LockResource(lock=Lock(name="../x", target=LockTarget(role="editor"))),
        RoleResource(role=Role(name="x", allow=Conditions(app_labels={"*": ("x",)}))),
    ],
    ids=lambda resource: type(resource).__name__,
)
async def test_what_no_file_may_say_auth_refuses_itself(world: World, resource: Resource) -> None:
    """AG-14, AG-07: a caller that judges nothing gets no further."""
    before = len(world.audit.events)
    with pytest.raises(InvalidRequest):
        await world.admin.put_resource(resource=resource, mode="upsert")
    assert len(world.audit.events) == before


async def test_a_role_goes_when_nobody_has_it_and_it_is_not_tport_s(world: World) -> None:
    await world.admin.put_role(role=DEV)
    await world.alice(roles=("dev",))
    with pytest.raises(InvalidRequest, match="role 'dev' is still given to alice"):
        await world.admin.delete_resource(kind="role", name="dev")
    with pytest.raises(InvalidRequest, match="tport's own"):
        await world.admin.delete_resource(kind="role", name="access")

    await world.admin.delete_user(name="alice")
    await world.admin.delete_resource(kind="role", name="dev")

    assert "T9001I" in world.audit.codes()


async def test_a_token_from_a_file_lets_its_holder_join_until_it_is_removed(world: World) -> None:
    await world.admin.put_resource(resource=EXAMPLES["token"], mode="create")
    joined = await world.anyone.join(
        token=SECRET, csr=make_csr(make_key()), role="app", hostname="h"
    )
    assert joined.host_id

    await world.admin.delete_resource(kind="token", name=f"{SECRET[:8]}…")

    with pytest.raises(Exception, match="unknown token"):
        await world.anyone.join(token=SECRET, csr=make_csr(make_key()), role="app", hostname="h")


async def test_a_token_s_secret_is_in_no_event_and_no_error(world: World) -> None:
    """AG-02: though it is what the token is named by."""
    await world.admin.put_resource(resource=EXAMPLES["token"], mode="create")
    await world.admin.get_resources(kind="token", name=SECRET, secrets=True)
    await world.admin.delete_resource(kind="token", name=SECRET)
    with pytest.raises(NotFound) as gone:
        await world.admin.delete_resource(kind="token", name=SECRET)

    assert SECRET not in f"{gone.value} {gone.value.hint} {world.audit.events}"


async def test_of_two_tokens_that_begin_alike_none_is_removed_by_the_beginning(
    world: World,
) -> None:
    for end in ("0", "1"):
        secret = SECRET[:-1] + end
        token = JoinToken(id=token_id(secret), hint=secret[:8])
        await world.admin.put_resource(resource=TokenResource(token=token), mode="create")

    with pytest.raises(InvalidRequest, match="2 join tokens begin like that"):
        await world.admin.delete_resource(kind="token", name=SECRET[:8])

    assert len(await world.admin.list_tokens()) == 2


async def test_an_expired_token_is_not_taken(world: World) -> None:
    old = replace(EXAMPLES["token"].token, expires=world.clock() - timedelta(1))  # type: ignore[union-attr]
    with pytest.raises(InvalidRequest, match="expired already"):
        await world.admin.put_resource(resource=TokenResource(token=old), mode="create")


@pytest.mark.parametrize("far", ["9999-12-31T23:59:59-05:00", "9999-12-30T20:00:00-12:00"])
async def test_what_ends_when_no_time_can_be_told_is_not_taken(world: World, far: str) -> None:
    """Storage and all who show it count in UTC, where it has no such year."""
    ends = datetime.fromisoformat(far)
    for given in (
        LockResource(lock=Lock(name="l1", target=LockTarget(role="editor"), expires=ends)),
        TokenResource(token=JoinToken(id=token_id(SECRET), hint=SECRET[:8], expires=ends)),
    ):
        with pytest.raises(InvalidRequest, match="too far"):
            await world.admin.put_resource(resource=given, mode="create")


async def test_offers_are_shown_and_are_nobody_s_to_make_or_remove(world: World) -> None:
    [server] = await world.serve(GRAFANA)
    [shown] = await world.admin.get_resources(kind="app_server", name="grafana", secrets=False)

    assert shown == AppServerResource(server=server)
    with pytest.raises(InvalidRequest):
        await world.admin.put_resource(resource=shown, mode="upsert")
    with pytest.raises(InvalidRequest):
        await world.admin.delete_resource(kind="app_server", name="grafana")
    with pytest.raises(NotFound, match="an agent offers it by itself, on") as told:
        await world.admin.delete_resource(kind="app", name="grafana")
    assert told.value.hint == "take it out of that agent's file, or stop the agent"
    with pytest.raises(NotFound, match="no app is called 'jira'"):
        await world.admin.delete_resource(kind="app", name="jira")


async def test_agents_are_told_of_apps_and_those_that_are_pinned_of_theirs_alone(
    world: World, autojump_clock: MockClock
) -> None:
    other = App(name="other", uri="http://localhost:1")
    pinned = Identity(kind="agent", name="agent-2", cluster="example", apps=("other", "dumper"))
    await world.admin.put_resource(resource=AppResource(app=GRAFANA), mode="create")
    async with (
        world.agent.watch() as agent,
        world.service.as_caller(pinned, "192.0.2.7").watch() as limited,
        world.proxy.watch() as proxy,
    ):
        assert AppDefined(app=GRAFANA) in await until_current(agent)
        for changes in (limited, proxy):
            assert not any(isinstance(c, AppDefined) for c in await until_current(changes))
        await world.admin.put_resource(resource=AppResource(app=other), mode="create")
        assert await after(agent) == AppDefined(app=other)
        assert await after(limited) == AppDefined(app=other)
        await world.admin.delete_resource(kind="app", name="grafana")
        assert await after(agent) == AppUndefined(name="grafana")
        await world.admin.delete_resource(kind="app", name="other")
        assert await after(limited) == AppUndefined(name="other")


@pytest.mark.parametrize(
    "user",
    [
        User(name="Alice", roles=("access",)),
        User(name="alice@", roles=("access",), traits={"a b": ("x",)}),
        User(name="alice", roles=("access",), traits={"team": ("x\r\ny",)}),
    ],
    ids=["capital", "trait's name", "trait's value"],
)
async def test_auth_11_what_can_t_be_a_user_is_none_whoever_sends_it(
    world: World, user: User
) -> None:
    with pytest.raises(InvalidRequest):
        await world.admin.put_resource(resource=UserResource(user=user), mode="upsert")
    assert await world.admin.list_users() == ()


async def test_there_are_so_many_apps_and_no_more_and_those_that_are_there_still_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources_module, "MAX_APPS", 1)
    await world.admin.put_resource(resource=AppResource(app=GRAFANA), mode="create")
    further = AppResource(app=replace(GRAFANA, name="further"))
    with pytest.raises(InvalidRequest, match="1 apps already"):
        await world.admin.put_resource(resource=further, mode="upsert")

    changed = AppResource(app=replace(GRAFANA, description="ours"))
    await world.admin.put_resource(resource=changed, mode="upsert")

    [found] = await world.admin.get_resources(kind="app", name="grafana", secrets=False)
    assert isinstance(found, AppResource)
    assert found.app.description == "ours"


async def test_no_authority_is_deleted(world: World) -> None:
    """Everybody who trusts it would be left without."""
    with pytest.raises(InvalidRequest, match="can't be deleted"):
        await world.admin.delete_resource(kind="cert_authority", name="host")


async def test_a_token_of_the_configuration_file_is_changed_there_alone() -> None:
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=(f"{PROXY}:3080",),
        second_factor=OFF,
        static_tokens=(StaticToken(roles=("app",), secret=SECRET),),
    )
    async with open_world(settings=settings) as world:
        token = TokenResource(token=JoinToken(id=token_id(SECRET), hint=SECRET[:8]))
        with pytest.raises(InvalidRequest, match="stands in the configuration file"):
            await world.admin.put_resource(resource=token, mode="upsert")


async def test_a_namesake_of_one_who_was_deleted_is_not_shown_with_their_devices(
    world: World,
) -> None:
    await world.alice()
    factors = Factors(user_id="of one who was deleted", recovery=("x",))
    await world.service.cluster.stores.factors.put("alice", factors)
    [found] = await world.admin.get_resources(kind="user", name="alice", secrets=True)

    assert isinstance(found, UserResource)
    assert found.secrets is not None
    assert found.secrets.factors is None


async def test_there_are_so_many_connectors_at_most_and_those_can_still_be_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources_module, "MAX_CONNECTORS", 1)
    await world.admin.put_resource(resource=OidcResource(connector=GOOGLE), mode="create")
    with pytest.raises(InvalidRequest, match="there are 1 connectors already"):
        await world.admin.put_resource(resource=GithubResource(connector=OCTO), mode="create")
    await world.admin.put_resource(
        resource=OidcResource(connector=replace(GOOGLE, display="Alphabet")), mode="update"
    )


async def test_a_connector_to_github_is_shown_without_its_secret_and_whole_when_asked_for(
    world: World,
) -> None:
    await world.admin.put_resource(resource=GithubResource(connector=OCTO), mode="create")
    [shown] = await world.admin.get_resources(kind="github", name="octo", secrets=False)
    [whole] = await world.admin.get_resources(kind="github", name="octo", secrets=True)
    assert isinstance(shown, GithubResource)
    assert isinstance(whole, GithubResource)
    assert shown.connector == replace(OCTO, client_secret="")
    assert whole.connector == OCTO


async def test_a_file_of_auths_machine_is_no_secret_that_others_may_name(world: World) -> None:
    """Only `tport create` reads files, where it runs, and as who runs it."""
    named = replace(GOOGLE, client_secret="file:///etc/shadow")
    with pytest.raises(InvalidRequest, match="read by tport create alone"):
        await world.admin.put_resource(resource=OidcResource(connector=named), mode="create")
