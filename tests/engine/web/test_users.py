"""The pages about people do what they say, with a real auth service behind them."""

import re
from html import unescape

import pytest

from tests.engine.web.browser import WEB_COOKIE, Visitor
from tests.engine.web.office import Office
from tport.engine.access.administrators import NOBODY_LEFT
from tport.engine.types.lock import LockTarget
from tport.engine.web.users import trait_lines, traits_from

ADD = "/web/users/add"


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


def link_in(page: str) -> str:
    [link] = re.findall(r"<code>(https://[^<]*/web/invite/[^<]*)</code>", page)
    return unescape(link)


async def test_a_user_is_added_by_a_form_and_the_link_signs_them_in(
    office: Office, editor: Visitor
) -> None:
    page = await editor.submit(
        ADD, {"name": " Bob@example.com ", "role:access": "on", "traits": "team=dev\nteam=ops"}
    )

    assert page.status_code == 200
    assert "bob@example.com is invited" in page.text
    signed = await office.world.accept(link_in(page.text))
    assert signed.session.user == "bob@example.com"
    [bob] = [i for i in await office.world.admin.list_users() if i.user.name == "bob@example.com"]
    assert bob.user.traits == {"team": ("dev", "ops")}
    assert bob.user.created_by == "erin"


async def test_the_list_tells_how_each_user_stands(office: Office, editor: Visitor) -> None:
    await office.world.admin.create_user(name="bob", roles=("access",), traits={"x": ("<i>",)})
    await office.world.alice()

    page = (await editor.get("/web/users")).text
    assert re.search(r"bob</a>\s*<span class=\"badge \">invited until <time", page)
    assert re.search(r"alice</a>\s*<span class=\"badge good\">active", page)
    assert "x=&lt;i&gt;" in page

    office.world.pass_time(hours=2)
    assert "invite expired" in (await editor.get("/web/users")).text


async def test_who_is_locked_out_is_shown_so_with_the_way_to_lift_it(
    office: Office, editor: Visitor
) -> None:
    await office.world.alice()
    target = LockTarget(role="access")
    lock = await office.world.admin.create_lock(target=target, message="", ttl=60)

    page = (await editor.get("/web/users")).text
    assert re.search(r"alice</a>\s*<span class=\"badge bad\">locked", page)
    assert f'href="/web/lock/{lock.name}/lift"' in (await editor.get("/web/user/alice")).text

    office.world.pass_time(hours=1)
    assert "locked" not in (await editor.get("/web/users")).text


async def test_the_search_looks_through_names_roles_traits_and_states(
    office: Office, editor: Visitor
) -> None:
    await office.world.admin.create_user(name="bob", roles=("access",), traits={"team": ("dev",)})

    assert "Showing 1 of 2" in (await editor.get("/web/users?q=INVITED+team%3Ddev")).text
    assert "Nobody matches" in (await editor.get("/web/users?q=nobody")).text


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"name": "bob"}, 400, "Choose at least one role."),
        ({"name": "", "role:access": "on"}, 400, "A user needs a name."),
        ({"name": "b b", "role:access": "on"}, 400, "is no user name"),
        ({"name": "erin", "role:access": "on"}, 409, "exists already"),
        ({"name": "bob", "role:access": "on", "traits": "a=b\nteam"}, 400, "traits, line 2"),
        ({"name": "bob", "role:nothing": "on"}, 404, "no role is called"),
    ],
)
async def test_what_can_t_be_is_said_in_the_form_with_what_was_typed(
    editor: Visitor, fields: dict[str, str], status: int, problem: str
) -> None:
    page = await editor.submit(ADD, {"traits": "kept=yes", **fields})

    assert page.status_code == status
    assert problem.lower() in unescape(page.text).lower()
    assert f'id="name" name="name" value="{fields["name"]}"' in page.text
    assert fields.get("traits", "kept=yes") in page.text
    for box in ("role:access", "role:nothing"):
        if box in fields:
            assert re.search(rf'name="{box}" value="on" checked', page.text)


async def test_roles_and_traits_are_changed_and_the_list_shows_it(
    office: Office, editor: Visitor
) -> None:
    await office.world.alice()

    done = await editor.submit("/web/user/alice", {"role:auditor": "on", "traits": "a=b"})

    assert done.status_code == 303
    assert done.headers["location"].startswith("/web/user/alice?notice=")
    page = (await editor.get(done.headers["location"])).text
    assert '<p class="notice" role="status">alice was changed.' in page
    [alice] = [i.user for i in await office.world.admin.list_users() if i.user.name == "alice"]
    assert (alice.roles, alice.traits) == (("auditor",), {"a": ("b",)})


