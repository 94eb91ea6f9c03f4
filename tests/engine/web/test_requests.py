"""Requests for access are decided on in the browser, with what would open it before one's eyes."""

from __future__ import annotations

import pytest

from tests.engine.auth.world import GRAFANA, PROXY
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tests.engine.web.test_second_step import APPS
from tport.engine.types.request import AccessRequest

LIST = "/web/requests"
HOST = f"grafana.{PROXY}"


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def asked(office: Office, host: str = HOST, reason: str = "the <outage>") -> AccessRequest:
    """Have alice, who opens nothing, ask for access."""
    await office.world.serve(GRAFANA)
    alice = await office.world.alice("alice", roles=("auditor",))
    acting = office.world.proxy.acting_for(alice.secret)
    return await acting.request_access(host=host, reason=reason)


async def roles_of_alice(office: Office) -> tuple[str, ...]:
    infos = await office.world.admin.list_users()
    return next(info.user.roles for info in infos if info.user.name == "alice")


async def test_a_request_is_seen_with_what_would_open_it_and_approved(
    office: Office, editor: Visitor
) -> None:
    request = await asked(office)
    assert "the &lt;outage&gt;" in (await editor.get(LIST)).text

    page = (await editor.get(f"{LIST}/{request.id}")).text
    assert '<optgroup label="Opens it"><option value="access" selected>access</option>' in page
    done = await editor.submit(
        f"{LIST}/{request.id}",
        {"decision": "approve", "role": "access", "span": "3600", "answer": "until noon"},
    )

    assert done.status_code == 303
    told = await editor.get(done.headers["location"])
    assert "alice has the role access for an hour." in told.text
    assert "approved by erin" in told.text
    assert await roles_of_alice(office) == ("auditor", "access")


async def test_who_decides_finds_on_the_first_page_that_somebody_waits(
    office: Office, editor: Visitor
) -> None:
    assert "for access" not in (await editor.get(APPS)).text
    request = await asked(office)

    assert f'<a href="{LIST}">alice waits for access</a>' in (await editor.get(APPS)).text
    assert "for access" not in (await (await office.person("bob", "access")).get(APPS)).text
    await office.world.admin.deny_request(id=request.id, answer="")
    assert "for access" not in (await editor.get(APPS)).text


async def test_a_request_is_refused_with_words(office: Office, editor: Visitor) -> None:
    request = await asked(office)

    await editor.submit(f"{LIST}/{request.id}", {"decision": "deny", "answer": "ask your team"})

    [decided] = await office.world.admin.list_requests()
    assert (decided.state, decided.answer) == ("denied", "ask your team")
    assert await roles_of_alice(office) == ("auditor",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"role": "", "span": "3600"}, "Choose the role that they get."),
        ({"role": "access", "span": "99999999"}, "Choose for how long."),
        ({"role": "nothing", "span": "3600"}, "No role is called"),
        ({"role": "auditor", "span": "3600"}, "has the role"),
    ],
)
async def test_what_can_t_be_given_is_said_and_nothing_is_given(
    office: Office, editor: Visitor, fields: dict[str, str], words: str
) -> None:
    request = await asked(office)

    page = await editor.submit(
        f"{LIST}/{request.id}", {"decision": "approve", "answer": "typed", **fields}
    )

    assert page.status_code in (400, 404)
    assert words in page.text
    assert 'value="typed"' in page.text
    assert await roles_of_alice(office) == ("auditor",)


async def test_of_two_who_decide_the_second_is_told(office: Office, editor: Visitor) -> None:
    request = await asked(office)
    await office.world.admin.deny_request(id=request.id, answer="")

    page = await editor.post(f"{LIST}/{request.id}", {"decision": "approve"})
    assert page.status_code == 403  # without the hidden token of the form, which is gone
    assert "refused by" in (await editor.get(f"{LIST}/{request.id}")).text
    assert "<form" not in (await editor.get(f"{LIST}/{request.id}")).text.partition("<main")[2]


async def test_for_an_address_where_nothing_is_that_is_said(
    office: Office, editor: Visitor
) -> None:
    request = await asked(office, host=f"grafane.{PROXY}")

    assert (
        "No agent offers an application there now."
        in (await editor.get(f"{LIST}/{request.id}")).text
    )
    assert (await editor.get(f"{LIST}/none")).status_code == 404
