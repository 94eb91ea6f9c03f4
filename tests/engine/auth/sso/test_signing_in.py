"""Signing in by a provider: who comes back becomes whom, with what, and for how long."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import (
    ANN,
    GOOGLE,
    OCTO,
    Visit,
    session_of,
    sso_world,
)
from tests.engine.auth.world import CLUSTER, GRAFANA, PASSWORD
from tests.provider import FakeGithub
from tport.engine.access.totp import PERIOD, parse_secret_text, time_step, totp_code
from tport.engine.api.factors import NextStep, Proof
from tport.engine.api.sso import SsoDone, SsoRefused
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.sso.provider import KEPT
from tport.engine.auth.sso.signing_in import MAX_WANTED
from tport.engine.errors import (
    AccessDenied,
    AttemptOver,
    InvalidRequest,
    NotFound,
    NotSignedIn,
    ProofNeeded,
)
from tport.engine.proto.github import MAX_PAGES, PER_PAGE
from tport.engine.types.connector import ClaimMapping, TeamMapping
from tport.engine.types.event import Event
from tport.engine.types.factor import FactorPolicy, SecondFactor
from tport.engine.types.preference import Preference
from tport.engine.types.resource import OidcResource


async def test_who_comes_from_a_provider_is_signed_in_with_what_it_says_of_them() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        signed = session_of(await Visit(world).come(provider, **ANN))

        assert (await world.proxy.web_session(id=signed.session.id)).user == "ann@x.test"
        [info] = await world.admin.list_users()
        assert info.user.origin == "oidc/google"
        assert info.user.roles == ("access",)
        assert info.user.traits["groups"] == ("dev", "ops")
        assert info.user.traits["email"] == ("Ann@x.test",)
        assert info.user.expires == signed.session.expires
        login = world.audit.events[-1]
        assert (login.type, login.code) == ("user.login", "T1001I")
        assert login.fields["method"] == "oidc/google"


async def test_they_open_what_their_roles_open() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        await world.serve(GRAFANA)
        signed = session_of(await Visit(world).come(provider, **ANN))
        opened = await world.open(signed)
        assert opened.session.user == "ann@x.test"


async def test_where_they_wanted_to_go_comes_back_with_them() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        done = await visit.finish(provider.sign_in(await visit.begin("/web/launch?state=x"), **ANN))
        assert isinstance(done, SsoDone)
        assert done.next == "/web/launch?state=x"


async def test_whom_no_mapping_gives_a_role_is_told_what_came_and_which_claims_count() -> None:
    """Which values would do is for who administers: anybody may have an account at the provider."""
    secret = ClaimMapping(claim="department", value="board-of-zeta", roles=("auditor",))
    connector = replace(GOOGLE, claims_to_roles=(*GOOGLE.claims_to_roles, secret))
    async with sso_world(connector) as (world, provider, _):
        person = ANN | {"groups": ["sales"], "realm": {"roles": ["x"]}}
        refused = await Visit(world).come(provider, **person)
        assert isinstance(refused, SsoRefused)
        assert refused.claims["groups"] == ("sales",)
        assert refused.looked_at == ("groups", "department")
        assert "realm" in refused.left_out
        for hidden in ("board-of-zeta", "auditor", "access", "'dev'"):
            assert hidden not in repr(refused)
        assert await world.admin.list_users() == ()
        failed = world.audit.events[-1]
        assert (failed.type, failed.code) == ("user.login", "T1001W")
        assert "sales" not in repr(failed.fields)  # names of claims, not what they say
        wanted = ["groups=dev: access", "department=board-of-zeta: auditor"]
        assert failed.fields["wanted"] == wanted


async def test_an_event_tells_a_bounded_part_of_what_would_have_given_a_role() -> None:
    many = tuple(
        ClaimMapping(claim="groups", value=f"g{n}", roles=("access",))
        for n in range(MAX_WANTED + 5)
    )
    async with sso_world(replace(GOOGLE, claims_to_roles=many)) as (world, provider, _):
        await Visit(world).come(provider, **ANN)
        wanted = world.audit.events[-1].fields["wanted"]
        assert len(wanted) == MAX_WANTED + 1
        assert wanted[-1] == "and 5 more"


async def test_roles_and_traits_are_what_the_provider_says_now_and_end_what_they_opened() -> None:
    mappings = (
        *GOOGLE.claims_to_roles,
        ClaimMapping(claim="groups", value="ops", roles=("auditor",)),
    )
    async with sso_world(replace(GOOGLE, claims_to_roles=mappings)) as (world, provider, _):
        await world.serve(GRAFANA)
        first = session_of(await Visit(world).come(provider, **ANN))
        opened = await world.open(first)
        session_of(await Visit(world).come(provider, **ANN | {"groups": ["ops"]}))

        [info] = await world.admin.list_users()
        assert info.user.roles == ("auditor",)
        with pytest.raises(NotSignedIn):  # it rested on the role that is gone
            await world.proxy.app_session(id=opened.session.id)
        assert (await world.proxy.web_session(id=first.session.id)).user == "ann@x.test"


async def test_signing_in_again_with_the_same_claims_ends_nothing() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        await world.serve(GRAFANA)
        opened = await world.open(session_of(await Visit(world).come(provider, **ANN)))
        world.pass_time(minutes=5)
        session_of(await Visit(world).come(provider, **ANN))
        assert (await world.proxy.app_session(id=opened.session.id)).user == "ann@x.test"


async def test_many_expressions_for_many_groups_hold_up_nobody_else() -> None:
    """A thousand times the one by the other takes seconds: others have their turn between two of them."""
    expressions = 40
    mappings = tuple(
        ClaimMapping(claim="groups", value=f"^team-{number}-.*$", roles=("access",))
        for number in range(expressions)
    )
    async with sso_world(replace(GOOGLE, claims_to_roles=mappings)) as (world, provider, _):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        visit = Visit(world)
        query = provider.sign_in(await visit.begin(), **ANN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            assert isinstance(await visit.finish(query), SsoRefused)
            nursery.cancel_scope.cancel()
        assert turns >= expressions


async def test_a_local_users_name_is_not_taken() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        await world.alice("ann@x.test")
        refused = await Visit(world).come(provider, **ANN)
        assert isinstance(refused, SsoRefused)
        assert "somebody else" in refused.problem
        assert (await world.sign_in("ann@x.test")).session.user == "ann@x.test"


async def test_an_address_that_was_given_to_another_person_is_another_user() -> None:
    """What the first one had (sessions, devices, favourites) is not the second one's."""
    async with sso_world(GOOGLE) as (world, provider, _):
        first = session_of(await Visit(world).come(provider, **ANN))
        second = session_of(await Visit(world).come(provider, **ANN | {"sub": "2"}))
        assert first.session.user_id != second.session.user_id
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=first.session.id)


