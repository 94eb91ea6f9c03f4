"""How machines enter the cluster, and stay in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from tests.engine.auth.world import CLUSTER, PROXY, World, open_world
from tport.engine.api.answers import Joined, NewToken
from tport.engine.auth.cluster import AuthSettings, StaticToken
from tport.engine.errors import AccessDenied, InvalidRequest, LimitExceeded, NotFound
from tport.engine.pki.authority import bundle_pin
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import make_csr, make_key
from tport.engine.pki.renewal import prove_renewal
from tport.engine.types.identity import Identity

STATIC = "0123456789abcdef0123456789abcdef"


async def token_for(world: World, *, app: str = "", uses: int = 0, ttl: float = 3600) -> NewToken:
    return await world.admin.create_token(
        roles=("app",), ttl=ttl, app_name=app, app_uri="", max_uses=uses
    )


async def join(world: World, token: str, key: str = "", remote: str = "192.0.2.7") -> Joined:
    return await world.caller(None, remote=remote).join(
        token=token, csr=make_csr(key or make_key()), role="app", hostname="box"
    )


def identity_in(world: World, joined: Joined) -> Identity:
    der = x509.load_pem_x509_certificate(joined.certificate.encode()).public_bytes(Encoding.DER)
    return identity_of(
        der,
        authorities=world.service.authorities,
        expected_kinds=["agent"],
        now=world.clock(),
    )


async def test_a_token_carries_the_pin_and_tells_how_to_use_it(world: World) -> None:
    token = await token_for(world, app="grafana")
    authorities = await world.anyone.authorities()
    secret, _, pin = token.token.partition(".")
    assert len(secret) == 32
    assert pin == bundle_pin(authorities.host, authorities.web)
    assert token.proxy_addr == f"{PROXY}:3080"
    assert token.public_addr == f"grafana.{PROXY}:3080"
    [listed] = await world.admin.list_tokens()
    assert secret not in repr(listed)
    assert secret not in repr(world.audit.events)


async def test_who_joins_is_an_agent_for_a_day(world: World) -> None:
    joined = await join(world, (await token_for(world)).token)
    identity = identity_in(world, joined)
    assert (identity.kind, identity.cluster, identity.apps) == ("agent", CLUSTER, None)
    assert identity.name == joined.host_id
    assert joined.expires - world.clock() == timedelta(hours=24)
    assert joined.renew_at - world.clock() == timedelta(hours=12)
    assert "TJ002I" in world.audit.codes()


async def test_asking_again_with_the_same_key_gives_the_same_host_and_no_further_use(
    world: World,
) -> None:
    token, key = await token_for(world, uses=1), make_key()
    first = await join(world, token.token, key)
    again = await join(world, token.token, key)
    assert again.host_id == first.host_id
    with pytest.raises(AccessDenied, match="token already used once"):
        await join(world, token.token)


async def test_uses_are_counted_exactly_however_many_join_at_once(world: World) -> None:
    token = await token_for(world, uses=3)
    outcomes: list[str] = []

    async def one(number: int) -> None:
        try:
            await join(world, token.token, remote=f"192.0.2.{number}")
            outcomes.append("in")
        except AccessDenied:
            outcomes.append("out")

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number)
    assert outcomes.count("in") == 3


async def test_each_refusal_says_what_is_wrong_and_what_to_do(world: World) -> None:
    token = await token_for(world, ttl=60)
    deleted = await token_for(world)
    await world.admin.delete_token(token=deleted.token)
    for text, message in ((deleted.token, "unknown token"), ("f" * 32, "unknown token")):
        with pytest.raises(AccessDenied, match=message) as refused:
            await join(world, text)
        assert "tport tokens add" in refused.value.hint
    world.pass_time(seconds=60)
    with pytest.raises(AccessDenied, match="token expired at") as refused:
        await join(world, token.token)
    assert "tport tokens add" in refused.value.hint
    with pytest.raises(InvalidRequest, match="no join token"):
        await join(world, "what?")
    assert await world.admin.list_tokens() == ()


async def test_static_tokens_never_expire_and_can_not_be_deleted() -> None:
    settings = AuthSettings(cluster=CLUSTER, static_tokens=(StaticToken(secret=STATIC),))
    async with open_world(settings=settings) as world:
        world.pass_time(days=400)
        key = make_key()
        first = await join(world, STATIC, key)
        assert (await join(world, STATIC, key)).host_id == first.host_id
        assert (await join(world, STATIC)).host_id != first.host_id
        [listed] = await world.admin.list_tokens()
        assert listed.static
        with pytest.raises(InvalidRequest, match="configuration file"):
            await world.admin.delete_token(token=STATIC)


async def test_what_is_done_with_a_token_is_written_down_under_the_hint_that_the_list_shows(
    world: World,
) -> None:
    token = await token_for(world)
    [listed] = await world.admin.list_tokens()
    await join(world, token.token)
    await world.admin.delete_token(token=token.token)

    events = {event.type: event.fields for event in world.audit.events}
    for name in (
        events["join_token.create"]["name"],
        events["instance.join"]["token_name"],
        events["join_token.delete"]["name"],
    ):
        assert str(name).endswith(f":{listed.hint}")
    secret, _, _ = token.token.partition(".")
    assert secret[: len(listed.hint) + 1] not in repr(world.audit.events)


async def test_tokens_are_deleted_by_hint_when_it_is_one_only(world: World) -> None:
    one, other = await token_for(world), await token_for(world)
    deleted = await world.admin.delete_token(token=one.token[:8])
    assert deleted.hint == one.token[:8]
    with pytest.raises(NotFound):
        await world.admin.delete_token(token=one.token)
    for nothing in ("", "…", " "):
        with pytest.raises(NotFound):
            await world.admin.delete_token(token=nothing)
    # Two whose hints are the same, as chance makes them once in four thousand million.
    [left] = await world.admin.list_tokens()
    assert left.hint == other.token[:8]
    await world.service.cluster.stores.tokens.put("another", replace(left, id="another"))
    with pytest.raises(InvalidRequest, match="2 join tokens"):
        await world.admin.delete_token(token=left.hint)


async def test_a_host_renews_by_its_key_and_stays_the_same(world: World) -> None:
    key = make_key()
    joined = await join(world, (await token_for(world, app="grafana")).token, key)
    world.pass_time(hours=12)
    csr = make_csr(make_key())
    proof = prove_renewal(key, csr)
    renewed = [
        await world.agent.renew(certificate=joined.certificate, csr=csr, proof=proof)
        for _ in range(2)
    ]
    for one in renewed:
        assert identity_in(world, one) == replace(identity_in(world, joined), generation=2)
        assert one.expires - world.clock() == timedelta(hours=24)


async def test_an_expired_host_renews_for_thirty_days_and_no_longer(world: World) -> None:
    """AG-15 (auth part)."""
    key = make_key()
    joined = await join(world, (await token_for(world)).token, key)
    csr = make_csr(make_key())
    proof = prove_renewal(key, csr)
    world.pass_time(days=31, seconds=-1)
    await world.anyone.renew(certificate=joined.certificate, csr=csr, proof=proof)
    world.pass_time(seconds=1)
    with pytest.raises(AccessDenied, match="expired"):
        await world.anyone.renew(certificate=joined.certificate, csr=csr, proof=proof)


async def test_a_certificate_without_its_key_renews_nothing(world: World) -> None:
    key = make_key()
    joined = await join(world, (await token_for(world)).token, key)
    csr = make_csr(make_key())
    for proof in (
        prove_renewal(make_key(), csr),
        prove_renewal(key, make_csr(make_key())),
        "",
        "ÿ",
    ):
        with pytest.raises(AccessDenied, match="proof"):
            await world.anyone.renew(certificate=joined.certificate, csr=csr, proof=proof)
    assert "T3007W" in world.audit.codes()


async def test_another_clusters_certificate_renews_nothing(world: World) -> None:
    async with open_world() as other:
        key = make_key()
        joined = await join(other, (await token_for(other)).token, key)
    csr = make_csr(make_key())
    with pytest.raises(AccessDenied):
        await world.anyone.renew(
            certificate=joined.certificate, csr=csr, proof=prove_renewal(key, csr)
        )


async def test_failures_of_one_address_are_limited(world: World) -> None:
    for _ in range(10):
        with pytest.raises(AccessDenied):
            await join(world, "0" * 32)
    good = (await token_for(world)).token
    with pytest.raises(LimitExceeded):
        await join(world, good)
    await join(world, good, remote="192.0.2.8")
    world.pass_time(seconds=6)
    await join(world, good)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"roles": ()}, "needs a type"),
        ({"ttl": 0.0}, "lives 1 second to"),
        ({"ttl": 1e9}, "lives 1 second to"),
        ({"max_uses": -1}, "max_uses is below 0"),
    ],
)
async def test_a_token_that_could_not_be_meant_is_not_made(
    world: World, wrong: dict[str, Any], why: str
) -> None:
    asked = {"roles": ("app",), "ttl": 60.0, "app_name": "", "app_uri": "", "max_uses": 0}

    with pytest.raises(InvalidRequest, match=why):
        await world.admin.create_token(**{**asked, **wrong})

    assert await world.admin.list_tokens() == ()
