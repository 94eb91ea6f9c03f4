"""What a proxy says of itself: nothing while all is well, and each thing that is wrong by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.live import LiveStreams
from tport.engine.defaults import REQUEST_LOG_QUEUE
from tport.engine.metrics.sample import Trouble
from tport.engine.proxy.certificate_part import CertificatePart
from tport.engine.proxy.measured import SILENT, Measured
from tport.engine.proxy.request_log import RequestLog
from tport.engine.proxy.tally import Tally
from tport.engine.proxy.tunnels import Tunnels


class TwoTunnels:
    streams = 3

    def __len__(self) -> int:
        return 2


@dataclass
class Parts:
    """What is looked at: of auth, of events, of the log of requests, of certificates."""

    age: float = 1.0
    waiting: int = 4
    lost: int = 5
    reload_failures: int = 6
    wrong: list[Trouble] = field(default_factory=list)

    def troubles(self) -> Iterator[Trouble]:
        yield from self.wrong

    def held(self) -> tuple[str, ...]:
        return ("s1", "s2")


def measured(parts: Parts, log: Parts | None) -> Measured:
    tally = Tally()
    tally.ended("grafana", 200, 0.0, 0.1)
    return Measured(
        tally=tally,
        tunnels=cast("Tunnels", TwoTunnels()),
        live=cast("LiveStreams[str]", parts),
        cache=cast("AuthCache", parts),
        events=cast("EventQueue", parts),
        request_log=cast("RequestLog | None", log),
        certificates=cast("CertificatePart", parts),
        connections=lambda: (7, 9),
        strangers=lambda: 8,
    )


async def test_each_figure_is_of_the_part_that_it_names() -> None:
    figures = {
        (sample.name, *sample.labels): sample.values[0]
        for sample in await measured(Parts(), Parts(waiting=40, lost=50)).figures()
    }

    expected = {
        ("tport_connections", "browser"): 7,
        ("tport_connections", "other"): 2,
        ("tport_strangers",): 8,
        ("tport_tunnels",): 2,
        ("tport_tunnel_streams",): 3,
        ("tport_running_sessions",): 2,
        ("tport_queue", "events"): 4,
        ("tport_shed_total", "events"): 5,
        ("tport_queue", "requests"): 40,
        ("tport_shed_total", "requests"): 50,
        ("tport_auth_silence_seconds",): 1,
        ("tport_certificate_reload_failures_total",): 6,
    }
    assert figures.items() >= expected.items()
    assert Counter(name for name, *_ in figures)["tport_requests_total"] >= 1


async def test_without_a_log_of_requests_no_figure_is_of_one() -> None:
    figures = await measured(Parts(), None).figures()

    assert not [each for each in figures if "requests" in each.labels]


@pytest.mark.parametrize("log", [None, Parts(waiting=REQUEST_LOG_QUEUE // 2)])
def test_a_proxy_that_is_well_has_no_troubles(log: Parts | None) -> None:
    assert list(measured(Parts(age=SILENT), log).troubles()) == []


def test_a_silent_auth_is_trouble() -> None:
    [trouble] = measured(Parts(age=SILENT + 1), None).troubles()

    assert trouble.why == f"auth has said nothing for {SILENT + 1:.0f} s"


def test_a_log_that_can_not_follow_is_trouble_before_anything_of_it_is_lost() -> None:
    waiting = REQUEST_LOG_QUEUE // 2 + 1
    [trouble] = measured(Parts(), Parts(waiting=waiting)).troubles()

    assert trouble.why == f"{waiting} requests wait to be logged"


def test_what_is_wrong_with_certificates_is_wrong_with_the_proxy() -> None:
    wrong = Trouble("proxy", "the certificate of proxy.test (file): expired")

    assert list(measured(Parts(wrong=[wrong]), None).troubles()) == [wrong]
