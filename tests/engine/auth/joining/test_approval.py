"""Joining by approval: what asks is recognised by its code, let in for one thing, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, World
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.joining.approval import MAX_WAITING, PER_MINUTE
from tport.engine.errors import (
    AccessDenied,
    CompareFailed,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import (
    load_certificate,
    make_key_and_csr,
    public_key_id,
    public_key_of_csr,
)
from tport.engine.storage.backend import Item
from tport.engine.types.approval import join_code, join_word
from tport.engine.types.event import Event


async def asking(
    world: World, *, pin: str = "", app: str = "grafana", uri: str = GRAFANA.uri
) -> tuple[str, str]:
    """Ask as a machine does; return the word for the answer, and the code it shows."""
    _, csr = make_key_and_csr()
    asked = await world.anyone.ask_to_join(
        csr=csr, hostname="box7", app=app, uri=uri, title="Grafana"
    )
    key_id = public_key_id(public_key_of_csr(csr))
    return asked, join_code(key_id, pin or world.service.pin)


async def test_a_hundred_machines_wait_at_most_also_when_they_ask_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With storage that takes its time, as one on a disk does."""
    genuine = world.backend.range

    async def slow(prefix: str, *args: Any, **kwargs: Any) -> list[Item]:
        found = await genuine(prefix, *args, **kwargs)
        await trio.lowlevel.checkpoint()
        return found

    monkeypatch.setattr(world.backend, "range", slow)
    told: list[str] = []

    async def ask(number: int) -> None:
        _, csr = make_key_and_csr()
        caller = world.caller(None, remote=f"198.51.100.{number}")
        try:
            await caller.ask_to_join(
                csr=csr, hostname="box", app="grafana", uri=GRAFANA.uri, title=""
            )
        except LimitExceeded as limit:
            told.append(str(limit))

    async with trio.open_nursery() as nursery:
        for number in range(MAX_WAITING + 5):
            nursery.start_soon(ask, number)

    assert len(await world.service.cluster.stores.join_requests.all()) == MAX_WAITING
    assert told == [f"{MAX_WAITING} machines wait to join already"] * 5


async def decide(world: World, who: AuthAPI, code: str, *, approve: bool) -> None:
    """Decide as somebody does who saw what the machine asks for."""
    found = await world.admin.find_join(code=code)
    await who.decide_join(code=code, host_id=found.host_id, approve=approve)


async def test_what_a_machine_asks_for_after_it_was_looked_at_is_not_let_in(world: World) -> None:
    """By the same key, hence under the same code."""
    _, csr = make_key_and_csr()
    code = join_code(public_key_id(public_key_of_csr(csr)), world.service.pin)
    ask = {"csr": csr, "hostname": "box7", "title": ""}
    shown = await world.anyone.ask_to_join(app="demo", uri="http://localhost:1", **ask)
    seen = await world.admin.find_join(code=code)
    world.pass_time(seconds=1)
    other = await world.anyone.ask_to_join(app="payroll", uri="http://localhost:2", **ask)

    decided = await world.admin.decide_join(code=code, host_id=seen.host_id, approve=True)

    assert decided.app == "demo"
    assert await world.anyone.join_answer(id=shown) is not None
    latest = await world.admin.find_join(code=code)
    assert (latest.app, latest.state) == ("payroll", "pending")
    with pytest.raises(NotFound, match="not what was shown"):
        await world.admin.decide_join(code=code, host_id=other, approve=True)


async def test_a_machine_that_is_let_in_may_offer_what_it_asked_for_and_nothing_else(
    world: World, autojump_clock: MockClock
) -> None:
    asked, code = await asking(world)
    assert await world.anyone.join_answer(id=asked) is None

    found = await world.admin.find_join(code=code.lower().replace("-", " "))
    assert (found.hostname, found.app, found.uri, found.title, found.remote) == (
        "box7",
        "grafana",
        GRAFANA.uri,
        "Grafana",
        "192.0.2.7",
    )
    await decide(world, world.admin, code, approve=True)
    joined = await world.anyone.join_answer(id=asked)

    assert joined is not None
    identity = identity_of(
        load_certificate(joined.certificate).public_bytes(Encoding.DER),
        authorities=world.service.authorities,
        expected_kinds=["agent"],
        now=world.clock(),
    )
    assert (identity.apps, identity.uri, identity.name) == (
        ("grafana",),
        GRAFANA.uri,
        joined.host_id,
    )
    offer = {"host_id": joined.host_id, "hostname": "box7", "version": "1"}
    for app, counts in (
        (GRAFANA, True),
        (replace(GRAFANA, uri="http://169.254.169.254/"), False),
        (replace(GRAFANA, name="payroll"), False),
    ):
        [server] = await world.proxy.offer(
            **offer, apps=(app,), pinned=identity.apps, pinned_uri=identity.uri
        )
        assert (server.refused == "") is counts, server.refused
        advice = "has no file: run that there again, with another --name"
        assert (advice in server.refused) is not counts


