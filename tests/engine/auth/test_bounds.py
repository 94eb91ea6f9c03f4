"""What one caller may send at once is bounded, and what it sends is checked before any of it counts."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import tport
from tests.engine.auth.world import GRAFANA, PROXY, STATE, World
from tests.engine.proxy.acme_rig import GRAFANA_HOST
from tport.engine.api.answers import ProxyReport
from tport.engine.auth.acme import acme as acme_module
from tport.engine.auth.acme import holders as holders_module
from tport.engine.auth.calls import audit as audit_module
from tport.engine.auth.calls import machine as machine_module
from tport.engine.auth.calls.machine import AGENT_EVENTS, PROXY_EVENTS
from tport.engine.errors import AccessDenied, InvalidRequest, NotFound
from tport.engine.pki.keys import KeyPair
from tport.engine.types.event import event
from tport.engine.types.request_record import RequestRecord

CA = "https://ca.test/directory"


async def test_more_events_than_fit_into_one_call_are_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "MAX_EVENTS", 2)
    one = event("app.dial.denied", app_name="grafana", user="alice", error="no")
    await world.agent.emit(events=(one, one))
    before = len(world.audit.events)
    with pytest.raises(InvalidRequest, match="at most 2"):
        await world.agent.emit(events=(one, one, one))

    assert len(world.audit.events) == before


async def test_a_batch_with_one_event_that_is_not_its_sender_s_is_none(world: World) -> None:
    fine = event("app.access.denied", app_name="grafana", user="alice", error="no")
    for caller, forged in ((world.agent, "user.login"), (world.proxy, "user.login")):
        before = [event for event in world.audit.events if event.type != "auth.failed"]
        with pytest.raises(AccessDenied, match=f"write no event {forged!r}"):
            await caller.emit(events=(fine, event(forged)))
        assert [event for event in world.audit.events if event.type != "auth.failed"] == before


@pytest.mark.parametrize(
    ("folder", "may"), [("proxy", PROXY_EVENTS), ("agent", AGENT_EVENTS)], ids=["proxy", "agent"]
)
def test_a_machine_may_write_the_events_that_it_does_write_and_no_others(
    folder: str, may: frozenset[str]
) -> None:
    """One that isn't allowed would be refused with its whole batch, and be missed by nobody."""
    put = re.compile(r'(?:_events\.put|_emit)\(\s*"([a-z_.]+)"')
    files = Path(tport.__file__).parent.joinpath("engine", folder).rglob("*.py")
    written = {event(type_).type for file in files for type_ in put.findall(file.read_text())}

    assert written | {"audit.lost"} == may  # that of the queue in which all of them wait


async def test_more_requests_than_fit_into_one_call_are_not_logged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MAX_REQUESTS", 1)
    record = RequestRecord(
        time=world.clock(),
        duration=1.0,
        request_id="r1",
        user="alice",
        session="s1",
        app="grafana",
        host=GRAFANA_HOST,
        method="GET",
        path="/",
        query="",
        status=200,
        bytes_in=0,
        bytes_out=5,
        remote="192.0.2.1",
        user_agent="UA",
        error="",
    )
    await world.proxy.record_requests(requests=(record,))
    with pytest.raises(InvalidRequest, match="at most 1"):
        await world.proxy.record_requests(requests=(record, record))

    assert world.audit.requests == [record]


async def test_a_proxy_speaks_for_no_other(world: World) -> None:
    report = ProxyReport(proxy_id="proxy-2", public_addrs=("evil.test:443",), tunnels=())
    with pytest.raises(AccessDenied):
        await world.proxy.report(report=report)


@pytest.mark.parametrize("names", [(), tuple(f"a{n}.test" for n in range(1000))])
async def test_an_order_is_for_some_names_and_not_for_very_many(
    world: World, names: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest):
        await world.proxy.acme_begin(directory=CA, names=names, serial="")


async def test_a_ca_is_spoken_to_in_tls_alone(world: World) -> None:
    await world.serve(GRAFANA)
    with pytest.raises(InvalidRequest):
        await world.proxy.acme_begin(
            directory="http://ca.test/directory", names=(PROXY,), serial=""
        )
    await world.proxy.acme_account(directory=CA)
    for url in ("http://ca.test/acct/1", "https://ca.test/" + "x" * 10_000):
        with pytest.raises(InvalidRequest):
            await world.proxy.acme_registered(directory=CA, url=url)
    assert (await world.proxy.acme_account(directory=CA)).url == ""


async def test_a_name_that_nobody_serves_is_not_ordered(world: World) -> None:
    await world.serve(GRAFANA)
    with pytest.raises(NotFound):
        await world.proxy.acme_begin(directory=CA, names=("victim.test",), serial="")


async def test_a_certificate_of_any_size_is_not_kept(world: World) -> None:
    await world.serve(GRAFANA)
    begun = await world.proxy.acme_begin(directory=CA, names=(GRAFANA_HOST,), serial="")
    assert begun.order is not None
    with pytest.raises(InvalidRequest, match="too large"):
        await world.proxy.acme_obtained(
            directory=CA,
            name=GRAFANA_HOST,
            order=begun.order.id,
            pair=KeyPair(chain="x" * (acme_module.MAX_PAIR + 1), key=""),
            renew_at=world.clock() + timedelta(days=60),
            look_at=None,
        )


async def test_who_holds_which_order_is_remembered_of_some(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders_module, "MAX_ORDERS", 2)
    for order in ("1", "2", "3"):
        await world.proxy.acme_holds(order=order)

    assert list(world.service.acme_holders._holders) == ["2", "3"]


@pytest.mark.parametrize("state", ["", "x", STATE[:-1], STATE + "0"])
async def test_no_code_is_for_a_state_that_is_no_hash(world: World, state: str) -> None:
    signed = await world.alice()
    await world.serve(GRAFANA)
    with pytest.raises(InvalidRequest, match="state"):
        await world.proxy.launch(
            web_session=signed.session.id, host=GRAFANA_HOST, state=state, age=0
        )


@pytest.mark.parametrize("code", ["", "x", "tport-launch-" + "x" * 1000])
async def test_what_can_be_no_code_is_answered_as_an_unknown_one(world: World, code: str) -> None:
    with pytest.raises(AccessDenied) as told:
        await world.proxy.redeem(code=code, state=STATE, host=GRAFANA_HOST, remote="192.0.2.1")

    assert told.value.reason == "unknown or expired code"