async def test_one_person_is_one_user_though_they_come_under_two_names_at_once() -> None:
    """Else a lock on the one would not keep the other out."""
    other = ANN | {"email": "second@x.test"}
    async with sso_world(GOOGLE) as (world, provider, _):
        record, meanwhile = world.audit.record, list[SsoDone | SsoRefused]()

        async def record_late(event: Event) -> None:
            if event.type == "user.create" and not meanwhile:
                meanwhile.append(SsoDone(outcome="signed-in", next="/"))
                meanwhile[0] = await Visit(world).come(provider, **other)
            await record(event)

        world.audit.record = record_late  # type: ignore[method-assign]
        late = await Visit(world).come(provider, **ANN)

        session_of(meanwhile[0])
        assert isinstance(late, SsoRefused)
        assert "you are known here as 'second@x.test'" in late.problem
        assert [info.user.name for info in await world.admin.list_users()] == ["second@x.test"]


async def test_who_was_a_user_before_it_was_kept_who_they_are_there_is_known_from_then_on() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        [item] = await world.service.cluster.stores.subjects.range()
        await world.backend.delete(item.key)

        session_of(await Visit(world).come(provider, **ANN))
        refused = await Visit(world).come(provider, **ANN | {"email": "second@x.test"})

        assert isinstance(refused, SsoRefused)
        assert "you are known here as 'ann@x.test'" in refused.problem


async def test_their_account_ends_with_their_session_and_begins_anew_with_the_next() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        first = session_of(await Visit(world).come(provider, **ANN))
        world.clock.now = first.session.expires
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=first.session.id)
        [info] = await world.admin.list_users()
        assert not info.user.counts(world.clock.now)

        second = session_of(await Visit(world).come(provider, **ANN))
        assert second.session.user_id == first.session.user_id  # favourites and devices stay theirs


async def test_they_have_no_password_and_get_none() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        with pytest.raises(AccessDenied):
            await world.sign_in("ann@x.test", PASSWORD)
        with pytest.raises(InvalidRequest, match="signs in by oidc/google"):
            await world.admin.reset_user(name="ann@x.test")


