"""An administrator has an application tried; the agent that offers it, and nobody else, answers."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.auth.machines.test_watch import after, until_current
from tests.engine.auth.world import GRAFANA, World
from tport.engine.api.changes import Change, ProbeAsked
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.apps.probes import KEPT, MAX_PROBES, RESULT_KEPT
from tport.engine.errors import AccessDenied, InvalidRequest, LimitExceeded, NotFound
from tport.engine.types.probe import Finding, ProbeReport, Proposal

FOUND = Finding(check="connection", verdict="ok", saw="it answers")
REPORT = ProbeReport(
    app="grafana", uri=GRAFANA.uri, public="g.test:3080", hostname="agent-1", findings=(FOUND,)
)


async def asked(agent: AuthAPI, *, task_status: trio.TaskStatus[list[Change]]) -> None:
    """Follow as an agent does, and keep what it is asked."""
    told: list[Change] = []
    async with agent.watch() as changes:
        await until_current(changes)
        task_status.started(told)
        while True:
            told.append(await after(changes))


async def until_asked(told: list[Change]) -> ProbeAsked:
    await wait_all_tasks_blocked()
    [question] = told
    assert isinstance(question, ProbeAsked)
    return question


async def test_the_agent_s_answer_reaches_who_asked_and_is_forgotten(
    world: World, autojump_clock: MockClock
) -> None:
    await world.serve(GRAFANA)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)

        probe = await world.admin.start_probe(app="grafana", agent="")
        question = await until_asked(told)
        assert (question.id, question.app) == (probe, "grafana")
        assert await world.admin.probe_result(id=probe) is None  # not yet: ask again
        await world.agent.probed(id=probe, report=REPORT)

        assert await world.admin.probe_result(id=probe) == REPORT
        assert await world.admin.probe_result(id=probe) == REPORT  # a page is loaded again
        await trio.sleep(RESULT_KEPT)
        with pytest.raises(NotFound):
            await world.admin.probe_result(id=probe)
        nursery.cancel_scope.cancel()
    [event] = [event for event in world.audit.events if event.type == "app.probe"]
    assert event.fields["app_name"] == "grafana"
    assert event.fields["host_id"] == "agent-1"


async def test_of_several_agents_the_one_that_is_named_is_asked(
    world: World, autojump_clock: MockClock
) -> None:
    first = await world.offer(GRAFANA, host="agent-1")
    second = await world.offer(GRAFANA, host="agent-2")
    await world.tunnel(*first, *second)
    async with trio.open_nursery() as nursery:
        one = await nursery.start(asked, world.caller("agent", name="agent-1"))
        two = await nursery.start(asked, world.caller("agent", name="agent-2"))

        await world.admin.start_probe(app="grafana", agent="agent-2")
        await until_asked(two)

        assert one == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("agent", ["", "agent-9"])
async def test_what_nobody_offers_can_t_be_tried(world: World, agent: str) -> None:
    if agent:
        await world.serve(GRAFANA)

    with pytest.raises(NotFound) as caught:
        await world.admin.start_probe(app="grafana", agent=agent)

    assert "apps check grafana" in caught.value.hint


async def test_an_agent_that_does_not_follow_is_not_waited_for(world: World) -> None:
    await world.serve(GRAFANA)

    with pytest.raises(NotFound):
        await world.admin.start_probe(app="grafana", agent="")


async def test_nobody_else_may_ask_or_answer(world: World, autojump_clock: MockClock) -> None:
    """A proxy can't have agents try things, and an agent answers only what it was asked itself."""
    await world.serve(GRAFANA)
    async with trio.open_nursery() as nursery:
        await nursery.start(asked, world.agent)
        for caller in (world.proxy, world.agent, world.anyone):
            with pytest.raises(AccessDenied):
                await caller.start_probe(app="grafana", agent="")
        probe = await world.admin.start_probe(app="grafana", agent="")

        with pytest.raises(AccessDenied):
            await world.proxy.probed(id=probe, report=REPORT)
        with pytest.raises(NotFound):
            await world.caller("agent", name="agent-2").probed(id=probe, report=REPORT)
        with pytest.raises(InvalidRequest):
            await world.agent.probed(id=probe, report=replace(REPORT, app="jenkins"))
        with pytest.raises(InvalidRequest):
            await world.agent.probed(id=probe, report=replace(REPORT, findings=(FOUND,) * 100))
        with pytest.raises(InvalidRequest):
            await world.agent.probed(id=probe, report=replace(REPORT, title="x" * 10_000))
        for long in (Proposal(host="x" * 10_000), Proposal(redirect=("localhost",) * 100)):
            with pytest.raises(InvalidRequest):
                await world.agent.probed(id=probe, report=replace(REPORT, proposal=long))
        nursery.cancel_scope.cancel()


