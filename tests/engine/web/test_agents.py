"""The page about agents and applications, and trying one, with a real auth service behind them."""

from __future__ import annotations

import re
from html import unescape
from typing import get_args

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.auth.apps.test_probes import REPORT, asked, until_asked
from tests.engine.auth.joining.test_hosts import Machine
from tests.engine.auth.world import GRAFANA, JENKINS
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tests.fakes import START
from tport.engine.errors import Locked
from tport.engine.types.app import App
from tport.engine.types.health import AppHealth
from tport.engine.types.probe import Check, Finding, Proposal, Verdict
from tport.engine.web.agents import CHECKS, VERDICTS, proposed

CHECK = "/web/app/grafana/check"


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def test_agents_and_their_applications_are_shown_as_they_stand(
    office: Office, editor: Visitor
) -> None:
    bad = App(name="bad", uri="http://localhost:1", public_addr="10.0.0.1")
    await office.world.serve(GRAFANA, bad)

    page = unescape((await editor.get("/web/agents")).text)

    assert re.search(r"<h2>agent-1 <span class=\"badge good\">connected since <time", page)
    assert "from 192.0.2.9" in page
    assert re.search(r"<h3>grafana <span class=\"badge \">agent connected since <time", page)
    assert "http://localhost:3000 at agent-1" in page
    assert "env=dev" in page
    assert re.search(r"<h3>bad <span class=\"badge bad\">refused", page)
    assert "applications need names" in page


async def test_an_agent_that_two_machines_have_been_is_told_with_what_to_do(
    office: Office, editor: Visitor
) -> None:
    machine = await Machine.join(office.world)
    await machine.copy().renew()
    assert "two machines" not in (await editor.get("/web/agents")).text
    with pytest.raises(Locked):
        await machine.renew()

    page = unescape((await editor.get("/web/agents")).text)

    assert "Two machines have been agent box" in page
    assert "start it with a new token" in page
    assert machine.joined.host_id in page


async def test_of_each_agent_s_offer_it_is_shown_whether_the_application_answers(
    office: Office, editor: Visitor
) -> None:
    """And the application is up where it answers any of them."""
    first = await office.world.offer(GRAFANA, host="agent-1")
    second = await office.world.offer(GRAFANA, host="agent-2")
    await office.world.tunnel(*first, *second)
    one = office.world.caller("agent", name="agent-1")
    two = office.world.caller("agent", name="agent-2")
    refused = AppHealth(
        up=False, since=START, cause="<it> can't be reached", advice="Start it.", failed=START
    )
    await one.report_health(apps={"grafana": refused})
    await two.report_health(apps={"grafana": replace(refused, up=True)})

    page = (await editor.get("/web/agents")).text

    assert re.search(r"<h3>grafana <span class=\"badge good\">up since <time", page)
    assert re.search(r"at agent-1 <span class=\"badge bad\">down since <time", page)
    assert re.search(r"class=\"reason\">&lt;it&gt; can&#39;t be reached. Start it.", page)
    assert re.search(r"at agent-2 <span class=\"badge good\">up since <time", page)
    assert re.search(r"It failed last at <time .*?: &lt;it&gt; can&#39;t be reached.", page)

    await two.report_health(apps={"grafana": refused})

    page = (await editor.get("/web/agents")).text
    assert re.search(r"<h3>grafana <span class=\"badge bad\">down since <time", page)


async def test_an_application_whose_agent_left_stays_with_the_time_it_did(
    office: Office, editor: Visitor, autojump_clock: MockClock
) -> None:
    await office.world.serve(GRAFANA, JENKINS)
    await office.world.tunnel()
    office.world.pass_time(minutes=1)
    await trio.sleep(2)  # auth looks each second

    page = (await editor.get("/web/agents")).text

    assert re.search(r"<h3>grafana <span class=\"badge bad\">no agent connected since <time", page)
    assert "No agent is connected" in page
    assert CHECK not in page, "nobody could try it"


async def test_a_check_waits_for_the_agent_and_shows_what_it_found(
    office: Office, editor: Visitor, autojump_clock: MockClock
) -> None:
    await office.world.serve(GRAFANA)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, office.world.agent)
        started = await editor.submit(CHECK, {})
        assert started.status_code == 303
        result = started.headers["location"]
        question = await until_asked(told)

        waiting = (await editor.get(result)).text
        assert "data-live=" in waiting
        assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in waiting

        finding = Finding(check="host", verdict="change", saw="it <wants> a Host", advice="set it")
        proposal = Proposal(host="localhost:3000")
        await office.world.agent.probed(
            id=question.id, report=replace(REPORT, findings=(finding,), proposal=proposal)
        )
        for _ in range(2):  # it can be loaded again
            page = (await editor.get(result)).text
            assert "data-live" not in page
            assert "http-equiv" not in page
            assert "It &lt;wants&gt; a Host." in page
            assert "needs a setting" in page
            assert "Host: localhost:3000" in page
            assert 'href="https://grafana.tport.example.com:3080/">Open grafana' in page
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_nobody_offers_can_t_be_checked(editor: Visitor) -> None:
    assert (await editor.get(CHECK)).status_code == 404
    assert (await editor.get("/web/check/none?app=grafana")).status_code == 404


def test_every_check_and_verdict_has_words() -> None:
    assert set(CHECKS) == set(get_args(Check))
    assert set(VERDICTS) == set(get_args(Verdict))


def test_a_proposal_is_written_as_the_file_has_it() -> None:
    proposal = Proposal(uri="https://localhost:1", host="a", redirect=("b",), jwt_claims="none")
    assert proposed(proposal).splitlines() == [
        "uri: https://localhost:1",
        "rewrite:",
        "  redirect:",
        "  - b",
        "  headers:",
        '  - "Host: a"',
        "  jwt_claims: none",
    ]
    assert proposed(Proposal()) == ""
