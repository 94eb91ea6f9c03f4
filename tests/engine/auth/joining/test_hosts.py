"""A host's certificates are counted, so that a copy of its data directory shows itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.engine.auth.world import World
from tport.engine.api.answers import Joined
from tport.engine.defaults import HOST_RENEWAL_GRACE
from tport.engine.errors import Locked, OutOfTime
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import make_csr, make_key
from tport.engine.pki.renewal import prove_renewal
from tport.engine.types.lock import LockTarget


class Machine:
    """An agent's data directory: what it holds of itself. `copy` makes another of the same."""

    def __init__(self, world: World, joined: Joined, key: str) -> None:
        self._world = world
        self.joined, self.key = joined, key

    @classmethod
    async def join(cls, world: World) -> Machine:
        token = await world.admin.create_token(
            roles=("app",), ttl=3600, app_name="", app_uri="", max_uses=1
        )
        key = make_key()
        joined = await world.anyone.join(
            token=token.token, csr=make_csr(key), role="app", hostname="box"
        )
        return cls(world, joined, key)

    def copy(self) -> Machine:
        return Machine(self._world, self.joined, self.key)

    async def ask(self, key: str) -> Joined:
        csr = make_csr(key)
        return await self._world.anyone.renew(
            certificate=self.joined.certificate, csr=csr, proof=prove_renewal(self.key, csr)
        )

    async def renew(self) -> None:
        key = make_key()
        self.joined, self.key = await self.ask(key), key

    @property
    def generation(self) -> int:
        certificate = x509.load_pem_x509_certificate(self.joined.certificate.encode())
        return identity_of(
            certificate.public_bytes(Encoding.DER),
            authorities=self._world.service.authorities,
            expected_kinds=["agent"],
            now=self._world.clock(),
        ).generation


async def test_each_renewal_is_the_next_generation(world: World) -> None:
    machine = await Machine.join(world)

    for generation in (1, 2, 3):
        assert machine.generation == generation
        world.pass_time(hours=12)
        await machine.renew()


async def test_of_a_machine_and_its_copy_the_second_to_renew_locks_both(world: World) -> None:
    """AG-15 (auth part): whichever is the first; and no other machine."""
    right, other = await Machine.join(world), await Machine.join(world)
    copied = right.copy()
    world.pass_time(hours=12)
    await copied.renew()

    with pytest.raises(Locked, match=r"two machines have been agent box.*with a new token"):
        await right.renew()

    with pytest.raises(Locked):
        await copied.renew()
    [lock] = await world.admin.list_locks()
    assert lock.target == LockTarget(server_id=right.joined.host_id)
    assert (await world.admin.status()).copied == (lock,)
    [event] = [each for each in world.audit.events if each.type == "instance.copied"]
    assert event.fields["host_id"] == right.joined.host_id
    assert (event.fields["generation"], event.fields["newest_generation"]) == (1, 2)
    await other.renew()


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=365)], ids=str)
async def test_what_was_renewed_while_the_clock_was_ahead_is_renewed_once_it_is_right(
    world: World, ahead: timedelta
) -> None:
    """R-13: the certificate is from the future: it opens nothing, and gets one of now for who holds its key."""
    machine = await Machine.join(world)
    world.pass_time(hours=12)
    world.clock.now += ahead
    if ahead > HOST_RENEWAL_GRACE:
        with pytest.raises(OutOfTime):
            await machine.renew()
    else:
        await machine.renew()
    world.clock.now -= ahead
    await world.service.set_back.tick()

    await machine.renew()

    assert machine.generation == (2 if ahead > HOST_RENEWAL_GRACE else 3)
    assert await world.admin.list_locks() == ()


