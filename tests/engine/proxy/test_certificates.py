"""Which certificate a browser sees, how often auth is asked for one, and what if it has none."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import cast

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.certs import Cluster
from tests.fakes import WallClock
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import TportError, Unavailable
from tport.engine.pki.authority import issue_web_certificate, permits
from tport.engine.pki.keys import KeyPair, make_key_and_csr, public_key_of_csr
from tport.engine.proxy import own_ca as own_ca_module
from tport.engine.proxy.certificates import Certificates, TakesWaiting
from tport.engine.proxy.key_pairs import FilePair, FilePairs
from tport.engine.proxy.own_ca import (
    APART_AFTER,
    LOOK_EVERY,
    OF_THE_FUTURE,
    RETRY_AFTER,
    OwnAuthority,
)
from tport.engine.types.certificate import CertState

HOSTS = {"proxy.test", "grafana.proxy.test", "jupyter.proxy.test", "a.lab.proxy.test", "odd.test"}


class MakingAuth:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.made: list[str] = []
        self.failure: dict[str, TportError] = {}
        self.hangs = False

    async def web_certificate(self, *, csr: str, host: str) -> str:
        self.made.append(host)
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if host in self.failure:
            raise self.failure[host]
        return self.chain(csr, host)

    def chain(self, csr: str, host: str) -> str:
        return issue_web_certificate(
            self.cluster.web, public_key_of_csr(csr), host, now=self.cluster.now
        )

    def pair(self, host: str) -> KeyPair:
        if host.startswith("*"):  # none that our own authority makes
            foreign = trustme.CA().issue_cert(host)
            chain = foreign.cert_chain_pems[0].bytes().decode()
            return KeyPair(key=foreign.private_key_pem.bytes().decode(), chain=chain)
        key, csr = make_key_and_csr()
        return KeyPair(key=key, chain=self.chain(csr, host))


class Shown:
    def __init__(self, *files: str) -> None:
        self.auth = MakingAuth()
        self.clock = WallClock(self.auth.cluster.now)
        self.own = OwnAuthority(
            auth=cast("AuthAPI", self.auth),
            clock=self.clock,
            zones={"proxy.test"},
            may_sign=lambda host: permits(self.auth.cluster.web.trusted[0], host),
            is_wanted=lambda host: host in HOSTS,
        )
        self.files = FilePairs([FilePair(pair=self.auth.pair(name)) for name in files])
        self.certificates = Certificates(
            self.files,
            [self.own],
            default_host="proxy.test",
            zones={"proxy.test"},
            is_known=lambda host: host in HOSTS,
        )

    async def context(self, name: str | None) -> ssl.SSLContext:
        return (await self.certificates.context_for(name)).context


async def test_a_known_host_further_down_gets_a_leaf_of_its_own_made_once() -> None:
    shown = Shown()
    first = await shown.context("a.lab.proxy.test")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(shown.context, "a.lab.proxy.test")

    assert await shown.context("a.lab.proxy.test") is first
    assert shown.auth.made == ["a.lab.proxy.test"]


async def test_many_at_once_ask_for_one() -> None:
    shown = Shown()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(shown.context, "proxy.test")

    assert shown.auth.made == ["proxy.test"]


@pytest.mark.parametrize(
    "name",
    ["proxy.test", "grafana.proxy.test", "grafna.proxy.test", "a.lab.proxy.test", "x.test", None],
)
async def test_what_is_known_without_waiting_is_what_waiting_would_have_told(
    name: str | None,
) -> None:
    shown = Shown("grafana.proxy.test")
    before = None
    with suppress(TakesWaiting):
        before = shown.certificates.context_now(name)
    told = await shown.certificates.context_for(name)

    assert before in (None, told)
    assert shown.certificates.context_now(name) == told
    shown.clock.now += timedelta(days=80)  # the own CA's are to be made anew
    if not told.public:
        with pytest.raises(TakesWaiting):
            shown.certificates.context_now(name)


@pytest.mark.parametrize("name", ["nobody.test", None])
async def test_who_names_no_host_of_ours_sees_the_proxys_own(name: str | None) -> None:
    """And nothing is made for the names that people invent."""
    shown = Shown()
    context = await shown.context(name)

    assert context is await shown.context("proxy.test")
    assert shown.auth.made == ["proxy.test"]


async def test_names_that_nobody_serves_below_the_proxys_share_one_leaf() -> None:
    """So that people who mistype get a page, and names that people invent cost nothing."""
    shown = Shown()
    for name in ("grafna.proxy.test", "x1.proxy.test", "x2.proxy.test"):
        await shown.context(name)
    await shown.context("a.b.proxy.test")  # two labels below: nobody's

    assert shown.auth.made == ["*.proxy.test", "proxy.test"]


async def test_a_certificate_does_not_tell_which_names_are_served() -> None:
    """HTTP-07: as no page tells it to who isn't signed in."""
    shown = Shown()
    contexts = [
        await shown.context(name)
        for name in ("grafana.proxy.test", "jupyter.proxy.test", "nobody.proxy.test")
    ]

    assert len(set(contexts)) == 1
    [state] = shown.own.states("grafana.proxy.test")
    assert (state.host, state.names) == ("grafana.proxy.test", ("*.proxy.test",))


