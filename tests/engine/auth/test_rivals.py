"""Two who write at once: none undoes what the other did, and who keeps losing is told, and has changed nothing.

Records are swapped by revision, and a lost swap is tried again on what stands there then. A rival here writes
the same record right before each write, as another request or another process would.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.engine.auth.joining.test_hosts import Machine
from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import CLUSTER, GRAFANA, PROXY, World, open_world
from tport.engine.api.factors import Proof
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import NotFound, TportError, Unavailable
from tport.engine.pki.keys import make_csr, make_key
from tport.engine.storage.backend import CompareAndSwap, Delete, Item, Operation, Put
from tport.engine.types.app import App
from tport.engine.types.role import Role

Act = Callable[[], Awaitable[object]]


class Rival:
    """Writes what is below `prefix` again, with the same value, right before others write it."""

    def __init__(self, world: World, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._backend, self._prefix = world.backend, prefix
        self._batch = world.backend.batch
        self.times = 0  # that it still does so
        self.won = 0
        monkeypatch.setattr(world.backend, "batch", self.batch)

    async def batch(self, operations: Sequence[Operation]) -> list[Item | None]:
        for operation in operations:
            is_ours = isinstance(operation, CompareAndSwap) or (
                isinstance(operation, Delete) and operation.revision is not None
            )
            if is_ours and operation.key.startswith(self._prefix) and self.times:
                self.times -= 1
                self.won += 1
                await self._batch([Put(await self._backend.get(operation.key))])
        return await self._batch(operations)

    async def stored(self) -> list[tuple[str, bytes]]:
        return [(item.key, item.value) for item in await self._backend.range(self._prefix)]


@dataclass
class Case:
    """Attributes:
    prefix: of the records that two write.
    begin: makes what is needed, and returns what is then done against the rival.
    """

    prefix: str
    begin: Callable[[World], Awaitable[Act]]


async def update_user(world: World) -> Act:
    await world.alice()
    return lambda: world.admin.update_user(name="alice", roles=("auditor",), traits=None)


async def reset_user(world: World) -> Act:
    await world.alice()
    return lambda: world.admin.reset_user(name="alice")


async def delete_user(world: World) -> Act:
    await world.alice()
    return lambda: world.admin.delete_user(name="alice")


async def approve_request(world: World) -> Act:
    await world.serve(GRAFANA)
    signed = await world.alice(roles=("auditor",))
    alice = world.proxy.acting_for(signed.secret)
    asked = await alice.request_access(host=f"grafana.{PROXY}", reason="")
    return lambda: world.admin.approve_request(id=asked.id, role="access", ttl=3600, answer="")


async def offer(world: World) -> Act:
    await world.offer(GRAFANA)
    return lambda: _offered(world, App(name="grafana", uri="http://localhost:4000"))


async def _offered(world: World, app: App) -> None:
    [server] = await world.offer(app)
    assert not server.refused


async def join(world: World) -> Act:
    token = await world.admin.create_token(
        roles=("app",), ttl=3600, app_name="", app_uri="", max_uses=3
    )
    csr = make_csr(make_key())
    return lambda: world.anyone.join(token=token.token, csr=csr, role="app", hostname="box")


async def sign_in_by_app(world: World) -> Act:
    visitor = Visitor(world)
    await visitor.with_app()
    step = await visitor.asked()
    return lambda: visitor.prove(step, "totp", visitor.code())


async def sign_in_wrongly(world: World) -> Act:
    await world.alice()
    await _failed(world)
    return lambda: _failed(world)


async def _failed(world: World) -> None:
    """Give a wrong password, which must be counted."""
    try:
        await world.sign_in(password="wrong")
    except Unavailable:
        raise
    except TportError:
        return
    raise AssertionError("a wrong password signed in")


async def mark_favourite(world: World) -> Act:
    await world.serve(GRAFANA)
    alice = world.proxy.acting_for((await world.alice()).secret)
    await alice.mark_favourite(app="grafana", favourite=True)
    return lambda: alice.mark_favourite(app="grafana", favourite=False)


async def renew(world: World) -> Act:
    machine = await Machine.join(world)
    await machine.renew()
    return machine.renew


async def _with_two_devices(world: World) -> tuple[AuthAPI, tuple[str, ...]]:
    """Return how alice calls, and the ids of her app and her passkey."""
    visitor = Visitor(world)
    alice = world.proxy.acting_for((await visitor.with_app()).secret)
    step = await alice.begin_device()
    proof = Proof(kind="webauthn", value=authenticator().create(step.webauthn))
    await alice.add_device(attempt=step.attempt, proof=proof, name="key")
    return alice, tuple(device.id for device in (await alice.own_account()).devices)


async def remove_device(world: World) -> Act:
    alice, ids = await _with_two_devices(world)
    return lambda: alice.remove_device(id=ids[0])


async def rename_device(world: World) -> Act:
    alice, ids = await _with_two_devices(world)
    return lambda: alice.rename_device(id=ids[1], name="another")


async def add_device(world: World) -> Act:
    visitor = Visitor(world)
    alice = world.proxy.acting_for((await visitor.with_app()).secret)
    step = await alice.begin_device()
    proof = Proof(kind="webauthn", value=authenticator().create(step.webauthn))
    return lambda: alice.add_device(attempt=step.attempt, proof=proof, name="key")


async def update_role_unseen(world: World) -> Act:
    await world.admin.create_role(role=Role(name="dev"))
    changed = Role(name="dev", description="mine")
    return lambda: world.admin.update_role(role=changed, revision=0)


WITH_FACTORS = (sign_in_by_app, remove_device, rename_device, add_device)
CASES = {
    "a user is changed": Case("/users/", update_user),
    "a user is reset": Case("/users/", reset_user),
    "a user is deleted": Case("/users/", delete_user),
    "access is given": Case("/users/", approve_request),
    "an application is defined anew": Case("/apps/", offer),
    "a machine joins": Case("/tokens/", join),
    "a code is used": Case("/factors/", sign_in_by_app),
    "an application is no favourite any more": Case("/shelves/", mark_favourite),
    "a machine renews": Case("/hosts/", renew),
    "a device is removed": Case("/factors/", remove_device),
    "a device is renamed": Case("/factors/", rename_device),
    "a device is added": Case("/factors/", add_device),
    "a role is changed, whoever changed it before": Case("/roles/", update_role_unseen),
    "a failure is counted": Case("/failures/", sign_in_wrongly),
}


async def contest(world: World, case: Case, monkeypatch: pytest.MonkeyPatch) -> tuple[Act, Rival]:
    act = await case.begin(world)
    return act, Rival(world, case.prefix, monkeypatch)


def settings(name: str) -> AuthSettings | None:
    """People need second factors only where one is used."""
    second = CASES[name].begin in WITH_FACTORS
    return AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",)) if second else None


@pytest.mark.parametrize("name", CASES)
async def test_who_loses_once_tries_again_on_what_stands_there_then(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-01."""
    async with open_world(settings=settings(name)) as world:
        act, rival = await contest(world, CASES[name], monkeypatch)
        before = await rival.stored()
        rival.times = 1

        await act()

        assert rival.won == 1
        assert await rival.stored() != before


