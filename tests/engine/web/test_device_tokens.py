"""The pages of a person's own device tokens, with a real auth service behind them."""

import re
import shlex
from html import unescape

import pytest

from tests.engine.auth.world import GRAFANA, PROXY
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tport.engine.types.device_token import DeviceToken, device_token_id

LIST = "/web/account/tokens"
ADD = f"{LIST}/add"
FORM = {"name": "backup on the NAS", "app": "grafana", "life": "90"}
URL = f"https://grafana.{PROXY}:3080/"


@pytest.fixture
async def alice(office: Office) -> Visitor:
    await office.world.serve(GRAFANA)
    return await office.person("alice", "access")


def shown(page: str, id_: str) -> str:
    [text] = re.findall(rf'<pre id="{id_}"[^>]*><code>(.*?)</code>', page, re.S)
    return unescape(text)


async def made(office: Office) -> DeviceToken:
    [token] = await office.world.admin.list_device_tokens()
    return token


async def test_a_token_is_shown_once_with_a_command_that_uses_it(
    office: Office, alice: Visitor
) -> None:
    page = (await alice.submit(ADD, FORM)).text
    secret, command = shown(page, "secret"), shown(page, "command")

    arguments, _, header = command.partition(" <<'END'\n")
    assert shlex.split(arguments) == ["curl", "-H", "@-", URL]
    assert header == f"Authorization: Bearer {secret}\nEND"
    token = await made(office)
    assert token.id == device_token_id(secret)
    assert (token.user, token.name, token.app) == ("alice", FORM["name"], "grafana")
    assert (token.expires - token.created).days == 90
    again = (await alice.get(LIST)).text
    assert secret not in again
    assert "backup on the NAS" in again
    assert "never used" in again


async def test_a_token_is_revoked_after_a_question(office: Office, alice: Visitor) -> None:
    await alice.submit(ADD, FORM)
    address = f"/web/account/token/{(await made(office)).id}/revoke"
    assert address in (await alice.get(LIST)).text
    assert "backup on the NAS" in (await alice.get(address)).text
    assert (await made(office)).app == "grafana", "asking does nothing"

    done = await alice.submit(address, {})

    assert done.status_code == 303
    assert await office.world.admin.list_device_tokens() == ()
    assert (await alice.get(address)).status_code == 404


async def test_nobody_sees_or_revokes_the_tokens_of_others(office: Office, alice: Visitor) -> None:
    """Not even who administers: they have a command of their own."""
    await alice.submit(ADD, FORM)
    address = f"/web/account/token/{(await made(office)).id}/revoke"
    for other in (await office.person("bob"), await office.person("erin", "editor")):
        assert "backup" not in (await other.get(LIST)).text
        assert (await other.get(address)).status_code == 404
        assert (await other.post(address, {"token": "x"})).status_code == 404

    assert (await made(office)).user == "alice"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "1 to 64 printable characters"),
        ({"app": "jenkins"}, "Choose an application"),
        ({"life": "366"}, "Choose an application"),
    ],
)
async def test_what_can_t_be_is_said_in_the_form_with_what_was_typed(
    office: Office, alice: Visitor, fields: dict[str, str], problem: str
) -> None:
    page = await alice.submit(ADD, {**FORM, **fields})

    assert page.status_code == 400
    assert problem in unescape(page.text)
    if "name" not in fields:
        assert 'value="backup on the NAS"' in page.text
    assert await office.world.admin.list_device_tokens() == ()


async def test_a_name_is_given_once(alice: Visitor) -> None:
    await alice.submit(ADD, FORM)

    page = await alice.submit(ADD, FORM)

    assert page.status_code == 409
    assert "You have a device token called" in unescape(page.text)


async def test_without_an_application_the_page_says_what_is_missing(office: Office) -> None:
    page = (await (await office.person("eve")).get(ADD)).text

    assert "No application is open to you" in page
    assert "<select" not in page


async def test_the_list_is_in_everybodys_menu(alice: Visitor) -> None:
    assert f'<a href="{LIST}"' in (await alice.get(ADD)).text
    assert "Browsers need none" in (await alice.get(LIST)).text


async def test_without_script_too_the_page_says_on_which_day_a_token_ends(
    office: Office, alice: Visitor
) -> None:
    """A day of the week says nothing of a day in three months."""
    await alice.submit(ADD, FORM)

    expires = (await made(office)).expires
    assert f">{expires:%Y-%m-%d %H:%M} UTC</time>" in (await alice.get(LIST)).text


# --- Everybody's, for administrators ---------------------------------------------------------------


async def test_who_administers_users_sees_everybodys_and_revokes_one_after_a_question(
    office: Office, alice: Visitor
) -> None:
    await alice.submit(ADD, FORM)
    editor = await office.person("erin", "editor")
    assert (
        '<a class="button quiet" href="/web/users/tokens">' in (await editor.get("/web/users")).text
    )
    page = (await editor.get("/web/users/tokens")).text
    address = f"/web/users/token/{(await made(office)).id}/revoke"
    assert "backup on the NAS" in page
    assert "of alice, never used" in page
    assert address in page
    assert "of alice?" in (await editor.get(address)).text

    done = await editor.submit(address, {})

    assert done.status_code == 303
    assert await office.world.admin.list_device_tokens() == ()
    assert (await editor.get(address)).status_code == 404
    assert "No tokens" in (await editor.get("/web/users/tokens")).text
    [event] = [one for one in office.world.audit.events if one.type == "device_token.delete"]
    assert (event.fields["user"], event.fields["owner"]) == ("erin", "alice")


async def test_nobody_else_sees_everybodys(office: Office, alice: Visitor) -> None:
    assert (await alice.get("/web/users/tokens")).status_code == 403