async def test_a_file_comes_before_the_own_authority_and_exact_before_wildcard() -> None:
    shown = Shown("*.proxy.test", "grafana.proxy.test")
    exact = await shown.context("grafana.proxy.test")
    wild = await shown.context("jupyter.proxy.test")

    assert exact is not wild
    assert shown.auth.made == []
    assert await shown.files.context_for("a.b.proxy.test") is None  # one label, not two
    assert await shown.files.context_for("proxy.test") is None


async def test_a_leaf_is_renewed_after_two_thirds_of_its_life() -> None:
    shown = Shown()
    first = await shown.context("proxy.test")
    shown.clock.now += timedelta(days=59)
    assert await shown.context("proxy.test") is first
    shown.clock.now += timedelta(days=2)
    assert await shown.context("proxy.test") is not first


async def test_a_leaf_of_the_future_is_made_anew_when_the_clock_has_been_put_back() -> None:
    """Browsers, whose clocks were right, would refuse it until that day. A second is no such step."""
    shown = Shown()
    first = await shown.context("proxy.test")
    shown.clock.now -= timedelta(seconds=1)
    assert await shown.context("proxy.test") is first
    shown.clock.now -= timedelta(days=1)
    second = await shown.context("proxy.test")

    assert second is not first
    assert await shown.context("proxy.test") is second


async def test_a_leaf_by_an_auth_whose_clock_is_still_ahead_is_made_anew_within_seconds() -> None:
    """Clocks of one machine were put right, and auth has not noticed yet. Asking is paced all the same."""
    shown = Shown()
    shown.clock.now -= timedelta(days=40)
    first = await shown.context("proxy.test")
    [state] = shown.own.states("proxy.test")
    assert state.problem == "it is not valid yet by this proxy's clock: is auth's clock right?"
    for _ in range(5):
        assert await shown.context("proxy.test") is first
    assert len(shown.auth.made) == 1

    shown.clock.now += APART_AFTER
    shown.auth.cluster.now -= timedelta(days=40)
    second = await shown.context("proxy.test")
    assert second is not first
    [state] = shown.own.states("proxy.test")
    assert state.problem == ""
    shown.clock.now += timedelta(days=1)
    assert await shown.context("proxy.test") is second


async def test_a_leaf_that_is_valid_is_not_given_up_for_one_that_is_not_yet() -> None:
    """By an auth elsewhere, whose clock is ahead: nobody would get in until that is put right."""
    shown = Shown()
    first = await shown.context("proxy.test")
    shown.clock.now += timedelta(days=61)
    shown.auth.cluster.now += timedelta(days=62)
    assert await shown.context("proxy.test") is first
    [state] = shown.own.states("proxy.test")
    assert state.problem == OF_THE_FUTURE
    assert state.not_after is not None
    assert state.not_after < shown.auth.cluster.now + timedelta(days=60)

    shown.auth.cluster.now -= timedelta(days=1)
    shown.clock.now += APART_AFTER
    assert await shown.context("proxy.test") is not first
    [state] = shown.own.states("proxy.test")
    assert state.problem == ""


async def test_by_a_clock_that_stays_behind_auths_leaves_are_made_ever_later() -> None:
    """Each is an event of its own."""
    shown = Shown()
    shown.clock.now -= timedelta(days=1)
    for _ in range(600):
        await shown.context("proxy.test")
        shown.clock.now += timedelta(seconds=1)
        shown.auth.cluster.now += timedelta(seconds=1)
    assert len(shown.auth.made) < 600 / RETRY_AFTER.total_seconds() + 5


async def test_when_auth_is_away_the_old_leaf_goes_on_and_auth_is_not_pestered() -> None:
    shown = Shown()
    first = await shown.context("proxy.test")
    shown.clock.now += timedelta(days=61)
    shown.auth.failure["proxy.test"] = Unavailable("down")
    for _ in range(5):
        assert await shown.context("proxy.test") is first
    assert len(shown.auth.made) == 2

    shown.clock.now += RETRY_AFTER
    del shown.auth.failure["proxy.test"]
    assert await shown.context("proxy.test") is not first