async def test_a_role_given_for_a_time_stays_so_when_something_else_is_changed(
    office: Office, editor: Visitor
) -> None:
    """Saved without a thought of it, it must not last for ever."""
    alice = await office.person("alice", "auditor")
    acting = office.world.proxy.acting_for(alice.http.cookies[WEB_COOKIE])
    asked = await acting.request_access(host="grafana.tport.example.com", reason="x")
    await office.world.admin.approve_request(id=asked.id, role="access", ttl=600, answer="")

    page = (await editor.get("/web/user/alice")).text
    assert re.search(r'name="role:access" value="on" checked>.*?until <time', page, re.DOTALL)
    assert re.search(
        r'<p class="where">auditor, access until <time', (await editor.get("/web/users")).text
    )
    ticked = {"role:access": "on", "role:auditor": "on"}
    await editor.submit("/web/user/alice", {**ticked, "traits": "team=dev"})

    [user] = [i.user for i in await office.world.admin.list_users() if i.user.name == "alice"]
    assert (user.roles, user.traits) == (("access", "auditor"), {"team": ("dev",)})
    assert [grant.role for grant in user.grants] == ["access"]

    await editor.submit("/web/user/alice", {"role:auditor": "on", "traits": ""})
    [user] = [i.user for i in await office.world.admin.list_users() if i.user.name == "alice"]
    assert (user.roles, user.grants) == (("auditor",), ())


async def test_of_two_editors_at_once_the_second_is_told_and_nothing_is_overwritten(
    office: Office, editor: Visitor
) -> None:
    other = await office.person("otto", "editor")
    await office.world.alice()
    seen = re.findall(
        r'name="(token|revision)" value="([^"]*)"',
        (await editor.get("/web/user/alice")).text.partition("<main")[2],
    )
    await other.submit("/web/user/alice", {"role:editor": "on", "traits": "team=otto"})

    page = await editor.post("/web/user/alice", {**dict(seen), "role:auditor": "on"})

    assert page.status_code == 409
    assert "changed meanwhile by otto" in unescape(page.text)
    assert "Traits: team=otto" in page.text
    assert re.search(r'name="role:auditor" value="on" checked', page.text)
    [alice] = [i.user for i in await office.world.admin.list_users() if i.user.name == "alice"]
    assert alice.roles == ("editor",)

    again = dict(
        re.findall(r'name="(token|revision)" value="([^"]*)"', page.text.partition("<main")[2])
    )
    assert (
        await editor.post("/web/user/alice", {**again, "role:auditor": "on"})
    ).status_code == 303


async def test_a_reset_asks_first_and_shows_a_new_link(office: Office, editor: Visitor) -> None:
    alice = await office.world.alice()
    assert "signed out everywhere" in (await editor.get("/web/user/alice/reset")).text
    assert (await office.world.proxy.web_session(id=alice.session.id)).user == "alice"

    page = await editor.submit("/web/user/alice/reset", {})

    assert (await office.world.accept(link_in(page.text))).session.user == "alice"
    assert "invited until" not in (await editor.get("/web/user/alice")).text


async def test_a_removal_asks_first_names_what_ends_and_does_it(
    office: Office, editor: Visitor
) -> None:
    await office.world.alice()
    page = (await editor.get("/web/user/alice/remove")).text
    assert "roles (access) and traits are forgotten" in page
    assert "(1 sign-in and 0 sessions at applications now)" in page

    done = await editor.submit("/web/user/alice/remove", {})

    assert done.status_code == 303
    assert "alice was removed" in (await editor.get(done.headers["location"])).text
    assert (await editor.get("/web/user/alice")).status_code == 404


async def test_before_the_last_who_administers_goes_the_pages_warn(
    office: Office, editor: Visitor
) -> None:
    for page in ("/web/user/erin", "/web/user/erin/remove"):
        assert NOBODY_LEFT in (await editor.get(page)).text

    await office.person("bob", "editor")
    for page in ("/web/user/erin", "/web/user/erin/remove", "/web/user/bob/remove"):
        assert NOBODY_LEFT not in (await editor.get(page)).text


async def test_a_link_is_in_no_address_and_kept_by_no_cache(editor: Visitor) -> None:
    page = await editor.submit(ADD, {"name": "bob", "role:access": "on"})

    assert "location" not in page.headers
    assert page.headers["cache-control"] == "no-store"


def test_traits_are_read_as_they_are_written() -> None:
    traits = {"team": ("dev", "a=b"), "logins": ("root",)}
    assert traits_from("\n".join(trait_lines(traits))) == traits
    assert traits_from(" a = b \n\na=b\n") == {"a": ("b",)}
