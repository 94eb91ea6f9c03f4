"""The first start, and those after it."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace

from tests.engine.auth.world import CLUSTER, MemoryAudit, World
from tests.fakes import WallClock
from tport.engine.auth.cluster import AuthSettings, Cluster, open_cluster
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.errors import ConfigError
from tport.engine.pki.authority import permits
from tport.engine.storage.memory import MemoryBackend

SETTINGS = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))


async def test_two_auth_services_that_start_at_once_agree() -> None:
    clock = WallClock()
    backend = MemoryBackend(clock)
    made: list[Cluster] = []

    async def start() -> None:
        made.append(await open_cluster(SETTINGS, backend, MemoryAudit(), SteadyClock(clock)))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(start)
    assert len({cluster.pin for cluster in made}) == 1
    assert len({cluster.keys["jwt"].key for cluster in made}) == 1
    assert len({cluster.proxy_keys.seal for cluster in made}) == 1


async def test_preset_roles_are_there_and_a_changed_one_stays_changed(world: World) -> None:
    roles = {role.name: role for role in await world.admin.list_roles()}
    assert roles.keys() == {"access", "editor", "auditor"}
    await world.admin.put_role(role=replace(roles["access"], description="ours"))
    again = await open_cluster(SETTINGS, world.backend, MemoryAudit(), SteadyClock(world.clock))
    assert (await again.stores.roles.get("access")).description == "ours"


async def test_a_data_directory_of_another_cluster_is_refused() -> None:
    clock = WallClock()
    backend = MemoryBackend(clock)
    await open_cluster(SETTINGS, backend, MemoryAudit(), SteadyClock(clock))
    with pytest.raises(ConfigError, match="'example'"):
        await open_cluster(
            AuthSettings(cluster="other"), backend, MemoryAudit(), SteadyClock(clock)
        )


async def test_a_new_proxy_address_gets_a_web_authority_that_may_sign_for_it() -> None:
    clock = WallClock()
    backend = MemoryBackend(clock)
    before = await open_cluster(SETTINGS, backend, MemoryAudit(), SteadyClock(clock))
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.net:443",))
    after = await open_cluster(settings, backend, MemoryAudit(), SteadyClock(clock))
    assert permits(after.keys["web"].trusted[0], "grafana.tport.example.net")
    assert after.keys["web"].generation == 2
    assert before.keys["web"].trusted[0] in after.keys["web"].trusted
    assert after.keys["host"] == before.keys["host"]


async def test_a_cluster_without_proxy_addresses_starts_under_any_name() -> None:
    for name in ("plain", "with a space", "example.com"):
        clock = WallClock()
        cluster = await open_cluster(
            AuthSettings(cluster=name), MemoryBackend(clock), MemoryAudit(), SteadyClock(clock)
        )
        assert cluster.keys["web"].generation == 1


async def test_a_clock_that_was_set_back_is_told(world: World) -> None:
    assert (await world.admin.status()).degraded == ()
    world.pass_time(minutes=-6)
    assert "set back by 6 minutes" in (await world.admin.status()).degraded[0]


async def test_private_keys_are_in_no_repr(world: World) -> None:
    assert "PRIVATE" not in repr(world.service.cluster) + repr(world.service.cluster.keys)