@pytest.mark.parametrize("name", CASES)
async def test_who_loses_for_ever_is_told_and_nothing_was_changed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-01, AUTH-01, AUTH-02: no code that signs in uncounted, no token used beyond its number."""
    async with open_world(settings=settings(name)) as world:
        act, rival = await contest(world, CASES[name], monkeypatch)
        before = await rival.stored()
        rival.times = 1000

        with pytest.raises(Unavailable):
            await act()

        assert 1 < rival.won < 100
        assert await rival.stored() == before


async def test_a_role_is_written_over_what_a_rival_wrote_only_by_who_saw_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role is replaced whole: who hasn't seen the last one is told to read again."""
    await world.admin.create_role(role=Role(name="dev"))
    rival = Rival(world, "/roles/", monkeypatch)
    [seen] = [info for info in await world.admin.list_role_infos() if info.role.name == "dev"]
    rival.times = 1

    with pytest.raises(TportError):
        await world.admin.update_role(
            role=Role(name="dev", description="mine"), revision=seen.revision
        )

    stored = await world.service.cluster.stores.roles.get("dev")
    assert stored.description == ""


async def test_a_user_who_is_deleted_by_another_meanwhile_is_not_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write brings them back."""
    act = await update_user(world)
    batch = world.backend.batch

    async def deleted_first(operations: Sequence[Operation]) -> list[Item | None]:
        monkeypatch.setattr(world.backend, "batch", batch)
        await world.admin.delete_user(name="alice")
        return await batch(operations)

    monkeypatch.setattr(world.backend, "batch", deleted_first)
    with pytest.raises(NotFound):
        await act()

    assert await world.service.cluster.stores.users.find("alice") is None


class EarlierDeletion:
    """Deletes the first of what is about to be deleted together, right before it is."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._batch = world.backend.batch
        self.won = 0
        monkeypatch.setattr(world.backend, "batch", self.batch)

    async def batch(self, operations: Sequence[Operation]) -> list[Item | None]:
        if not self.won and operations and all(isinstance(each, Delete) for each in operations):
            self.won += 1
            await self._batch(operations[:1])
        return await self._batch(operations)


async def test_who_signs_out_while_another_does_ends_all_that_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-04."""
    await world.serve(GRAFANA)
    signed = await world.alice()
    await world.open(signed, f"grafana.{PROXY}")
    rival = EarlierDeletion(world, monkeypatch)

    await world.proxy.sign_out(id=signed.session.id)

    assert rival.won == 1
    assert await world.backend.range("/sessions/") == []


async def test_a_clock_set_back_ends_every_session_though_one_ends_by_itself_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.alice()
    await world.alice("bob")
    world.clock.now -= timedelta(hours=2)
    rival = EarlierDeletion(world, monkeypatch)

    await world.service.set_back.tick()

    assert rival.won == 1
    assert await world.backend.range("/sessions/") == []