async def test_who_let_a_machine_in_is_told_the_word_that_it_asks_for_and_nobody_before(
    world: World,
) -> None:
    """Also who comes back to its code later."""
    _, csr = make_key_and_csr()
    key_id = public_key_id(public_key_of_csr(csr))
    code, word = (make(key_id, world.service.pin) for make in (join_code, join_word))
    await world.anyone.ask_to_join(
        csr=csr, hostname="box7", app="grafana", uri=GRAFANA.uri, title=""
    )

    found = await world.admin.find_join(code=code)
    assert found.word == ""
    decided = await world.admin.decide_join(code=code, host_id=found.host_id, approve=True)

    assert decided.word == word
    assert (await world.admin.find_join(code=code)).word == word
    [stored] = await world.service.cluster.stores.join_requests.all()
    assert stored.word == ""


async def test_who_refuses_a_machine_is_told_no_word(world: World) -> None:
    _, code = await asking(world)
    found = await world.admin.find_join(code=code)

    decided = await world.admin.decide_join(code=code, host_id=found.host_id, approve=False)

    assert decided.word == ""
    assert (await world.admin.find_join(code=code)).word == ""


async def test_who_sits_between_is_found_out(world: World) -> None:
    """The machine was shown other authorities: its code is none that this cluster knows."""
    _, code = await asking(world, pin="ab" * 32)

    with pytest.raises(NotFound) as told:
        await world.admin.find_join(code=code)
    assert "somebody sits between" in told.value.hint
    with pytest.raises(NotFound):
        await decide(world, world.admin, code, approve=True)


async def test_what_is_refused_is_told_so_and_can_t_be_let_in_after(world: World) -> None:
    asked, code = await asking(world)

    await decide(world, world.admin, code, approve=False)

    with pytest.raises(AccessDenied, match="refused to let this machine join"):
        await world.anyone.join_answer(id=asked)
    with pytest.raises(CompareFailed, match="denied"):
        await decide(world, world.admin, code, approve=True)


async def test_a_request_is_over_after_a_quarter_of_an_hour(world: World) -> None:
    asked, code = await asking(world)
    world.pass_time(minutes=15)

    with pytest.raises(NotFound, match="nobody answered"):
        await world.anyone.join_answer(id=asked)
    with pytest.raises(NotFound):
        await decide(world, world.admin, code, approve=True)


async def test_one_address_can_t_fill_the_queue(world: World) -> None:
    for _ in range(PER_MINUTE):
        await asking(world)
    with pytest.raises(LimitExceeded):
        await asking(world)


@pytest.mark.parametrize(
    ("app", "uri"),
    [
        ("../x", GRAFANA.uri),
        ("grafana", "ftp://x"),
        ("grafana", "http://user:secret@x"),
        ("grafana", "http://x/\n"),
        ("grafana", "http://" + "x" * 3000),
    ],
)
async def test_nonsense_is_no_request(world: World, app: str, uri: str) -> None:
    with pytest.raises(InvalidRequest):
        await asking(world, app=app, uri=uri)
    with pytest.raises(InvalidRequest):
        await world.anyone.ask_to_join(csr="x", hostname="", app="a", uri="http://a", title="")


async def test_who_lets_a_machine_in_is_written_down(world: World) -> None:
    editor = await world.alice("olga", roles=("editor",))
    _, code = await asking(world)

    await decide(world, world.proxy.acting_for(editor.secret), code, approve=True)

    [event] = [e for e in world.audit.events if e.type == "instance.join"]
    assert (event.fields["user"], event.fields["method"]) == ("olga", "approval")


async def test_of_two_who_decide_at_once_the_second_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, code = await asking(world)
    record = world.audit.record

    async def refused_meanwhile(event: Event) -> None:
        monkeypatch.setattr(world.audit, "record", record)
        await record(event)
        await decide(world, world.admin, code, approve=False)

    monkeypatch.setattr(world.audit, "record", refused_meanwhile)
    with pytest.raises(CompareFailed, match="somebody else decided"):
        await decide(world, world.admin, code, approve=True)
    with pytest.raises(AccessDenied):
        await world.anyone.join_answer(id=asked)
