"""What goes wrong on the way to a provider and back is told to the person, and written down."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import (
    ADDRESS,
    ANN,
    GOOGLE,
    OTHER,
    Visit,
    session_of,
    sso_world,
)
from tests.engine.auth.world import World
from tport.engine.api.sso import SsoRefused
from tport.engine.auth.sso.provider import KEPT
from tport.engine.errors import Unavailable

CALLBACK = "/v1/webapi/oidc/callback"


def written(world: World, *, method: str = "oidc/google", user: str = "") -> str:
    """Return what the last event says: that a sign-in by a provider was refused."""
    event = world.audit.events[-1]
    assert (event.type, event.code) == ("user.login", "T1001W")
    assert event.fields["success"] is False
    assert event.fields["remote"] == "192.0.2.1"
    assert (event.fields["method"], event.fields["user"]) == (method, user)
    return str(event.fields["error"])


# --- There -------------------------------------------------------------------------------------------


async def test_a_provider_of_another_issuer_is_written_down_for_who_can_correct_it() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.discovery["issuer"] = OTHER
        with pytest.raises(Unavailable, match="another issuer"):
            await Visit(world).begin()
        assert OTHER in written(world)


async def test_a_provider_that_does_not_answer_is_written_down() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.down = True
        with pytest.raises(Unavailable, match="Google can't be asked"):
            await Visit(world).begin()
        assert "can't be reached" in written(world)


async def test_whoever_can_not_show_anew_who_they_are_is_named_in_it(
    autojump_clock: MockClock,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        signed = session_of(await visit.come(provider, **ANN))
        provider.down = True
        await trio.sleep(KEPT)
        with pytest.raises(Unavailable):
            await world.proxy.begin_sso_proof(
                secret=signed.secret,
                browser=visit.browser,
                address=ADDRESS,
                next="/",
                remote="192.0.2.1",
            )
        assert "can't be reached" in written(world, user="ann@x.test")


# --- And back ----------------------------------------------------------------------------------------


async def test_whoever_declines_at_a_provider_that_forgets_the_state_is_told_what_it_said() -> None:
    """RFC 6749 §4.1.2.1 wants the state beside an error; some providers leave it out."""
    async with sso_world(GOOGLE) as (world, _, _):
        refused = await Visit(world).finish("error=access_denied")
        assert isinstance(refused, SsoRefused)
        assert refused.problem == "your provider did not sign you in: access_denied"
        assert "begin anew" in refused.hint
        assert (refused.connector, refused.display) == ("oidc/google", "Google")
        assert written(world) == "no state; it says access_denied"


async def test_words_that_anybody_may_have_put_into_a_link_are_shown_to_nobody() -> None:
    """Without a state nothing tells that a provider wrote them; they are for the log alone."""
    async with sso_world(GOOGLE) as (world, _, _):
        for query in (
            "error=call+555-0100+now",
            "error=access_denied&error_description=call+555-0100+now",
        ):
            refused = await Visit(world).finish(query)
            assert isinstance(refused, SsoRefused)
            assert "555" not in repr(refused)
        assert "555" not in written(world)


async def test_a_callback_that_no_connector_has_is_no_connectors() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        for path in (CALLBACK, f"{CALLBACK}/nobody", "/v1/webapi/github/callback/google"):
            refused = await Visit(world).finish("error=access_denied", path=path)
            assert isinstance(refused, SsoRefused)
            assert (refused.connector, refused.display) == ("", "")
            assert written(world, method="") == "no state; it says access_denied"


async def test_a_callback_without_a_name_is_the_connectors_whose_address_it_is() -> None:
    one = replace(GOOGLE, redirect_urls=(f"https://{ADDRESS}{CALLBACK}",))
    async with sso_world(one) as (world, _, _):
        refused = await Visit(world).finish("error=access_denied", path=CALLBACK)
        assert isinstance(refused, SsoRefused)
        assert refused.connector == "oidc/google"
        written(world)
