"""A cluster that begins with what another one was dumped to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.authenticator import Authenticator
from tests.engine.auth.sso.visits import (
    ANN,
    GOOGLE,
    Transport,
    Visit,
    session_of,
    sso_world,
)
from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import CLUSTER, GRAFANA, PROXY, MemoryAudit, World, open_world
from tests.fakes import WallClock
from tport.engine.api.answers import SignedIn
from tport.engine.api.sso import SsoRefused
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.resources.bootstrap import bootstrap
from tport.engine.auth.seal import KEY_BYTES, Seal
from tport.engine.auth.service import open_auth_service
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.config.kinds import DUMPED
from tport.engine.config.resource_text import yaml_text
from tport.engine.errors import ConfigError
from tport.engine.storage.memory import open_memory_backend
from tport.engine.types.factor import ON, FactorPolicy
from tport.engine.types.lock import LockTarget
from tport.engine.types.preference import Preference
from tport.engine.types.resource import AppResource, AppServerResource, Resource
from tport.engine.types.role import Role

SEAL = bytes(range(KEY_BYTES))  # another than the first cluster's, which is random


async def dumped(world: World) -> str:
    found: list[Resource] = []
    for kind in DUMPED:
        found += await world.admin.get_resources(kind=kind, name="", secrets=True)
    return yaml_text(found)


@asynccontextmanager
async def begun(
    text: str, clock: WallClock, folder: Path, transport: Transport | None = None
) -> AsyncIterator[World]:
    """Open a second cluster over an empty backend that begins with a dump."""
    file = folder / "dump.yaml"
    file.write_text(text)
    audit = MemoryAudit()
    settings = AuthSettings(
        cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",), second_factor=ON, seal_key=SEAL
    )
    steady = SteadyClock(clock)
    async with open_memory_backend(steady) as backend:
        await bootstrap(file, cluster=CLUSTER, backend=backend, seal=Seal(SEAL), now=clock())
        async with open_auth_service(
            backend=backend, audit=audit, clock=steady, settings=settings, transport=transport
        ) as service:
            yield World(service, clock, audit, backend)


def over_there(world: World, visitor: Visitor) -> Visitor:
    """Return the same person, with the same phone and paper, at another cluster."""
    return Visitor(world, name=visitor.name, secret=visitor.secret, codes=visitor.codes)


async def with_people(world: World) -> tuple[Visitor, Visitor, Authenticator]:
    alice, bob, passkey = Visitor(world), Visitor(world, name="bob"), authenticator()
    await alice.with_app()
    await bob.with_passkey(passkey)
    return alice, bob, passkey


async def test_people_sign_in_as_before_with_every_factor_and_authorities_go_on(
    tmp_path: Path,
) -> None:
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",), second_factor=ON)
    async with open_world(settings=settings) as world:
        alice, bob, passkey = await with_people(world)
        await world.admin.put_role(role=Role(name="dev"))
        await world.admin.put_resource(resource=AppResource(app=GRAFANA), mode="create")
        await world.admin.create_lock(target=LockTarget(role="dev"), message="m", ttl=0)
        await world.admin.create_token(roles=("app",), ttl=600, app_name="", app_uri="", max_uses=3)
        text = await dumped(world)
        pin, authorities = world.service.pin, world.service.authorities
        tokens, locks = await world.admin.list_tokens(), await world.admin.list_locks()
        clock = world.clock

    async with begun(text, clock, tmp_path) as world:
        assert (world.service.pin, world.service.authorities) == (pin, authorities)
        assert [t.id for t in await world.admin.list_tokens()] == [t.id for t in tokens]
        [lock] = await world.admin.list_locks()
        assert (lock.name, lock.target, lock.message) == (locks[0].name, locks[0].target, "m")
        [app] = await world.admin.get_resources(kind="app", name="", secrets=False)
        assert isinstance(app, AppResource)
        assert app.app == GRAFANA
        there = over_there(world, alice)
        assert (await there.sign_in()).session.user == "alice"
        spent = there.codes[0]
        by_paper = await there.prove(await there.asked(), "recovery", spent)
        assert isinstance(by_paper, SignedIn)
        there = over_there(world, bob)
        step = await there.asked()
        by_key = await there.prove(step, "webauthn", passkey.get(step.webauthn))
        assert isinstance(by_key, SignedIn)
        assert await dumped(world) != ""


async def test_whom_a_provider_vouched_for_is_who_they_were_once_they_sign_in_there_again(
    tmp_path: Path,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        signed = session_of(await Visit(world).come(provider, **ANN))
        text = await dumped(world)
        clock = world.clock

    async with begun(text, clock, tmp_path, Transport(provider)) as world:
        [info] = await world.admin.list_users()
        assert (info.user.name, info.user.origin) == ("ann@x.test", "oidc/google")
        assert not info.user.counts(clock.now)
        renamed = await Visit(world).come(provider, **ANN | {"email": "nan@x.test"})
        assert isinstance(renamed, SsoRefused)  # as they would have been there
        again = session_of(await Visit(world).come(provider, **ANN))
        assert again.session.user_id == signed.session.user_id


async def test_a_dump_s_second_factors_are_sealed_anew(tmp_path: Path) -> None:
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",), second_factor=ON)
    async with open_world(settings=settings) as world:
        await with_people(world)
        text, clock = await dumped(world), world.clock
    async with begun(text, clock, tmp_path) as world:
        [secret] = [
            line.partition("secret: ")[2]
            for line in text.splitlines()
            if line.strip().startswith("secret: ")
        ]
        stored = b"".join(item.value for item in await world.backend.range("/"))
        assert secret
        assert secret.encode() not in stored


async def test_a_cluster_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    async with open_world() as first:
        text = await dumped(first)
    file = tmp_path / "dump.yaml"
    file.write_text(text)
    async with open_world() as world:
        before = [(item.key, item.value) for item in await world.backend.range("/")]

        await bootstrap(
            file, cluster=CLUSTER, backend=world.backend, seal=Seal(SEAL), now=world.clock()
        )

        assert [(item.key, item.value) for item in await world.backend.range("/")] == before


async def faults(text: str, folder: Path, cluster: str = CLUSTER) -> str:
    """Return why a dump isn't taken; nothing of it was written."""
    file = folder / "dump.yaml"
    file.write_text(text)
    clock = WallClock()
    steady = SteadyClock(clock)
    async with open_memory_backend(steady) as backend:
        with pytest.raises(ConfigError) as refused:
            await bootstrap(file, cluster=cluster, backend=backend, seal=Seal(SEAL), now=clock())
        assert await backend.range("/") == []
    return str(refused.value)


