"""Which certificate a browser sees, how often auth is asked for one, and what if it has none."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import trio
import trustme

from tests.certs import Cluster
from tests.fakes import WallClock
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import ConfigError, InvalidRequest, TportError, Unavailable
from tport.engine.pki.authority import issue_web_certificate
from tport.engine.pki.keys import KeyPair, make_key, make_key_and_csr, public_key_of_csr
from tport.engine.proxy.certificates import RETRY_AFTER, Certificates, read_key_pair


class MakingAuth:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.made: list[str] = []
        self.failure: dict[str, TportError] = {}

    async def web_certificate(self, *, csr: str, host: str) -> str:
        self.made.append(host)
        await trio.lowlevel.checkpoint()
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
        self.certificates = Certificates(
            auth=cast("AuthAPI", self.auth),
            clock=self.clock,
            default_host="proxy.test",
            zones={"proxy.test"},
            is_known=lambda host: host in {"proxy.test", "grafana.proxy.test", "odd.test"},
            files=[self.auth.pair(name) for name in files],
        )


async def test_a_known_host_gets_a_leaf_of_its_own_made_once() -> None:
    shown = Shown()
    first = await shown.certificates.context_for("grafana.proxy.test")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(shown.certificates.context_for, "grafana.proxy.test")

    assert await shown.certificates.context_for("grafana.proxy.test") is first
    assert shown.auth.made == ["grafana.proxy.test"]


async def test_many_at_once_ask_for_one() -> None:
    shown = Shown()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(shown.certificates.context_for, "proxy.test")

    assert shown.auth.made == ["proxy.test"]


@pytest.mark.parametrize("name", ["nobody.test", None])
async def test_who_names_no_host_of_ours_sees_the_proxys_own(name: str | None) -> None:
    """And nothing is made for the names that people invent."""
    shown = Shown()
    context = await shown.certificates.context_for(name)

    assert context is await shown.certificates.context_for("proxy.test")
    assert shown.auth.made == ["proxy.test"]


async def test_names_that_nobody_serves_below_the_proxys_share_one_leaf() -> None:
    """So that people who mistype get a page, and names that people invent cost nothing."""
    shown = Shown()
    for name in ("grafna.proxy.test", "x1.proxy.test", "x2.proxy.test"):
        await shown.certificates.context_for(name)
    await shown.certificates.context_for("a.b.proxy.test")  # two labels below: nobody's

    assert shown.auth.made == ["*.proxy.test", "proxy.test"]


async def test_a_file_comes_before_the_own_authority_and_exact_before_wildcard() -> None:
    shown = Shown("*.proxy.test", "grafana.proxy.test")
    exact = await shown.certificates.context_for("grafana.proxy.test")
    wild = await shown.certificates.context_for("jupyter.proxy.test")

    assert exact is not wild
    assert shown.auth.made == []
    assert shown.certificates.from_files("a.b.proxy.test") is None  # one label, not two
    assert shown.certificates.from_files("proxy.test") is None


async def test_a_leaf_is_renewed_after_two_thirds_of_its_life() -> None:
    shown = Shown()
    first = await shown.certificates.context_for("proxy.test")
    shown.clock.now += timedelta(days=59)
    assert await shown.certificates.context_for("proxy.test") is first
    shown.clock.now += timedelta(days=2)
    assert await shown.certificates.context_for("proxy.test") is not first


async def test_when_auth_is_away_the_old_leaf_goes_on_and_auth_is_not_pestered() -> None:
    shown = Shown()
    first = await shown.certificates.context_for("proxy.test")
    shown.clock.now += timedelta(days=61)
    shown.auth.failure["proxy.test"] = Unavailable("down")
    for _ in range(5):
        assert await shown.certificates.context_for("proxy.test") is first
    assert len(shown.auth.made) == 2

    shown.clock.now += RETRY_AFTER
    del shown.auth.failure["proxy.test"]
    assert await shown.certificates.context_for("proxy.test") is not first


async def test_a_host_the_authority_may_not_vouch_for_is_asked_about_now_and_then_only() -> None:
    """Each connection would ask, one after the other, and make everybody else's wait."""
    shown = Shown()
    shown.auth.failure["odd.test"] = InvalidRequest("outside of what the authority may sign")
    own = await shown.certificates.context_for("proxy.test")
    for _ in range(5):
        assert await shown.certificates.context_for("odd.test") is own
    assert shown.auth.made.count("odd.test") == 1

    shown.clock.now += RETRY_AFTER
    await shown.certificates.context_for("odd.test")
    assert shown.auth.made.count("odd.test") == 2


async def test_the_proxys_own_host_without_a_certificate_is_an_error() -> None:
    shown = Shown()
    shown.auth.failure["proxy.test"] = Unavailable("down")
    with pytest.raises(Unavailable):
        await shown.certificates.context_for("proxy.test")


# --- Files ----------------------------------------------------------------------------------------


def test_a_certificate_and_its_key_are_read(tmp_path: Path) -> None:
    pair = MakingAuth().pair("proxy.test")
    (tmp_path / "cert.pem").write_text(pair.chain)
    (tmp_path / "key.pem").write_text(pair.key)

    assert read_key_pair(tmp_path / "cert.pem", tmp_path / "key.pem").chain == pair.chain


@pytest.mark.parametrize("wrong", ["missing", "another's key", "no PEM", "binary"])
def test_what_is_no_pair_is_told_by_its_file(tmp_path: Path, wrong: str) -> None:
    pair = MakingAuth().pair("proxy.test")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(pair.chain)
    match wrong:
        case "another's key":
            key.write_text(make_key())
        case "no PEM":
            key.write_text("nonsense")
        case "binary":
            key.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="pem"):
        read_key_pair(cert, key)
