"""How a proxy's own certificates stand is told to who runs it, and to auth, in words and in time."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.engine.api.scripted import ScriptedAuth
from tests.engine.proxy.test_certificates import MakingAuth
from tests.fakes import WallClock
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.config.address import Address
from tport.engine.defaults import PRESENCE_INTERVAL
from tport.engine.errors import ConfigError, Unavailable
from tport.engine.net.streams import PrefixedStream
from tport.engine.proxy import certificate_part as part_module
from tport.engine.proxy.certificate_part import TELL_EVERY, CertificatePart
from tport.engine.proxy.key_pairs import FilePair
from tport.engine.proxy.settings import ProxySettings
from tport.engine.types.certificate import CertState

Files = Sequence[FilePair] | ConfigError


@dataclass
class Told:
    """Auth, as it hears how certificates stand."""

    made: MakingAuth = field(default_factory=MakingAuth)
    failure: Unavailable | None = None
    heard: list[tuple[float, tuple[CertState, ...]]] = field(default_factory=list)

    async def report_certificates(self, *, states: tuple[CertState, ...]) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        self.heard.append((trio.current_time(), states))

    async def web_certificate(self, *, csr: str, host: str) -> str:
        return await self.made.web_certificate(csr=csr, host=host)


class Proxy:
    """One with a certificate from a file, whose next files the test hands in."""

    def __init__(self) -> None:
        self.told = Told()
        self.clock = WallClock(self.told.made.cluster.now)
        self.pair = FilePair(pair=self.told.made.pair("proxy.test"), path="/etc/proxy.pem")
        self.hosts: tuple[str, ...] = ("proxy.test", "grafana.proxy.test")
        self._give, self._next = trio.open_memory_channel[Files](9)
        self.events = EventQueue(ScriptedAuth().api)
        auth = cast("AuthAPI", self.told)
        self.part = CertificatePart(
            ProxySettings(
                proxy_id="p1", public_addrs=(Address("proxy.test", 443),), files=(self.pair,)
            ),
            auth=auth,
            cache=AuthCache(auth, self.clock),
            events=self.events,
            clock=self.clock,
            web_authority=self.told.made.cluster.web.trusted[0],
            own_hosts={"proxy.test"},
            is_known=lambda host: host in self.hosts,
            hosts=lambda: self.hosts,
            port_suffix="",
            next_files=self._files,
            asked=trio.sleep_forever,
        )

    async def _files(self) -> Sequence[FilePair]:
        found = await self._next.receive()
        if isinstance(found, ConfigError):
            raise found
        return found

    def change(self, files: Files) -> None:
        self._give.send_nowait(files)

    @property
    def troubles(self) -> list[tuple[str, bool]]:
        return [(trouble.why, trouble.degrades) for trouble in self.part.troubles()]


def test_a_good_certificate_is_no_trouble() -> None:
    assert Proxy().troubles == []


def test_one_that_ends_soon_is_told_while_it_still_serves() -> None:
    proxy = Proxy()
    [state] = [s for s in proxy.part.shown.states(("proxy.test",)) if s.not_after]
    assert state.not_after is not None
    proxy.clock.now = state.not_after - timedelta(hours=1)

    assert proxy.troubles == [("the certificate of proxy.test (file): ends soon", False)]


def test_one_that_has_expired_degrades_the_proxy() -> None:
    proxy = Proxy()
    proxy.clock.now += timedelta(days=400)
    [(why, degrades), *_] = proxy.troubles

    assert "(file): expired" in why
    assert degrades


async def test_files_that_can_not_be_read_leave_those_before_and_are_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy()
    before = (await proxy.part.shown.context_for("proxy.test")).context
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.part.keep)
        proxy.change(ConfigError("no key in it", where="/etc/proxy.pem"))
        await trio.sleep(1)
        assert (await proxy.part.shown.context_for("proxy.test")).context is before
        assert proxy.part.reload_failures == 1
        assert proxy.events.waiting == 1
        assert "the old ones stay: /etc/proxy.pem: no key in it" in caplog.text
        [(why, _)] = proxy.troubles
        assert "no key in it" in why

        proxy.change((FilePair(pair=proxy.told.made.pair("proxy.test"), path="/etc/new.pem"),))
        await trio.sleep(1)
        assert (await proxy.part.shown.context_for("proxy.test")).context is not before
        assert proxy.troubles == []
        nursery.cancel_scope.cancel()


async def test_auth_is_told_of_changes_soon_and_of_what_stays_each_minute(
    autojump_clock: MockClock,
) -> None:
    proxy = Proxy()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.part.keep)
        await trio.sleep(1)
        assert proxy.told.heard[0][1][0].host == "proxy.test"
        proxy.hosts += ("jupyter.proxy.test",)
        await trio.sleep(PRESENCE_INTERVAL)
        assert len(proxy.told.heard) == 2
        began, last = trio.current_time(), proxy.told.heard[-1][0]
        await trio.sleep(10 * TELL_EVERY)
        nursery.cancel_scope.cancel()

    times = [at for at, _ in proxy.told.heard if at > last]
    assert len(times) <= (trio.current_time() - began) / TELL_EVERY + 1
    assert len(times) >= 8


async def test_what_auth_did_not_hear_it_is_told_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy()
    proxy.told.failure = Unavailable("starting")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.part.keep)
        await trio.sleep(1)
        assert "how certificates stand was not reported: starting" in caplog.text
        proxy.told.failure = None
        await trio.sleep(PRESENCE_INTERVAL)
        nursery.cancel_scope.cancel()

    assert len(proxy.told.heard) == 1


async def test_of_very_many_hosts_those_that_lack_one_are_told_first(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "MAX_STATES", 3)
    proxy = Proxy()
    proxy.hosts = ("proxy.test", *(f"a{n}.proxy.test" for n in range(5)), "elsewhere.test")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.part.keep)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    [(_, states)] = proxy.told.heard

    assert len(states) == 3
    assert states[0].problem
    assert states[0].host == "elsewhere.test"


async def test_without_acme_a_ca_that_comes_is_refused_and_told_nothing() -> None:
    part = Proxy().part.acme
    ours, theirs = memory_stream_pair()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    tls = trio.SSLStream(ours, context, server_hostname="proxy.test")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(part.prove_by_tls, PrefixedStream(b"", theirs), "proxy.test")
        with pytest.raises(trio.BrokenResourceError):
            await tls.do_handshake()
        nursery.cancel_scope.cancel()

    assert part.proof_by_http("proxy.test", "t-1") is None
