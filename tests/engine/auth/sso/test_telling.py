"""What goes wrong on the way to a provider and back is told to the person, and written down."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import (
    ADDRESS,
    ANN,
    GOOGLE,
    OCTO,
    OTHER,
    Visit,
    session_of,
    sso_world,
    state_of,
)
from tests.engine.auth.test_rivals import Rival
from tests.engine.auth.world import World
from tests.provider import FakeGithub, FakeProvider
from tport.engine.api.sso import SsoRefused
from tport.engine.auth.sso.provider import KEPT
from tport.engine.defaults import LOGIN_BURST
from tport.engine.errors import InvalidRequest, LimitExceeded, Unavailable
from tport.engine.proto.oidc import MAX_ANSWER, ProviderAnswer, ProviderRequest

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


async def test_whoever_declines_is_told_what_the_provider_said() -> None:
    """By its state the answer is the provider's own, so that its words count."""
    async with sso_world(GOOGLE) as (world, _, _):
        visit = Visit(world)
        state = state_of(await visit.begin("/web/apps"))
        query = f"error=access_denied&error_description=no+thanks&state={state}"
        refused = await visit.finish(query)
        assert isinstance(refused, SsoRefused)
        assert refused.problem == "your provider did not sign you in: access_denied: no thanks"
        assert refused.next == "/web/apps"
        assert "no thanks" in written(world)


async def test_answers_that_come_at_once_are_counted_as_those_that_come_in_turn() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        refused: list[SsoRefused] = []

        async def guess(state: int) -> None:
            with suppress(LimitExceeded):
                answer = await Visit(world).finish(f"state={state}&code=1")
                assert isinstance(answer, SsoRefused)
                refused.append(answer)

        async with trio.open_nursery() as nursery:
            for state in range(5 * LOGIN_BURST):
                nursery.start_soon(guess, state)
        assert len(refused) == LOGIN_BURST
        assert world.audit.codes().count("T1001W") == LOGIN_BURST


async def test_an_answer_with_neither_code_nor_error_signs_nobody_in() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        visit = Visit(world)
        refused = await visit.finish(f"state={state_of(await visit.begin())}")
        assert isinstance(refused, SsoRefused)
        assert "it sent no code" in refused.problem


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (503, b"{}", "did not send its keys: it said 503"),
        (200, b"<html>", "keys can't be read"),
        (200, b"[" * 100_000, "keys can't be read"),
        (200, b" " * (MAX_ANSWER + 1), "did not send its keys"),
    ],
)
async def test_a_provider_whose_keys_can_not_be_had_signs_nobody_in(
    status: int, body: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        answers = FakeProvider.__call__

        async def broken(self: FakeProvider, request: ProviderRequest) -> ProviderAnswer:
            if request.url.endswith("/keys"):
                return ProviderAnswer(status=status, body=body)
            return await answers(self, request)

        monkeypatch.setattr(FakeProvider, "__call__", broken)
        refused = await Visit(world).come(provider, **ANN)
        assert isinstance(refused, SsoRefused)
        assert told in refused.problem
        assert told in written(world)


async def test_a_person_whom_others_change_again_and_again_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        rival = Rival(world, "/users/", monkeypatch)
        rival.times = 1000
        refused = await Visit(world).come(provider, **ANN | {"groups": ["dev"]})
        assert isinstance(refused, SsoRefused)
        assert "being changed by many" in refused.problem
        assert 1 < rival.won < 100
        rival.times = 1
        session_of(await Visit(world).come(provider, **ANN | {"groups": ["dev"]}))


# --- Leaving -----------------------------------------------------------------------------------------


async def test_github_has_no_way_out_and_ends_no_sessions_here() -> None:
    github = FakeGithub("octo", acme=["devs"])
    async with sso_world(OCTO, github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        signed = session_of(await visit.finish(github.sign_in(await visit.begin())))
        assert await world.proxy.provider_logout(id=signed.session.id, back="https://x") is None
        with pytest.raises(InvalidRequest, match="tells of no sign-outs"):
            await world.proxy.end_sso_sessions(
                connector="github/octo", logout_token="x", remote="192.0.2.1"
            )
        assert (await world.proxy.web_session(id=signed.session.id)).user == "octo"
