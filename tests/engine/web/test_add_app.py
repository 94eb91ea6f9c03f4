"""Adding an application, step by step, with a real auth service behind the pages."""

import re
from html import unescape

import pytest

from tests.engine.auth.world import GRAFANA
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tests.engine.web.test_tokens import shown
from tests.fakes import START
from tport.engine.types.app import App
from tport.engine.types.health import AppHealth

ADD = "/web/apps/add"
FORM = {"name": "grafana", "uri": "http://localhost:3000"}


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def test_the_command_holds_a_token_that_works_once_for_this_application_only(
    office: Office, editor: Visitor
) -> None:
    page = await editor.submit(ADD, FORM)

    assert page.status_code == 200
    command = shown(page.text, "command")
    [token] = await office.world.admin.list_tokens()
    assert (token.app_name, token.max_uses) == ("grafana", 1)
    assert token.hint in command
    assert office.world.service.pin in command, "by it the agent knows this cluster"
    assert 'data-live="/web/apps/add/grafana"' in page.text
    assert command not in unescape((await editor.get(f"{ADD}/grafana")).text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("localhost:3000", "http://localhost:3000"),
        ("3000", "http://localhost:3000"),
        ("10.0.0.5/wiki/", "http://10.0.0.5/wiki/"),
        ("https://wiki:8443", "https://wiki:8443"),
    ],
)
async def test_what_one_types_into_a_browser_is_taken_for_the_address(
    office: Office, editor: Visitor, typed: str, meant: str
) -> None:
    page = await editor.submit(ADD, FORM | {"uri": typed})

    assert page.status_code == 200
    assert f"--app-uri={meant} " in shown(page.text, "command")
    [token] = await office.world.admin.list_tokens()
    assert token.app_uri == meant


async def test_the_page_waits_until_the_agent_has_it_and_it_answers_and_then_checks(
    office: Office, editor: Visitor
) -> None:
    waiting = (await editor.get(f"{ADD}/grafana")).text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in waiting
    assert 'data-live="/web/apps/add/grafana"' in waiting
    assert re.search(r'<li class="now">.*?Its agent joins', waiting, re.S)

    await office.world.serve(GRAFANA)

    offered = (await editor.get(f"{ADD}/grafana")).text
    assert re.search(r'<li class="now">.*?It answers', offered, re.S)
    assert "data-live" in offered
    assert "data-at-once" not in offered

    down = AppHealth(up=False, since=START, cause="connection refused", advice="Start it.")
    await office.world.agent.report_health(apps={"grafana": down})
    silent = unescape((await editor.get(f"{ADD}/grafana")).text)
    assert re.search(
        r'<li class="failed">(?:(?!<li).)*It answers(?:(?!<li).)*connection refused\. Start it\.',
        silent,
        re.S,
    )
    assert "data-live" in silent, "it is waited for"
    assert "data-at-once" not in silent

    await office.world.agent.report_health(apps={"grafana": AppHealth(up=True, since=START)})
    there = (await editor.get(f"{ADD}/grafana")).text
    assert "http-equiv" not in there
    assert "data-live" not in there
    assert "It is at https://grafana.tport.example.com:3080" in there
    assert 'action="/web/app/grafana/check" class="actions" data-at-once' in there


async def test_an_offer_that_is_refused_is_shown_with_the_reason_and_waited_for(
    office: Office, editor: Visitor
) -> None:
    await office.world.serve(App(name="grafana", uri="http://localhost:1", public_addr="10.0.0.1"))

    page = (await editor.get(f"{ADD}/grafana")).text

    assert re.search(r'<li class="failed">.*?applications need names', page, re.S)
    assert "data-live" in page


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"name": "gra fana"}, 400, "is no sub-domain"),
        ({"uri": "ftp://localhost"}, 400, "'ftp' is not served; expected http:// or https://"),
        ({"uri": "http://user:secret@localhost"}, 400, "has a user name or password in it"),
        ({"name": "taken"}, 409, "is offered already"),
    ],
)
async def test_what_can_t_be_is_said_in_the_form_with_what_was_typed(
    office: Office, editor: Visitor, fields: dict[str, str], status: int, problem: str
) -> None:
    await office.world.serve(App(name="taken", uri="http://localhost:1"))
    form = {**FORM, **fields}

    page = await editor.submit(ADD, form)

    assert page.status_code == status
    assert problem in unescape(page.text)
    assert f'name="name" value="{form["name"]}"' in page.text
    assert f'name="uri" value="{form["uri"]}"' in page.text
    assert await office.world.admin.list_tokens() == ()


async def test_an_editor_s_empty_page_of_applications_leads_here(editor: Visitor) -> None:
    page = (await editor.get("/web/cluster/example/apps")).text
    assert 'class="button" href="/web/apps/add">Add an application' in page
