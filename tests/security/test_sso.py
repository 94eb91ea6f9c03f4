"""AUTH-14: what an identity provider's answer must be, else nobody is signed in and it is written down."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import (
    ANN,
    GOOGLE,
    OTHER,
    Visit,
    session_of,
    sso_world,
    state_of,
)
from tests.engine.auth.visitor import Visitor
from tests.engine.auth.world import CLUSTER, World
from tests.provider import CLIENT, FakeProvider
from tport.engine.api.factors import NextStep
from tport.engine.api.sso import SsoDone, SsoRefused
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.sso.provider import KEYS_AGAIN
from tport.engine.errors import AccessDenied, AttemptOver, NotFound, NotSignedIn, Unavailable
from tport.engine.pki.id_token import BACK_CHANNEL
from tport.engine.types.connector import ClaimMapping
from tport.engine.types.event import Event
from tport.engine.types.lock import LockTarget
from tport.engine.types.resource import OidcResource

Forge = Callable[[FakeProvider, dict[str, Any]], str]


def unsigned(provider: FakeProvider, claims: dict[str, Any]) -> str:
    parts = [{"alg": "none", "kid": "one"}, claims]
    return ".".join([*(_b64(json.dumps(part).encode()) for part in parts), ""])


def by_public_key(provider: FakeProvider, claims: dict[str, Any]) -> str:
    """Sign with HS256 and what everybody has: the public key's own bytes."""
    public = provider.keys["one"].public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _hs256(claims, secret)


def by_client_secret(provider: FakeProvider, claims: dict[str, Any]) -> str:
    return _hs256(claims, b"the client's secret")


def by_own_key(provider: FakeProvider, claims: dict[str, Any]) -> str:
    """Sign with a key that the token brings along, and says to use."""
    key = rsa.generate_private_key(65537, 2048)
    own = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwt.encode(
        claims, key, "RS256", headers={"kid": "one", "jwk": own, "jku": f"{OTHER}/keys"}
    )


def by_another_algorithm(provider: FakeProvider, claims: dict[str, Any]) -> str:
    """Sign by an algorithm that the provider doesn't say it uses."""
    return jwt.encode(claims, provider.keys["one"], "RS512", headers={"kid": "one"})


def changed_after_signing(provider: FakeProvider, claims: dict[str, Any]) -> str:
    head, _, signature = provider.sign(claims).split(".")
    return f"{head}.{_b64(json.dumps(claims | {'sub': '2'}).encode())}.{signature}"


def critical(provider: FakeProvider, claims: dict[str, Any]) -> str:
    return provider.sign(claims, crit=["exp"])


def of_another_type(provider: FakeProvider, claims: dict[str, Any]) -> str:
    return provider.sign(claims, typ="at+jwt")