async def test_what_cannot_be_taken_is_said_with_its_place_before_anything_is_written(
    tmp_path: Path,
) -> None:
    async with open_world() as world:
        await world.alice()
        text = await dumped(world)
    file = tmp_path / "dump.yaml"
    documents = text.split("---\n")

    other = await faults(text, tmp_path, cluster="another")
    assert other.startswith(f"{file}:1:1: cert_authority 'host' is of cluster 'example'")
    assert "not host" in await faults("---\n".join(documents[1:]), tmp_path)
    weak = await faults(text.replace("$argon2id$", "$md5$"), tmp_path)
    assert "user 'alice' local_auth.password_hash is no Argon2id hash" in weak
    broken = await faults(text.replace("BEGIN CERTIFICATE", "BEGIN NOTHING"), tmp_path)
    assert "cert_authority" in broken
    assert ":3:7: spec:" in await faults("kind: role\nmetadata: {name: x}\nspec: []\n", tmp_path)
    assert "there is no resource in it" in await faults("", tmp_path)


async def test_how_people_sign_in_goes_along_where_somebody_chose_it(tmp_path: Path) -> None:
    policy = FactorPolicy.from_word("otp")
    chosen = Preference(second_factor=policy, web_idle_timeout=7200, local_auth=True)
    async with open_world() as world:
        await world.admin.set_preference(preference=chosen, revision=0)
        text, clock = await dumped(world), world.clock
    async with begun(text, clock, tmp_path) as world:
        assert (await world.admin.get_preference()).in_force == chosen


CONNECTOR = """\
kind: oidc
version: v3
metadata: {name: NAME}
spec:
  issuer_url: https://id.test
  client_id: c
  redirect_url: https://tport.example.com:3080/v1/webapi/oidc/callback
  claims_to_roles:
  - {claim: groups, value: dev, roles: [access]}
"""


async def test_two_connectors_of_a_file_have_no_callback_in_common(tmp_path: Path) -> None:
    """An answer of one provider could be taken for the other's, as `tport create` says, too."""
    one, other = (CONNECTOR.replace("NAME", name) for name in ("google", "okta"))
    told = await faults(f"{one}---\n{other}", tmp_path)
    assert told.startswith(
        f"{tmp_path / 'dump.yaml'}:11:1: oidc 'okta' spec.redirect_url: oidc/google"
    )
    own = other.replace("/callback\n", "/callback/okta\n")
    async with begun(f"{one}---\n{own}", WallClock(), tmp_path) as world:
        found = await world.admin.get_resources(kind="oidc", name="", secrets=False)
        assert len(found) == 2


async def test_what_nobody_makes_and_factors_of_nobody_are_refused(tmp_path: Path) -> None:
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",), second_factor=ON)
    async with open_world(settings=settings) as world:
        await Visitor(world).with_app()
        text = await dumped(world)
        [server] = await world.serve(GRAFANA)
        offered = yaml_text([AppServerResource(server=server)])
    assert "app_server" in await faults(offered, tmp_path)
    without = "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith("    id: ")
    )
    assert without != text
    assert "local_auth.id" in await faults(without, tmp_path)
