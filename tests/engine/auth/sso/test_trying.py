"""Trying a connector: somebody signs in, sees what they would be, and nothing is changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.auth.sso.visits import (
    ANN,
    GOOGLE,
    Visit,
    sso_world,
    state_of,
)
from tests.engine.auth.world import CLUSTER, GRAFANA, World
from tests.provider import FakeProvider
from tport.engine.api.sso import SsoDone, SsoRefused
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import NotFound
from tport.engine.types.factor import OFF


async def test_a_test_shows_what_somebody_would_be_and_changes_nothing() -> None:
    async with sso_world(settings=AuthSettings(cluster=CLUSTER, second_factor=OFF)) as (
        world,
        provider,
        _,
    ):
        await world.serve(GRAFANA)
        id_ = (await world.admin.begin_sso_test(connector=GOOGLE)).rpartition("/")[2]
        assert not (await world.admin.sso_test(id=id_)).is_done
        visit = Visit(world)
        url = await world.proxy.begin_sso_test_visit(
            test=id_, browser=visit.browser, address="x.test", remote="192.0.2.1"
        )
        done = await visit.finish(provider.sign_in(url, **ANN))
        assert isinstance(done, SsoDone)
        assert (done.outcome, done.answer) == ("tested", None)

        info = await world.admin.sso_test(id=id_)
        assert info.is_done
        assert (info.problem, info.user, info.roles) == ("", "ann@x.test", ("access",))
        assert info.apps == ("grafana",)
        assert await world.admin.list_users() == ()
        assert await world.admin.get_resources(kind="oidc", name="", secrets=False) == ()


async def test_a_test_shows_what_would_have_given_a_role_where_nothing_did() -> None:
    async with sso_world() as (world, provider, _):
        id_ = (await world.admin.begin_sso_test(connector=GOOGLE)).rpartition("/")[2]
        await come_to_test(world, provider, id_, **ANN | {"groups": ["sales"]})
        info = await world.admin.sso_test(id=id_)
        assert (info.roles, info.mappings) == ((), GOOGLE.claims_to_roles)


async def test_a_test_that_is_done_is_nobody_elses_to_do_again() -> None:
    """Whoever got the address later would put their answer over the one that is being read."""
    async with sso_world() as (world, provider, _):
        id_ = (await world.admin.begin_sso_test(connector=GOOGLE)).rpartition("/")[2]
        late = Visit(world)
        begun = await world.proxy.begin_sso_test_visit(
            test=id_, browser=late.browser, address="x.test", remote="192.0.2.1"
        )
        await come_to_test(world, provider, id_, **ANN)
        bob = ANN | {"sub": "2", "email": "bob@x.test"}
        for answer in (
            provider.sign_in(begun, **bob),
            f"error=access_denied&state={state_of(begun)}",
        ):
            assert isinstance(await late.finish(answer), SsoRefused)
        with pytest.raises(NotFound, match="done already"):
            await come_to_test(world, provider, id_, **bob)
        assert (await world.admin.sso_test(id=id_)).user == "ann@x.test"


async def come_to_test(world: World, provider: FakeProvider, test: str, **person: Any) -> None:
    visit = Visit(world)
    url = await world.proxy.begin_sso_test_visit(
        test=test, browser=visit.browser, address="x.test", remote="192.0.2.1"
    )
    await visit.finish(provider.sign_in(url, **person))


async def test_a_test_that_fails_says_why() -> None:
    async with sso_world() as (world, provider, _):
        id_ = (await world.admin.begin_sso_test(connector=GOOGLE)).rpartition("/")[2]
        visit = Visit(world)
        url = await world.proxy.begin_sso_test_visit(
            test=id_, browser=visit.browser, address="x.test", remote="192.0.2.1"
        )
        provider.claims["aud"] = "another"
        await visit.finish(provider.sign_in(url, **ANN))
        info = await world.admin.sso_test(id=id_)
        assert "aud" in info.problem