async def test_an_unverified_address_names_nobody_unless_the_connector_says_so() -> None:
    async with sso_world(GOOGLE, replace(GOOGLE, name="lax", allow_unverified_email=True)) as (
        world,
        provider,
        _,
    ):
        person = ANN | {"email_verified": False}
        refused = await Visit(world).come(provider, **person)
        assert isinstance(refused, SsoRefused)
        assert "vouch" in refused.problem
        session_of(await Visit(world, "oidc/lax").come(provider, **person))


async def test_a_second_factor_of_ours_is_asked_for_where_the_connector_says_so() -> None:
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))
    strict = replace(GOOGLE, cluster_second_factor=True)
    async with sso_world(strict, settings=settings) as (world, provider, _):
        visit = Visit(world)
        done = await visit.come(provider, **ANN)
        assert isinstance(done, SsoDone)
        assert isinstance(done.answer, NextStep)
        assert done.answer.to == "enrol"


async def test_who_knew_the_browser_on_its_way_there_takes_no_step_after_it() -> None:
    """The browser holds what comes next by a value that it got only when it was back."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))
    strict = replace(GOOGLE, cluster_second_factor=True)
    async with sso_world(strict, settings=settings) as (world, provider, _):
        visit = Visit(world, steps=hashlib.sha256(b"given on the way back").hexdigest())
        done = await visit.come(provider, **ANN)
        assert isinstance(done, SsoDone)
        assert isinstance(done.answer, NextStep)

        with pytest.raises(AttemptOver):
            await world.proxy.next_step(browser=visit.browser)
        step = await world.proxy.next_step(browser=visit.steps)
        assert step.attempt == done.answer.attempt


async def test_without_that_the_providers_word_is_enough_where_a_factor_is_required() -> None:
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))
    async with sso_world(GOOGLE, settings=settings) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))


async def test_what_the_provider_did_must_be_what_the_connector_wants() -> None:
    async with sso_world(replace(GOOGLE, acr_values=("mfa", "phr"))) as (world, provider, _):
        refused = await Visit(world).come(provider, **ANN, acr="pwd")
        assert isinstance(refused, SsoRefused)
        session_of(await Visit(world).come(provider, **ANN, acr="phr"))


async def test_user_info_adds_to_the_id_token_and_outweighs_nothing_in_it() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.user_info = {"department": "Labs", "groups": ["dev", "boss"]}
        session_of(await Visit(world).come(provider, **ANN))
        [info] = await world.admin.list_users()
        assert info.user.traits["department"] == ("Labs",)
        assert info.user.traits["groups"] == ("dev", "ops")


async def test_who_vouches_for_an_address_is_who_tells_it() -> None:
    """What the ID token says of an address that it doesn't hold is no word on another one."""
    person: dict[str, Any] = {"sub": "1", "email_verified": True, "groups": ["dev"]}
    async with sso_world(GOOGLE) as (world, provider, _):
        for verified in (False, None):
            provider.user_info = {"email": "ann@x.test", "email_verified": verified}
            refused = await Visit(world).come(provider, **person)
            assert isinstance(refused, SsoRefused)
            assert "does not vouch" in refused.problem
        provider.user_info = {"email": "ann@x.test", "email_verified": True}
        session_of(await Visit(world).come(provider, **person | {"email_verified": False}))


