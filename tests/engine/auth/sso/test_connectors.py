"""Connectors as they are taken and kept: what can't be meant is refused, secrets go nowhere else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.auth.sso.visits import (
    ADDRESS,
    ANN,
    GOOGLE,
    OCTO,
    OTHER,
    Visit,
    session_of,
    sso_world,
)
from tests.engine.auth.world import CLUSTER
from tests.provider import SECRET, FakeGithub
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.connector import ClaimMapping
from tport.engine.types.factor import OFF
from tport.engine.types.preference import Preference
from tport.engine.types.resource import GithubResource, OidcResource


async def test_a_connector_to_github_needs_a_secret_and_keeps_the_one_it_has() -> None:
    """GitHub trades no code without one: nobody could sign in."""
    async with sso_world(github=FakeGithub()) as (world, _, _):
        bare = GithubResource(connector=replace(OCTO, client_secret=""))
        with pytest.raises(InvalidRequest, match=r"spec\.client_secret"):
            await world.admin.put_resource(resource=bare, mode="create")
        with pytest.raises(InvalidRequest, match=r"spec\.client_secret"):
            await world.admin.begin_sso_test(connector=bare.connector)
        await world.admin.put_resource(resource=GithubResource(connector=OCTO), mode="create")
        await world.admin.put_resource(resource=bare, mode="update")
        await world.admin.begin_sso_test(connector=bare.connector)


@pytest.mark.parametrize("host", ["evil.test", "tport.example.com", "sub.tport.example.com:3080"])
async def test_browsers_are_sent_back_to_an_address_of_this_cluster_alone(host: str) -> None:
    settings = AuthSettings(
        cluster=CLUSTER, proxy_addrs=("tport.example.com:3080", "b.test:443"), second_factor=OFF
    )
    async with sso_world(settings=settings) as (world, provider, _):
        path = "/v1/webapi/oidc/callback/google"
        urls = (f"https://tport.example.com:3080{path}", f"https://b.test{path}")
        ours = replace(GOOGLE, redirect_urls=urls)
        await world.admin.put_resource(resource=OidcResource(connector=ours), mode="create")
        session_of(await Visit(world).come(provider, **ANN))
        wrong = replace(GOOGLE, redirect_urls=(*urls, f"https://{host}{path}"))
        told = r"spec\.redirect_url.*tport\.example\.com:3080"
        with pytest.raises(InvalidRequest, match=told):
            await world.admin.put_resource(resource=OidcResource(connector=wrong), mode="update")
        with pytest.raises(InvalidRequest, match=told):
            await world.admin.begin_sso_test(connector=wrong)


async def test_two_connectors_have_no_address_in_common_that_browsers_come_back_to() -> None:
    """With one, a provider's answer could be taken for another's."""
    shared = (f"https://{ADDRESS}/v1/webapi/oidc/callback",)
    one = replace(GOOGLE, redirect_urls=shared)
    async with sso_world(one) as (world, provider, _):
        other = replace(GOOGLE, name="other", issuer=OTHER, redirect_urls=shared)
        with pytest.raises(InvalidRequest, match="oidc/google"):
            await world.admin.put_resource(resource=OidcResource(connector=other), mode="create")
        own = replace(other, redirect_urls=())
        await world.admin.put_resource(resource=OidcResource(connector=own), mode="create")
        await world.admin.put_resource(resource=OidcResource(connector=one), mode="update")
        visit = Visit(world)
        done = await visit.finish(
            provider.sign_in(await visit.begin(), **ANN), path="/v1/webapi/oidc/callback"
        )
        session_of(done)


async def test_the_last_provider_stays_while_passwords_do_not_count() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        await world.admin.set_preference(preference=Preference(local_auth=False), revision=0)
        with pytest.raises(InvalidRequest, match="last way to sign in"):
            await world.admin.delete_resource(kind="oidc", name="google")


async def test_a_secret_is_kept_by_a_change_without_one_and_shown_only_when_asked_for() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        [shown] = await world.admin.get_resources(kind="oidc", name="google", secrets=False)
        assert isinstance(shown, OidcResource)
        assert shown.connector.client_secret == ""
        await world.admin.put_resource(
            resource=OidcResource(connector=replace(shown.connector, display="Alphabet")),
            mode="update",
        )
        [whole] = await world.admin.get_resources(kind="oidc", name="google", secrets=True)
        assert isinstance(whole, OidcResource)
        assert whole.connector.client_secret == SECRET
        session_of(await Visit(world).come(provider, **ANN))
        stored = b"".join([item.value for item in await world.backend.range("/connectors")])
        assert SECRET.encode() not in stored


async def test_a_mapping_to_a_role_that_is_not_there_is_refused() -> None:
    wrong = replace(
        GOOGLE, claims_to_roles=(ClaimMapping(claim="groups", value="x", roles=("acess",)),)
    )
    async with sso_world() as (world, _, _):
        with pytest.raises(NotFound, match="acess"):
            await world.admin.put_resource(resource=OidcResource(connector=wrong), mode="create")