@pytest.mark.parametrize(
    "forge",
    [
        unsigned,
        by_public_key,
        by_client_secret,
        by_own_key,
        by_another_algorithm,
        changed_after_signing,
        critical,
        of_another_type,
    ],
)
async def test_auth_14_an_id_token_counts_by_the_providers_own_key_and_algorithm(
    forge: Forge,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.forge = lambda claims: forge(provider, claims)
        await refused(Visit(world), provider, "ID token")


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"iss": OTHER}, "iss"),
        ({"iss": "https://id.test/"}, "iss"),
        ({"aud": "another-client"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": [CLIENT, "another-client"]}, "azp"),
        ({"azp": "another-client"}, "azp"),
        ({"nonce": "of another sign-in"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"exp": 1_000_000_000}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": "never"}, "exp"),
        ({"iat": 4_000_000_000}, "iat"),
        ({"nbf": 4_000_000_000}, "nbf"),
        ({"iat": None}, "iat"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "at_hash"),
    ],
    ids=str,
)
async def test_auth_14_an_id_token_is_for_this_client_this_browser_and_this_moment(
    claims: dict[str, Any], word: str
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.claims = claims
        await refused(Visit(world), provider, word)


async def test_auth_14_a_code_and_a_state_count_once() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        query = provider.sign_in(await visit.begin(), **ANN)
        session_of(await visit.finish(query))
        again = await visit.finish(query)
        assert isinstance(again, SsoRefused)
        check_written(world, "twice")


async def test_auth_14_a_code_of_another_sign_in_is_none() -> None:
    """PKCE: whoever stole a code can't have it traded by a browser of their own."""
    async with sso_world(GOOGLE) as (world, provider, _):
        victim, thief = Visit(world), Visit(world)
        stolen = dict(parse_qsl(provider.sign_in(await victim.begin(), **ANN)))
        own = state_of(await thief.begin())
        done = await thief.finish(urlencode(stolen | {"state": own}))
        assert isinstance(done, SsoRefused)
        check_written(world, "PKCE")


async def test_auth_14_nobody_is_signed_in_as_whoever_sent_the_link() -> None:
    """Login CSRF: an answer that another browser asked for."""
    async with sso_world(GOOGLE) as (world, provider, _):
        attacker, victim = Visit(world), Visit(world)
        query = provider.sign_in(await attacker.begin(), **ANN)
        done = await victim.finish(query)
        assert isinstance(done, SsoRefused)
        check_written(world, "another browser")
        assert isinstance(await attacker.finish(query), SsoRefused)  # spent, whoever showed it
        check_written(world, "no such state")


@pytest.mark.parametrize(
    ("state", "word"), [("x" * 43, "no such state"), ("", "no state"), (None, "no state")]
)
async def test_auth_14_an_answer_to_nothing_that_was_asked_is_none(
    state: str | None, word: str
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        told = dict(parse_qsl(provider.sign_in(await visit.begin(), **ANN)))
        told |= {} if state is None else {"state": state}
        if state is None:
            del told["state"]
        assert isinstance(await visit.finish(urlencode(told)), SsoRefused)
        check_written(world, word)
        assert provider.asked.count("/token") == 0


async def test_auth_14_an_answer_of_another_provider_is_none() -> None:
    """Mix-up: RFC 9207's `iss`, and for who doesn't send it an address of each connector's own."""
    other = replace(GOOGLE, name="other", issuer=OTHER)
    async with sso_world(GOOGLE, other) as (world, provider, evil):
        visit = Visit(world)
        asked = provider.sign_in(await visit.begin(), **ANN)
        told = dict(parse_qsl(asked))
        done = await visit.finish(urlencode(told | {"iss": evil.issuer}))
        assert isinstance(done, SsoRefused)
        check_written(world, "another provider")
        assert evil.asked.count("/token") == provider.asked.count("/token") == 0

        asked = provider.sign_in(await visit.begin(), **ANN)
        done = await visit.finish(asked, path="/v1/webapi/oidc/callback/other")
        assert isinstance(done, SsoRefused)
        check_written(world, "another connector's callback")
        assert provider.asked.count("/token") == 0

        told = dict(parse_qsl(provider.sign_in(await visit.begin(), **ANN)))
        del told["iss"]  # this provider says that it sends it
        assert isinstance(await visit.finish(urlencode(told)), SsoRefused)
        check_written(world, "which provider it is of")


async def test_auth_14_a_parameter_that_comes_twice_is_refused() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        query = provider.sign_in(await visit.begin(), **ANN)
        assert isinstance(await visit.finish(f"{query}&code=x"), SsoRefused)
        check_written(world, "code")


async def test_auth_14_an_answer_counts_for_ten_minutes() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        visit = Visit(world)
        query = provider.sign_in(await visit.begin(), **ANN)
        world.pass_time(minutes=10)
        assert isinstance(await visit.finish(query), SsoRefused)
        check_written(world, "state")


async def test_auth_14_a_discovery_document_is_of_the_issuer_that_was_asked() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.discovery["issuer"] = OTHER
        with pytest.raises(Exception, match="another issuer"):
            await Visit(world).begin()


@pytest.mark.parametrize("url", ["http://id.test/token", "file:///etc/passwd", "javascript:1"])
async def test_auth_14_a_provider_leads_nowhere_but_over_https(url: str) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.discovery["token_endpoint"] = url
        with pytest.raises(Exception, match="address that is none"):
            await Visit(world).begin()


async def test_auth_14_user_info_of_somebody_else_is_no_users() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.user_info = {"sub": "2"}
        await refused(Visit(world), provider, "somebody else")


async def test_auth_14_a_provider_with_a_new_key_is_asked_for_it_and_not_by_each_forged_token(
    autojump_clock: MockClock,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        provider.keys = {"two": ec.generate_private_key(ec.SECP256R1())}
        provider.algorithm = "ES256"
        provider.forge = lambda claims: provider.sign(claims, "two")
        before = provider.asked.count("/keys")
        await refused(Visit(world), provider, "no key")  # they were asked for just now
        assert provider.asked.count("/keys") == before
        await trio.sleep(KEYS_AGAIN)
        session_of(await Visit(world).come(provider, **ANN))


async def test_auth_14_errors_and_audit_hold_no_token_code_or_secret() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.claims["aud"] = "another"
        visit = Visit(world)
        query = provider.sign_in(await visit.begin(), **ANN)
        told = await visit.finish(query)
        said = repr(told) + repr(world.audit.events)
        for secret in ("access-", "eyJ", "the client's secret", *dict(parse_qsl(query)).values()):
            if secret != provider.issuer:
                assert secret not in said, secret


# --- Back-channel logout -------------------------------------------------------------------------------


async def test_a_logout_token_ends_the_sessions_of_its_subject_and_nothing_else() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        ann = session_of(await Visit(world).come(provider, **ANN))
        bob = session_of(
            await Visit(world).come(provider, **ANN | {"sub": "2", "email": "bob@x.test"})
        )
        await world.proxy.end_sso_sessions(
            connector="oidc/google",
            logout_token=provider.sign(logout_claims(provider, sub="1")),
            remote="192.0.2.1",
        )
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=ann.session.id)
        assert (await world.proxy.web_session(id=bob.session.id)).user == "bob@x.test"


async def test_who_left_their_provider_between_its_word_and_the_second_step_gets_no_session() -> (
    None
):
    """What rests on the provider's word ends with it, whether or not it is a session yet."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))
    strict = replace(GOOGLE, cluster_second_factor=True)
    async with sso_world(strict, settings=settings) as (world, provider, _):
        ann, bob = Visit(world), Visit(world)
        begun = await ann.come(provider, **ANN)
        await bob.come(provider, **ANN | {"sub": "2", "email": "bob@x.test"})
        assert isinstance(begun, SsoDone)
        assert isinstance(begun.answer, NextStep)
        await world.proxy.end_sso_sessions(
            connector="oidc/google",
            logout_token=provider.sign(logout_claims(provider, sub="1")),
            remote="192.0.2.1",
        )
        with pytest.raises(AttemptOver):
            await world.proxy.next_step(browser=ann.browser)
        assert (await world.proxy.next_step(browser=bob.browser)).user == "bob@x.test"


async def test_who_leaves_their_provider_while_the_second_step_is_written_down_gets_no_session() -> (
    None
):
    """Between the attempt and the session there is no moment in which a sign-out finds neither."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))
    strict = replace(GOOGLE, cluster_second_factor=True)
    async with sso_world(strict, settings=settings) as (world, provider, _):
        ann, record = Visitor(world), world.audit.record
        begun = await Visit(world, cookie=ann.cookie).come(provider, **ANN)
        assert isinstance(begun, SsoDone)
        step = begun.answer
        assert isinstance(step, NextStep)
        assert step.totp
        ann.secret = step.totp.secret

        async def record_slowly(event: Event) -> None:
            if event.type == "user.login":
                await world.proxy.end_sso_sessions(
                    connector="oidc/google",
                    logout_token=provider.sign(logout_claims(provider, sub="1")),
                    remote="192.0.2.1",
                )
            await record(event)

        world.audit.record = record_slowly  # type: ignore[method-assign]
        with pytest.raises(AttemptOver):
            await ann.enrol(step, "totp", ann.code())
        assert await world.backend.range("/sessions/web/") == []


async def test_a_logout_token_of_a_session_that_nobody_has_ends_nobodys() -> None:
    """Some providers name sessions in logout tokens and in no ID token: of whom they speak isn't known."""
    async with sso_world(GOOGLE) as (world, provider, _):
        ann = session_of(await Visit(world).come(provider, **ANN))
        for claims, lives in (({"sid": "a"}, True), ({"sub": "1", "sid": "a"}, False)):
            token = provider.sign(logout_claims(provider, **claims))
            await world.proxy.end_sso_sessions(
                connector="oidc/google", logout_token=token, remote="192.0.2.1"
            )
            stored = await world.service.cluster.stores.web_sessions.find(ann.session.id)
            assert (stored is not None) is lives


async def test_a_logout_token_of_a_session_ends_that_one_alone() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        here = session_of(await Visit(world).come(provider, **ANN, sid="a"))
        there = session_of(await Visit(world).come(provider, **ANN, sid="b"))
        token = provider.sign(logout_claims(provider, sid="a"))
        await world.proxy.end_sso_sessions(
            connector="oidc/google", logout_token=token, remote="192.0.2.1"
        )
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=here.session.id)
        await world.proxy.web_session(id=there.session.id)


@pytest.mark.parametrize(
    "change",
    [
        {"events": {}},
        {"events": None},
        {"nonce": "x"},
        {"sub": None},
        {"aud": "another"},
        {"iss": OTHER},
        {"exp": 1_000_000_000},
    ],
    ids=str,
)
async def test_auth_14_what_is_no_logout_token_ends_nothing(change: dict[str, Any]) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        ann = session_of(await Visit(world).come(provider, **ANN))
        claims = logout_claims(provider, sub="1") | change
        token = provider.sign({name: v for name, v in claims.items() if v is not None})
        with pytest.raises(AccessDenied):
            await world.proxy.end_sso_sessions(
                connector="oidc/google", logout_token=token, remote="192.0.2.1"
            )
        await world.proxy.web_session(id=ann.session.id)
        assert world.audit.events[-1].type == "auth.failed"


async def test_auth_14_a_logout_token_that_another_key_signed_ends_nothing() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        ann = session_of(await Visit(world).come(provider, **ANN))
        forged = FakeProvider(provider.issuer, now=provider.now).sign(
            logout_claims(provider, sub="1")
        )
        with pytest.raises(AccessDenied):
            await world.proxy.end_sso_sessions(
                connector="oidc/google", logout_token=forged, remote="192.0.2.1"
            )
        await world.proxy.web_session(id=ann.session.id)
        assert world.audit.events[-1].type == "auth.failed"


async def test_auth_14_whoever_is_called_otherwise_there_is_no_other_user_here() -> None:
    """A lock on the old name, and the second factor that it has, would be passed by."""
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        await world.admin.create_lock(target=LockTarget(user="ann@x.test"), message="", ttl=0)
        renamed = await Visit(world).come(provider, **ANN | {"email": "nan@x.test"})
        assert isinstance(renamed, SsoRefused)
        assert "known here as" in renamed.problem
        assert [info.user.name for info in await world.admin.list_users()] == ["ann@x.test"]


async def test_auth_14_whoever_is_locked_is_not_let_in_nor_replaced() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        first = session_of(await Visit(world).come(provider, **ANN))
        await world.admin.create_lock(target=LockTarget(user="ann@x.test"), message="", ttl=0)
        for sub in ("1", "2"):
            assert isinstance(await Visit(world).come(provider, **ANN | {"sub": sub}), SsoRefused)
        [info] = await world.admin.list_users()
        assert info.user.id == first.session.user_id


async def test_auth_14_an_address_that_the_provider_does_not_vouch_for_gives_no_role() -> None:
    by_mail = replace(
        GOOGLE,
        username_claim="preferred_username",
        claims_to_roles=(ClaimMapping(claim="email", value="*@x.test", roles=("access",)),),
    )
    async with sso_world(by_mail) as (world, provider, _):
        person = {"sub": "9", "preferred_username": "mallory", "email": "boss@x.test"}
        assert isinstance(await Visit(world).come(provider, **person), SsoRefused)
        session_of(await Visit(world).come(provider, **person, email_verified=True))


async def test_auth_14_a_refusal_tells_nobody_which_values_give_which_roles() -> None:
    """At many providers anybody may have an account, and would read who administers by what."""
    hidden = ClaimMapping(claim="groups", value="hq-admins", roles=("editor",))
    async with sso_world(replace(GOOGLE, claims_to_roles=(hidden,))) as (world, provider, _):
        done = await Visit(world).come(provider, **ANN)
        assert isinstance(done, SsoRefused)
        assert done.looked_at == ("groups",)
        assert "hq-admins" not in repr(done)
        assert "editor" not in repr(done)


async def test_auth_14_a_secret_is_sent_to_nobody_but_whom_it_was_given_for() -> None:
    async with sso_world(GOOGLE, replace(GOOGLE, name="b")) as (world, _, other):
        elsewhere = replace(GOOGLE, issuer=OTHER, client_secret="")
        await world.admin.put_resource(resource=OidcResource(connector=elsewhere), mode="upsert")
        [found] = await world.admin.get_resources(kind="oidc", name="google", secrets=True)
        assert isinstance(found, OidcResource)
        assert found.connector.client_secret == ""
        assert isinstance(await Visit(world).come(other, **ANN), SsoRefused)


async def test_auth_14_a_provider_elsewhere_does_not_lead_to_this_very_machine() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.discovery["token_endpoint"] = "http://127.0.0.1:9/token"
        with pytest.raises(Unavailable, match="this very machine"):
            await Visit(world).begin()


async def test_auth_14_an_id_token_is_no_logout_token() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        token = provider.sign(provider.id_claims("", **ANN))
        with pytest.raises(AccessDenied):
            await world.proxy.end_sso_sessions(
                connector="oidc/google", logout_token=token, remote="192.0.2.1"
            )
        with pytest.raises(NotFound):
            await world.proxy.end_sso_sessions(
                connector="oidc/nobody", logout_token=token, remote="192.0.2.1"
            )


# --- Parts -----------------------------------------------------------------------------------------------


async def refused(visit: Visit, provider: FakeProvider, word: str) -> None:
    """Hold that somebody who comes so is not signed in, and that the audit log says why."""
    done = await visit.come(provider, **ANN)
    assert isinstance(done, SsoRefused), done
    check_written(visit.world, word)


def check_written(world: World, word: str) -> None:
    """Hold that the last event is of a sign-in by a provider that was refused, and why."""
    failed = world.audit.events[-1]
    assert (failed.type, failed.code, failed.fields["success"]) == ("user.login", "T1001W", False)
    assert word in failed.fields["error"]


def logout_claims(provider: FakeProvider, **who: str) -> dict[str, Any]:
    now = int(provider.now().timestamp())
    return {
        "iss": provider.issuer,
        "aud": CLIENT,
        "iat": now,
        "exp": now + 120,
        "jti": "1",
        "events": {BACK_CHANNEL: {}},
        **who,
    }


def _hs256(claims: dict[str, Any], secret: bytes) -> str:
    head = _b64(json.dumps({"alg": "HS256", "kid": "one"}).encode())
    signed = f"{head}.{_b64(json.dumps(claims).encode())}"
    return f"{signed}.{_b64(hmac.digest(secret, signed.encode(), sha256))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