async def test_teams_on_github_give_roles() -> None:
    github = FakeGithub("Octo", acme=["devs"], other=[])
    async with sso_world(OCTO, github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        session_of(await visit.finish(github.sign_in(await visit.begin())))
        [info] = await world.admin.list_users()
        assert (info.user.name, info.user.roles) == ("octo", ("access",))
        assert info.user.traits["github_teams"] == ("acme/devs",)
        assert info.user.traits["github_orgs"] == ("acme", "other")
        assert info.user.traits["logins"] == ("Octo",)


async def test_whoever_is_in_none_of_the_teams_is_refused() -> None:
    github = FakeGithub("octo", acme=["sales"])
    async with sso_world(OCTO, github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        refused = await visit.finish(github.sign_in(await visit.begin()))
        assert isinstance(refused, SsoRefused)
        assert refused.looked_at == ("github_teams",)
        assert world.audit.events[-1].fields["wanted"] == ["github_teams=Acme/devs: access"]


async def test_hundreds_of_teams_are_all_read() -> None:
    github = FakeGithub("octo", acme=[f"t{n}" for n in range(250)] + ["devs"])
    async with sso_world(OCTO, github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        session_of(await visit.finish(github.sign_in(await visit.begin())))


async def test_hundreds_of_organizations_are_all_read() -> None:
    github = FakeGithub("octo", **{f"o{n}": [] for n in range(250)}, acme=[])
    anybody = TeamMapping(organization="acme", team="*", roles=("access",))
    async with sso_world(replace(OCTO, teams_to_roles=(anybody,)), github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        session_of(await visit.finish(github.sign_in(await visit.begin())))


async def test_beyond_thousands_of_teams_it_is_said_that_not_all_were_read() -> None:
    github = FakeGithub("octo", acme=[f"t{n}" for n in range(MAX_PAGES * PER_PAGE)] + ["devs"])
    async with sso_world(OCTO, github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        refused = await visit.finish(github.sign_in(await visit.begin()))
        assert isinstance(refused, SsoRefused)
        assert "only the first 2000" in refused.left_out["github_teams"]


async def test_passwords_can_be_off_once_there_is_a_provider() -> None:
    async with sso_world() as (world, provider, _):
        await world.alice()
        off = Preference(local_auth=False)
        with pytest.raises(InvalidRequest, match="no identity provider"):
            await world.admin.set_preference(preference=off, revision=0)
        await world.admin.put_resource(resource=OidcResource(connector=GOOGLE), mode="create")
        await world.admin.set_preference(preference=off, revision=0)

        choices = await world.proxy.sign_in_choices()
        assert not choices.passwords
        assert [each.display for each in choices.connectors] == ["Google"]
        with pytest.raises(AccessDenied):
            await world.sign_in()
        failed = world.audit.events[-1]
        assert (failed.type, failed.fields["user"]) == ("user.login", "alice")
        assert "local_auth" in failed.fields["error"]
        session_of(await Visit(world).come(provider, **ANN))


async def prove(visit: Visit, secret: str, next_: str = "/") -> str:
    """Begin to prove anew; return where the browser goes."""
    return await visit.world.proxy.begin_sso_proof(
        secret=secret, browser=visit.browser, address="x.test", next=next_, remote="192.0.2.1"
    )


async def test_github_proves_nothing_anew_for_it_asks_nobody_again() -> None:
    github = FakeGithub("octo", acme=["devs"])
    async with sso_world(OCTO, github=github) as (world, _, _):
        visit = Visit(world, "github/octo")
        signed = session_of(await visit.finish(github.sign_in(await visit.begin())))
        with pytest.raises(NotFound):
            await prove(visit, signed.secret)
        with pytest.raises(AccessDenied, match="sign out, and sign in anew"):
            await world.proxy.acting_for(signed.secret).begin_proof()


@pytest.mark.parametrize("policy", ["off", "optional"])
async def test_a_second_factor_on_top_is_asked_for_whatever_passwords_need(
    policy: SecondFactor,
) -> None:
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=("tport.example.com:3080",),
        second_factor=FactorPolicy.from_word(policy),
    )
    strict = replace(GOOGLE, cluster_second_factor=True)
    async with sso_world(strict, settings=settings) as (world, provider, _):
        visit = Visit(world)
        done = await visit.come(provider, **ANN)
        if policy == "off":  # there is none to show: nobody is let in by a contradiction
            assert isinstance(done, SsoRefused)
            return
        assert isinstance(done, SsoDone)
        assert isinstance(done.answer, NextStep)
        assert not done.answer.may_skip
        with pytest.raises(AccessDenied):
            await world.proxy.skip_enrolment(
                browser=visit.browser,
                attempt=done.answer.attempt,
                remote="192.0.2.1",
                user_agent="UA",
            )


async def test_who_must_prove_it_anew_does_so_at_the_provider() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        signed = session_of(await visit.come(provider, **ANN))
        world.pass_time(minutes=6)
        mine = world.proxy.acting_for(signed.secret)
        with pytest.raises(AccessDenied):
            await mine.check_fresh_proof()
        step = await mine.begin_proof()
        assert step.kinds == ("provider",)

        url = await prove(visit, signed.secret, "/web/users")
        assert "prompt=login" in url
        assert "max_age=0" in url
        done = await visit.finish(provider.sign_in(url, **ANN))
        assert isinstance(done, SsoDone)
        assert (done.outcome, done.next) == ("proven", "/web/users")
        await mine.check_fresh_proof()


async def test_auth_12_a_sign_in_by_a_provider_that_asked_for_nothing_proves_nothing_anew() -> None:
    """AUTH-12. Who finds a browser signed in at its provider gets a session, but nothing that wants a proof."""
    async with sso_world(GOOGLE) as (world, provider, _):
        now = int(world.clock.now.timestamp())
        for signed_in_then, counts in (
            (now - 4 * 60, True),
            (now - 6 * 60, False),
            (now - 86400, False),
            (now + 30, True),  # its clock is a little ahead of ours
            (now + 3600, False),
            ("yesterday", False),
        ):
            done = await Visit(world).come(provider, **ANN, auth_time=signed_in_then)
            mine = world.proxy.acting_for(session_of(done).secret)
            if counts:
                await mine.check_fresh_proof()
            else:
                with pytest.raises(ProofNeeded):
                    await mine.check_fresh_proof()

        done = await Visit(world).come(provider, **ANN, auth_time=now - 4 * 60)
        world.pass_time(minutes=2)  # six since they showed it, though two since they came
        with pytest.raises(ProofNeeded):
            await world.proxy.acting_for(session_of(done).secret).check_fresh_proof()


async def test_auth_12_a_provider_that_does_not_say_when_is_believed_for_five_minutes() -> None:
    """AUTH-12. Google doesn't, and can't be asked to have it shown anew: docs/sso.md says so."""
    async with sso_world(GOOGLE) as (world, provider, _):
        done = await Visit(world).come(provider, **ANN, auth_time=None)
        mine = world.proxy.acting_for(session_of(done).secret)
        await mine.check_fresh_proof()

        world.pass_time(minutes=5)
        with pytest.raises(ProofNeeded):
            await mine.check_fresh_proof()


async def test_auth_12_of_who_has_a_device_here_that_alone_is_a_proof() -> None:
    """AUTH-12. Whatever their provider says."""
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=("tport.example.com:3080",),
        second_factor=FactorPolicy.from_word("optional"),
    )
    async with sso_world(GOOGLE, settings=settings) as (world, provider, _):
        first = session_of(await Visit(world).come(provider, **ANN))
        mine = world.proxy.acting_for(first.secret)
        step = await mine.begin_device()
        assert step.totp is not None
        phone = parse_secret_text(step.totp.secret)
        code = totp_code(phone, time_step(world.clock.now))
        proof = Proof(kind="totp", value=code)
        await mine.add_device(attempt=step.attempt, proof=proof, name="phone")

        again = session_of(await Visit(world).come(provider, **ANN, auth_time=None))
        mine = world.proxy.acting_for(again.secret)
        with pytest.raises(ProofNeeded):
            await mine.check_fresh_proof()
        world.pass_time(seconds=PERIOD)
        step = await mine.begin_proof()
        proof = Proof(kind="totp", value=totp_code(phone, time_step(world.clock.now)))
        await mine.prove_again(attempt=step.attempt, proof=proof, known="")
        await mine.check_fresh_proof()


async def test_somebody_else_there_proves_nothing_here() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        signed = session_of(await visit.come(provider, **ANN))
        world.pass_time(minutes=6)
        mine = world.proxy.acting_for(signed.secret)
        url = await prove(visit, signed.secret)
        refused = await visit.finish(provider.sign_in(url, **ANN | {"sub": "2"}))
        assert isinstance(refused, SsoRefused)
        with pytest.raises(AccessDenied):
            await mine.check_fresh_proof()


async def test_an_old_sign_in_at_the_provider_proves_nothing_anew() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        signed = session_of(await visit.come(provider, **ANN))
        world.pass_time(minutes=6)
        url = await prove(visit, signed.secret)
        signed_in_then = int(signed.session.created.timestamp())
        refused = await visit.finish(provider.sign_in(url, **ANN, auth_time=signed_in_then))
        assert isinstance(refused, SsoRefused)


async def test_leaving_leads_to_the_providers_own_way_out(autojump_clock: MockClock) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        signed = session_of(await Visit(world).come(provider, **ANN))
        way = await world.proxy.provider_logout(id=signed.session.id, back="https://x.test/out")
        assert way is not None
        assert way.display == "Google"
        assert way.url.startswith("https://id.test/logout?")
        assert "id_token_hint=" in way.url
        provider.down = True
        await trio.sleep(KEPT - 1)
        assert await world.proxy.provider_logout(id=signed.session.id, back="") is not None  # known
        await trio.sleep(2)
        assert await world.proxy.provider_logout(id=signed.session.id, back="") is None
