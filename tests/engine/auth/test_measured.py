"""What auth says of itself: nothing while all is well, and each thing that is wrong by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from tests.engine.auth.world import GRAFANA, JENKINS, PROXY, World
from tport.engine.audit.emitter import Emitter
from tport.engine.auth.measured import AuthMeasured
from tport.engine.types.certificate import CertState


@dataclass
class Log:
    """The audit log's emitter, as it is looked at."""

    waiting: int = 1
    lost: int = 2
    sampled: int = 3
    problem: str = ""


def measured(world: World, log: Log | None = None) -> AuthMeasured:
    return AuthMeasured(world.service, cast("Emitter", log or Log()), {"strangers": 4})


async def test_each_figure_is_of_the_part_that_it_names(world: World) -> None:
    signed = await world.alice()
    await world.serve(GRAFANA, JENKINS)
    await world.open(signed, f"grafana.{PROXY}")
    now = world.clock()
    await world.proxy.report_certificates(
        states=(
            CertState(host=PROXY, source="file", not_after=now + timedelta(days=30)),
            CertState(host=f"grafana.{PROXY}", source="own CA"),
        )
    )
    figures = {
        (sample.name, *sample.labels): sample.values[0]
        for sample in await measured(world).figures()
    }

    expected = {
        ("tport_sessions", "web"): 1,
        ("tport_sessions", "app"): 1,
        ("tport_sessions", "device-token"): 0,
        ("tport_agents",): 1,
        ("tport_offers", "up"): 2,
        ("tport_offers", "down"): 0,
        ("tport_offers", "refused"): 0,
        ("tport_queue", "audit"): 1,
        ("tport_shed_total", "audit"): 2,
        ("tport_shed_total", "failures"): 3,
        ("tport_shed_total", "sign-ins"): 0,
        ("tport_shed_total", "auth-strangers"): 4,
        ("tport_certificate_days_left", PROXY, "file"): 30,
    }
    assert figures.items() >= expected.items()
    assert ("tport_certificate_days_left", f"grafana.{PROXY}", "own CA") not in figures
    assert figures["tport_authority_days_left", "host"] > 365
    assert figures["tport_authority_days_left", "web"] > 365
    assert list(measured(world).troubles()) == []


async def test_lost_events_are_trouble(world: World) -> None:
    world.audit.lost = 7
    [trouble] = measured(world).troubles()

    assert trouble.why == "7 audit events were lost"


async def test_a_log_that_can_not_be_written_is_trouble_in_its_own_words(world: World) -> None:
    [trouble] = measured(world, Log(problem="no space left on device")).troubles()

    assert trouble.why == "no space left on device"


async def test_a_clock_that_was_set_back_is_trouble(world: World) -> None:
    world.clock.now -= timedelta(hours=2)
    [trouble] = measured(world).troubles()

    assert trouble.why == "the clock was set back by 120 minutes"