async def test_while_one_leaf_is_renewed_nobody_else_waits_for_auth() -> None:
    """An auth that hangs must cost no handshake as long as there is a leaf to show."""
    shown = Shown()
    old = [await shown.context(host) for host in ("proxy.test", "grafana.proxy.test")]
    shown.clock.now += timedelta(days=61)
    shown.auth.hangs = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shown.context, "proxy.test")
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            assert await shown.context("proxy.test") is old[0]
            assert await shown.context("grafana.proxy.test") is old[1]
        nursery.cancel_scope.cancel()


async def test_a_host_that_no_source_has_anything_for_is_shown_the_proxys_own_and_said_to_lack_one() -> (
    None
):
    """And auth isn't asked for what it may not sign."""
    shown = Shown()
    own = await shown.context("proxy.test")
    assert await shown.context("odd.test") is own
    assert shown.auth.made == ["proxy.test"]

    proxys, odd = shown.certificates.states(["proxy.test", "odd.test"])
    assert (proxys.source, proxys.names, proxys.issuer) == (
        "own CA",
        ("proxy.test",),
        "tport web CA",
    )
    assert (odd.source, odd.not_after) == ("none", None)
    assert "needs a certificate" in odd.problem
    assert "https_keypairs" in odd.advice


async def test_of_a_host_all_is_told_down_to_the_source_that_serves_it() -> None:
    """A source between that has none yet says why, and browsers are shown the own leaf meanwhile."""

    class Trying:
        public = True

        def context_now(self, host: str) -> ssl.SSLContext | None:
            raise TakesWaiting

        async def context_for(self, host: str) -> ssl.SSLContext | None:
            return None

        def states(self, host: str) -> Sequence[CertState]:
            return (CertState(host=host, source="acme", problem="rate limited"),)

    shown = Shown("grafana.proxy.test")
    certificates = Certificates(
        shown.files,
        [Trying(), shown.own],
        default_host="proxy.test",
        zones={"proxy.test"},
        is_known=lambda host: host in HOSTS,
    )
    chosen = await certificates.context_for("proxy.test")
    assert not chosen.public
    assert (await certificates.context_for("grafana.proxy.test")).public

    told = certificates.states(["proxy.test", "grafana.proxy.test"])
    assert [(state.host, state.source, state.problem) for state in told] == [
        ("proxy.test", "acme", "rate limited"),
        ("proxy.test", "own CA", ""),
        ("grafana.proxy.test", "file", ""),
    ]


async def test_leaves_are_renewed_though_nobody_comes_and_those_of_gone_hosts_forgotten(
    autojump_clock: MockClock,
) -> None:
    shown = Shown()
    for host in ("proxy.test", "gone.lab.proxy.test"):
        await shown.own.context_for(host)
    shown.clock.now += timedelta(days=61)
    shown.auth.cluster.now = shown.clock.now
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shown.own.keep)
        await trio.sleep(LOOK_EVERY * 2.5)
        nursery.cancel_scope.cancel()

    assert shown.auth.made == ["proxy.test", "gone.lab.proxy.test", "proxy.test"]
    assert shown.own.states("gone.lab.proxy.test")[0].not_after is None


async def test_the_proxys_own_host_without_a_certificate_is_an_error() -> None:
    shown = Shown()
    shown.auth.failure["proxy.test"] = Unavailable("down")
    with pytest.raises(Unavailable, match=r"proxy\.test: down"):
        await shown.context("proxy.test")


class Kept:
    """A source that has a certificate of one host, whoever serves it now."""

    public = True

    def __init__(self, host: str) -> None:
        self.host = host
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def context_now(self, host: str) -> ssl.SSLContext | None:
        return self.context if host == self.host else None

    async def context_for(self, host: str) -> ssl.SSLContext | None:
        return self.context_now(host)

    def states(self, host: str) -> Sequence[CertState]:
        return ()


async def test_what_keeps_certificates_shows_them_for_hosts_that_are_away() -> None:
    shown, kept = Shown(), Kept("away.proxy.test")
    certificates = Certificates(
        shown.files,
        [kept, shown.own],
        keepers=[kept],
        default_host="proxy.test",
        zones={"proxy.test"},
        is_known=lambda host: host in HOSTS,
    )

    assert (await certificates.context_for("away.proxy.test")).context is kept.context
    await certificates.context_for("other.proxy.test")
    assert shown.auth.made == ["*.proxy.test"]


async def test_certificates_of_our_own_are_bounded_and_the_oldest_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_ca_module, "MAX_LEAVES", 1)
    shown = Shown()
    for host in ("proxy.test", "a.lab.proxy.test", "proxy.test"):
        await shown.context(host)

    assert shown.auth.made == ["proxy.test", "a.lab.proxy.test", "proxy.test"]
    assert len(shown.own._leaves) == 1
