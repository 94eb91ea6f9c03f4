"""The pages about roles, with a real auth service behind them."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.engine.auth.world import GRAFANA, JENKINS
from tests.engine.web.browser import Visitor, form_fields
from tests.engine.web.office import Office
from tport.engine.auth.rights import role_editing
from tport.engine.types.role import Conditions, Role, RoleOptions, Rule

ADD = "/web/roles/add"
FORM = {
    "name": "developers",
    "description": "Who builds",
    "allow_labels": "env=dev\nenv=test\nteam=*",
    "deny_labels": "secret=yes",
    "ttl": "8h",
    "allow_rules": "session: list, read",
    "deny_rules": "",
}
DEVELOPERS = Role(
    name="developers",
    description="Who builds",
    allow=Conditions(
        app_labels={"env": ("dev", "test"), "team": ("*",)},
        rules=(Rule(("session",), ("list", "read")),),
    ),
    deny=Conditions(app_labels={"secret": ("yes",)}),
    options=RoleOptions(max_session_ttl=timedelta(hours=8)),
)
TEXT = """\
kind: role
version: v7
metadata:
  name: developers
spec:
  allow:
    app_labels: {env: dev}
    logins: [root]
"""


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def stored(office: Office, name: str = "developers") -> Role | None:
    return next((r for r in await office.world.admin.list_roles() if r.name == name), None)


async def test_a_role_is_made_by_a_form_and_shown_as_it_was_typed(
    office: Office, editor: Visitor
) -> None:
    done = await editor.submit(ADD, FORM)

    assert done.status_code == 303
    assert await stored(office) == DEVELOPERS
    page = unescape((await editor.get("/web/role/developers")).text)
    for value in (FORM["allow_labels"], FORM["deny_labels"], FORM["allow_rules"]):
        assert f">{value}</textarea>" in page
    assert 'value="8h"' in page
    listed = unescape((await editor.get("/web/roles")).text)
    assert "Opens env dev or test and team *, never secret yes" in listed


async def test_saving_a_form_untouched_changes_nothing(office: Office, editor: Visitor) -> None:
    await editor.submit("/web/roles/add-yaml", {"yaml": TEXT})
    before = await stored(office)
    assert before is not None
    assert before.other, "what has no form field"
    page = unescape((await editor.get("/web/role/developers")).text)
    fields = dict(re.findall(r'<textarea id="\w+" name="(\w+)"[^>]*>(.*?)</textarea>', page, re.S))
    fields |= dict(re.findall(r'<input id="\w+" name="(\w+)" value="([^"]*)"', page))

    done = await editor.submit("/web/role/developers", fields)

    assert done.status_code == 303
    assert await stored(office) == before


async def test_a_role_is_made_and_changed_as_yaml(office: Office, editor: Visitor) -> None:
    assert (await editor.submit("/web/roles/add-yaml", {"yaml": TEXT})).status_code == 303
    page = unescape((await editor.get("/web/role/developers/yaml")).text)
    [text] = re.findall(r"<textarea[^>]*>(.*?)</textarea>", page, re.S)
    assert "logins" in text

    changed = re.sub(r"\bdev\b", "prod", text)
    done = await editor.submit("/web/role/developers/yaml", {"yaml": changed})

    assert done.status_code == 303
    role = await stored(office)
    assert role is not None
    assert role.allow.app_labels == {"env": ("prod",)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace("app_labels", "app_label"), "YAML:7:16: spec.allow.app_label: unknown field"),
        (TEXT.replace("v7", "v99"), "YAML:2:"),
        (TEXT + "  :\n- x", "this is no YAML"),
        (TEXT + "---\n" + TEXT, "one document whose kind is role"),
        ("kind: user\nmetadata: {name: x}\nversion: v2\nspec: {roles: []}", "one document whose"),
        ("", "no resource in it"),
    ],
)
async def test_what_is_wrong_in_yaml_is_said_with_its_line_and_column(
    office: Office, editor: Visitor, text: str, problem: str
) -> None:
    page = await editor.submit("/web/roles/add-yaml", {"yaml": text})

    assert page.status_code == 400
    shown = unescape(page.text)
    assert problem in shown
    assert f">{text}</textarea>" in shown
    assert await stored(office) is None


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "a b"}, "is no role name"),
        ({"name": "access"}, "exists already"),
        ({"allow_labels": "env"}, "what it opens, line 1: 'env' is not name=value"),
        ({"allow_labels": "*=dev"}, "takes only the value '*'"),
        ({"deny_labels": "a=^(x$"}, "deny.app_labels: 'a'"),
        ({"ttl": "8 hours"}, "Sessions end after: '8 hours' is no duration."),
        ({"allow_rules": "user"}, "what it opens rules, line 1"),
        ({"allow_rules": "user: fly"}, "'fly' is none of"),
    ],
)
async def test_what_can_t_be_is_said_in_the_form_with_what_was_typed(
    office: Office, editor: Visitor, fields: dict[str, str], problem: str
) -> None:
    form = {**FORM, **fields}

    page = await editor.submit(ADD, form)

    assert page.status_code in (400, 409)
    shown = unescape(page.text)
    assert problem.lower() in shown.lower()
    assert f'name="name" value="{form["name"]}"' in shown
    assert f">{form['allow_labels']}</textarea>" in shown
    assert await stored(office) is None


async def test_who_would_open_what_is_shown_before_anything_is_saved(
    office: Office, editor: Visitor
) -> None:
    world = office.world
    await world.serve(GRAFANA, JENKINS)
    await editor.submit(ADD, {**FORM, "allow_labels": "env=dev", "deny_labels": ""})
    await world.admin.create_user(name="dave", roles=("developers",), traits={})

    changed = {**FORM, "allow_labels": "env=prod", "deny_labels": "", "do": "preview"}
    page = await editor.submit("/web/role/developers", changed)

    assert page.status_code == 200
    text = re.sub(r"<[^>]+>", "", page.text)
    assert "this role opens jenkins, of what is offered now" in text
    assert "dave gains jenkins loses grafana; may then open jenkins" in text
    assert "erin may open nothing" in text
    assert ">env=prod</textarea>" in page.text
    role = await stored(office)
    assert role is not None
    assert role.allow.app_labels == {"env": ("dev",)}, "nothing was saved"


@pytest.mark.parametrize("how", ["opened", "asked", "asked as YAML"])
async def test_a_role_can_be_changed_while_others_are_told_what_roles_open(
    office: Office, editor: Visitor, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """DOS-05: one is told at a time; who waits for too long is told later, and may save meanwhile."""
    await editor.submit(ADD, FORM)
    monkeypatch.setattr(role_editing, "TURN_WAIT", 0.01)
    url, changed = "/web/role/developers", {**FORM, "description": "new"}
    previewing = office.world.service.role_editing._previewing

    async def be_told() -> None:
        async with previewing:
            await trio.sleep_forever()

    async with trio.open_nursery() as others:
        others.start_soon(be_told)
        await wait_all_tasks_blocked()
        if how == "opened":
            page = await editor.get(url)
        elif how == "asked":
            page = await editor.submit(url, {**changed, "do": "preview"})
        else:
            page = await editor.submit(f"{url}/yaml", {"yaml": TEXT, "do": "preview"})

        assert page.status_code == 200
        assert "Others are being told just now" in page.text
        assert (await editor.submit(url, changed)).status_code == 303
        others.cancel_scope.cancel()
    assert "Others are being told" not in (await editor.get(url)).text


async def test_of_two_editors_at_once_the_second_is_told_and_nothing_is_overwritten(
    office: Office, editor: Visitor
) -> None:
    other = await office.person("otto", "editor")
    await editor.submit(ADD, FORM)
    url = "/web/role/developers"
    seen = form_fields((await editor.get(url)).text, url)
    await other.submit(url, {**FORM, "description": "otto's"})

    page = await editor.post(url, {**seen, **FORM, "description": "erin's"})

    assert page.status_code == 409
    assert "changed meanwhile by otto" in page.text
    assert "description: otto&#39;s" in page.text
    role = await stored(office)
    assert role is not None
    assert role.description == "otto's"
    again = form_fields(page.text, url)
    assert (await editor.post(url, {**again, **FORM})).status_code == 303


async def test_a_role_in_use_or_of_tport_itself_is_not_deleted(
    office: Office, editor: Visitor
) -> None:
    await editor.submit(ADD, FORM)
    await office.world.admin.create_user(name="dave", roles=("developers",), traits={})
    address = "/web/role/developers/delete"
    assert "dave has it" in re.sub(r"\s+", " ", (await editor.get(address)).text)
    assert "can't be deleted" in (await editor.get("/web/role/access/delete")).text

    await office.world.admin.delete_user(name="dave")
    done = await editor.submit(address, {})

    assert "developers was deleted" in (await editor.get(done.headers["location"])).text
    assert await stored(office) is None


async def test_another_role_s_text_does_not_replace_this_one(
    office: Office, editor: Visitor
) -> None:
    await editor.submit(ADD, FORM)
    page = await editor.submit(
        "/web/role/developers/yaml", {"yaml": TEXT.replace("developers", "editor")}
    )

    assert page.status_code == 400
    assert "name can&#39;t be changed" in page.text
    assert await stored(office) == DEVELOPERS