MORE = "\n- name: shell\n  uri: http://evil.test"


async def told_with(world: World, report: ProbeReport) -> ProbeReport:
    """Return what an administrator is shown of this answer."""
    await world.serve(GRAFANA)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        probe = await world.admin.start_probe(app="grafana", agent="")
        await until_asked(told)
        await world.agent.probed(id=probe, report=report)
        nursery.cancel_scope.cancel()
    shown = await world.admin.probe_result(id=probe)
    assert shown is not None
    return shown


@pytest.mark.parametrize(
    ("bad", "left"),
    [
        (Proposal(uri=f"http://localhost:3000{MORE}"), Proposal()),
        (Proposal(uri="file:///etc/passwd"), Proposal()),
        (Proposal(uri="http://localhost:3000 #"), Proposal()),
        (Proposal(host=f"localhost{MORE}"), Proposal()),
        (Proposal(host='localhost"'), Proposal()),
        (Proposal(host="localhost\n"), Proposal()),
        (Proposal(redirect=("localhost", f"local{MORE}")), Proposal(redirect=("localhost",))),
        (Proposal(redirect=("localhost\n",)), Proposal()),
        (Proposal(redirect=("{{external.env}}",)), Proposal()),
    ],
)
async def test_what_an_agent_proposes_to_copy_is_a_uri_and_hosts_and_no_further_lines(
    world: World, autojump_clock: MockClock, bad: Proposal, left: Proposal
) -> None:
    """The page shows it as lines of an agent's file, beside a button that copies them."""
    shown = await told_with(world, replace(REPORT, proposal=bad))

    assert shown.proposal == left
    assert shown.findings[:-1] == (FOUND,)
    assert shown.findings[-1].saw.startswith("what its agent proposes is left out: ")


async def test_a_report_is_shown_though_a_host_in_it_can_t_be_proposed(
    world: World, autojump_clock: MockClock
) -> None:
    """Names of containers have underscores, which a URI may have."""
    proposal = Proposal(uri="http://my_app:8080", host="my_app:8080", redirect=("my_app", "app"))

    shown = await told_with(world, replace(REPORT, proposal=proposal))

    assert shown.proposal == Proposal(uri="http://my_app:8080", redirect=("app",))
    assert [(each.check, each.saw) for each in shown.findings[1:]] == [
        ("host", "what its agent proposes is left out: 'my_app' is no host name"),
        ("redirects", "what its agent proposes is left out: 'my_app' is no host name"),
    ]


async def test_what_an_agent_found_is_shown_as_it_is_in_plain_characters(
    world: World, autojump_clock: MockClock
) -> None:
    good = Proposal(
        uri="https://localhost:3000/x", host="Grafana:3000", redirect=("localhost", "::1")
    )
    finding = replace(FOUND, saw="it redirects to /\x1b[2J\u202e", advice="a\nb")

    shown = await told_with(
        world, replace(REPORT, proposal=good, title="\x85Grafana", findings=(finding,))
    )

    assert shown.proposal == good
    assert shown.title == "?Grafana"
    assert shown.findings == (replace(FOUND, saw="it redirects to /?[2J?", advice="a?b"),)


async def test_probes_are_few_at_a_time_and_forgotten_in_the_end(
    world: World, autojump_clock: MockClock
) -> None:
    await world.serve(GRAFANA)
    async with trio.open_nursery() as nursery:
        await nursery.start(asked, world.agent)
        probes = [await world.admin.start_probe(app="grafana", agent="") for _ in range(MAX_PROBES)]
        with pytest.raises(LimitExceeded):
            await world.admin.start_probe(app="grafana", agent="")

        await trio.sleep(KEPT)

        with pytest.raises(NotFound):
            await world.admin.probe_result(id=probes[0])
        assert await world.admin.start_probe(app="grafana", agent="")
        nursery.cancel_scope.cancel()