async def test_of_two_that_hold_a_certificate_from_the_future_the_second_locks_both(
    world: World,
) -> None:
    """AG-15: renewing before its time makes no copy a machine of its own."""
    right = await Machine.join(world)
    world.clock.now += timedelta(days=2)
    await right.renew()
    copied = right.copy()
    world.clock.now -= timedelta(days=2)
    await world.service.set_back.tick()
    with pytest.raises(OutOfTime):
        assert right.generation
    await copied.renew()

    with pytest.raises(Locked):
        await right.renew()


async def test_one_generation_behind_or_many_is_the_same(world: World) -> None:
    machine = await Machine.join(world)
    restored = machine.copy()
    for _ in range(3):
        world.pass_time(hours=12)
        await machine.renew()

    with pytest.raises(Locked):
        await restored.renew()


async def test_who_lost_the_answer_asks_again_and_gets_it(world: World) -> None:
    """AG-15: also after a crash between receiving the certificate and writing it down."""
    machine = await Machine.join(world)
    world.pass_time(hours=12)
    key = make_key()
    await machine.ask(key)

    machine.joined, machine.key = await machine.ask(key), key

    assert machine.generation == 2
    await machine.renew()
    assert machine.generation == 3
    assert await world.admin.list_locks() == ()


async def test_a_host_that_keeps_its_key_may_renew_from_any_certificate_of_it(
    world: World,
) -> None:
    machine = await Machine.join(world)

    for _ in range(2):
        world.pass_time(hours=12)
        assert (await machine.ask(machine.key)).host_id == machine.joined.host_id

    await machine.renew()
    assert machine.generation == 2


async def test_of_two_that_renew_at_once_one_gets_through(world: World) -> None:
    machine = await Machine.join(world)
    outcomes: list[str] = []

    async def renew() -> None:
        try:
            await machine.copy().renew()
            outcomes.append("in")
        except Locked:
            outcomes.append("out")

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(renew)

    assert sorted(outcomes) == ["in", "out", "out", "out"]


async def test_storage_that_came_back_from_a_backup_accuses_nobody(world: World) -> None:
    """What is newer than what auth remembers is no copy."""
    machine = await Machine.join(world)
    hosts = world.service.cluster.stores.hosts
    backup = await hosts.get(machine.joined.host_id)
    for _ in range(2):
        await machine.renew()
    await hosts.put(machine.joined.host_id, backup)

    await machine.renew()

    assert machine.generation == 4


async def test_storage_that_knows_nothing_of_a_host_believes_its_certificate(world: World) -> None:
    machine = await Machine.join(world)
    await machine.renew()
    await world.service.cluster.stores.hosts.delete(machine.joined.host_id)
    copied = machine.copy()

    await machine.renew()

    assert machine.generation == 3
    with pytest.raises(Locked):
        await copied.renew()


async def test_the_lock_ends_when_what_both_have_is_worth_nothing(world: World) -> None:
    machine = await Machine.join(world)
    copied = machine.copy()
    await copied.renew()
    with pytest.raises(Locked):
        await machine.renew()

    world.pass_time(days=31)

    assert await world.admin.list_locks() == ()
    for each in (machine, copied):
        with pytest.raises(Exception, match="expired"):
            await each.renew()


async def test_a_lock_that_was_lifted_too_early_comes_back(world: World) -> None:
    machine = await Machine.join(world)
    await machine.copy().renew()
    for _ in range(2):
        with pytest.raises(Locked):
            await machine.renew()
        [lock] = await world.admin.list_locks()
        await world.admin.delete_lock(name=lock.name)


async def test_a_first_key_that_joins_again_after_its_renewal_is_a_copys(world: World) -> None:
    token = await world.admin.create_token(
        roles=("app",), ttl=3600, app_name="", app_uri="", max_uses=1
    )
    key = make_key()

    async def join() -> Joined:
        return await world.anyone.join(
            token=token.token, csr=make_csr(key), role="app", hostname="box"
        )

    machine = Machine(world, await join(), key)
    assert (await join()).host_id == machine.joined.host_id
    await machine.renew()

    with pytest.raises(Locked):
        await join()
