"""The pages about join tokens, with a real auth service behind them."""

import re
import shlex
from html import unescape

import pytest

from tests.engine.auth.world import PROXY
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tport.engine.pki.keys import make_csr, make_key

ADD = "/web/tokens/add"
FORM = {"app": "grafana", "uri": "http://localhost:3000", "life": "60", "uses": "1"}


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


def shown(page: str, id_: str) -> str:
    [text] = re.findall(rf'<pre id="{id_}"[^>]*><code>(.*?)</code>', page, re.S)
    return unescape(text)


async def test_a_token_is_shown_once_with_the_command_that_joins_by_it(
    office: Office, editor: Visitor
) -> None:
    page = (await editor.submit(ADD, FORM)).text
    secret, command = shown(page, "secret"), shown(page, "command")

    arguments, _, rest = command.partition(" <<'END'\n")
    assert shlex.split(arguments.replace("\\\n", "")) == [
        *("tport", "start", "--roles=app", "--token=-", f"--auth-server={PROXY}:3080"),
        *("--app-name=grafana", "--app-uri=http://localhost:3000"),
    ]
    assert rest == f"{secret}\nEND"
    joined = await office.world.anyone.join(
        token=secret, csr=make_csr(make_key()), role="app", hostname="h"
    )
    assert joined.host_id
    again = (await editor.get("/web/tokens")).text
    assert secret not in again
    assert secret.partition(".")[0] not in again
    assert f"{secret[:8]}…" in again
    assert "used 1 of 1 times" in again


async def test_what_was_typed_is_quoted_for_the_shell(editor: Visitor) -> None:
    uri = "http://localhost:3000/$(id)'; id #"

    page = await editor.submit(ADD, {**FORM, "uri": uri})

    command = shown(page.text, "command").partition(" <<'END'")[0]
    assert shlex.split(command)[-1] == f"--app-uri={uri}"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"app": "gra fana"}, "is no sub-domain"),
        ({"life": "999999"}, "Choose how long"),
        ({"uses": "-1"}, "Choose how long"),
    ],
)
async def test_what_can_t_be_is_said_in_the_form_with_what_was_typed(
    editor: Visitor, fields: dict[str, str], problem: str
) -> None:
    page = await editor.submit(ADD, {**FORM, **fields})

    assert page.status_code == 400
    assert problem in unescape(page.text)
    assert 'value="http://localhost:3000"' in page.text


async def test_a_token_is_deleted_after_a_question_and_exactly_it(
    office: Office, editor: Visitor
) -> None:
    await editor.submit(ADD, FORM)
    await editor.submit(ADD, {**FORM, "app": "jenkins"})
    [address] = [
        f"/web/token/{token.id}/delete"
        for token in await office.world.admin.list_tokens()
        if token.app_name == "grafana"
    ]
    assert "for grafana" in (await editor.get(address)).text

    done = await editor.submit(address, {})

    assert done.status_code == 303
    assert [t.app_name for t in await office.world.admin.list_tokens()] == ["jenkins"]
    assert (await editor.get(address)).status_code == 404


async def test_an_empty_list_says_when_one_is_needed(editor: Visitor) -> None:
    assert "None is needed until" in (await editor.get("/web/tokens")).text
