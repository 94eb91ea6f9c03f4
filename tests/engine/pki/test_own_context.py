"""When a host's own certificate is made anew."""

from __future__ import annotations

import ssl
from datetime import timedelta

from tests.certs import Cluster
from tests.fakes import WallClock
from tport.engine.defaults import HOST_CERTIFICATE_TTL
from tport.engine.pki.contexts import tunnel_server_context
from tport.engine.pki.keys import KeyPair
from tport.engine.pki.own_context import OwnContext


class Host:
    """A proxy: `cluster.now` is the time of who makes its certificates, `clock` its own."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.clock = WallClock(self.cluster.now)
        self.made = 0
        self.own = OwnContext(self._pair, self._context, self.clock)

    def _pair(self) -> KeyPair:
        self.made += 1
        return self.cluster.pair("proxy")

    def _context(self, pair: KeyPair) -> ssl.SSLContext:
        return tunnel_server_context(pair, self.cluster.host.trusted)


def test_it_is_made_at_first_and_anew_at_half_its_life() -> None:
    host = Host()
    first = host.own.now()
    host.clock.now += HOST_CERTIFICATE_TTL / 2 - timedelta(minutes=1)
    assert host.own.now() is first
    host.clock.now += timedelta(minutes=2)
    assert host.own.now() is not first
    assert host.made == 2


def test_a_second_backwards_is_no_reason_but_a_day_is() -> None:
    host = Host()
    first = host.own.now()
    host.clock.now -= timedelta(seconds=1)
    assert host.own.now() is first
    host.clock.now -= timedelta(days=1)
    assert host.own.now() is not first


def test_one_made_by_a_clock_that_is_still_ahead_is_not_kept_for_good() -> None:
    """OPS-10: agents would refuse it until that day, though all clocks are right by now."""
    host = Host()
    host.clock.now -= timedelta(days=40)
    ahead = host.own.now()

    host.cluster.now -= timedelta(days=40)
    right = host.own.now()
    assert right is not ahead
    assert host.own.now() is right
