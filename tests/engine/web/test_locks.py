"""The pages about locks, with a real auth service behind them."""

from html import unescape

import pytest

from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tport.engine.errors import TportError

ADD = "/web/locks/add"
FORM = {"kind": "user", "target": "alice", "message": "lost laptop", "span": "3600"}


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def test_a_user_is_locked_out_and_let_in_again(office: Office, editor: Visitor) -> None:
    await office.world.alice()

    done = await editor.submit(ADD, FORM)

    page = (await editor.get(done.headers["location"])).text
    assert "alice is locked out from now on" in page
    assert "lost laptop" in page
    with pytest.raises(TportError):
        await office.world.sign_in()

    [lock] = await office.world.admin.list_locks()
    lifted = await editor.submit(f"/web/lock/{lock.name}/lift", {})
    assert "Nobody is locked out" in (await editor.get(lifted.headers["location"])).text
    assert (await office.world.sign_in()).session.user == "alice"


async def test_who_locks_is_told_that_sessions_go_on_when_the_lock_is_lifted(
    office: Office, editor: Visitor
) -> None:
    alice = await office.person("alice", "auditor")
    assert "Sessions go on when it is lifted" in (await editor.get(ADD)).text
    await editor.submit(ADD, FORM)
    assert (await alice.get("/web/account")).status_code == 403

    [lock] = await office.world.admin.list_locks()
    await editor.submit(f"/web/lock/{lock.name}/lift", {})

    assert (await alice.get("/web/account")).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"target": "nobody"}, 404, "no user is called 'nobody'"),
        ({"target": ""}, 400, "name whom the lock keeps out"),
        ({"kind": "cat"}, 400, "choose what is locked"),
        ({"kind": "role", "target": "none"}, 404, "no role is called 'none'"),
        ({"span": "1"}, 400, "choose what is locked"),
    ],
)
async def test_what_can_t_be_is_said_in_the_form_with_what_was_typed(
    office: Office, editor: Visitor, fields: dict[str, str], status: int, problem: str
) -> None:
    page = await editor.submit(ADD, {**FORM, **fields})

    assert page.status_code == status
    assert problem in unescape(page.text).lower()
    assert 'value="lost laptop"' in page.text
    assert await office.world.admin.list_locks() == ()


async def test_a_link_may_name_whom_to_lock(editor: Visitor) -> None:
    assert 'name="target" value="bob@x"' in (await editor.get(f"{ADD}?user=bob%40x")).text


async def test_a_lock_that_is_gone_is_not_found(editor: Visitor) -> None:
    assert (await editor.get("/web/lock/none/lift")).status_code == 404


async def test_auth_12_who_locks_others_out_or_removes_them_shows_first_that_it_is_they(
    office: Office, editor: Visitor
) -> None:
    """AUTH-12. A session that was left open keeps nobody out; what was typed stays meanwhile."""
    await office.person("alice", "access")
    office.world.pass_time(minutes=6)
    for path, fields in ((ADD, FORM), ("/web/user/alice/remove", {})):
        page = await editor.submit(path, fields)

        assert page.status_code == 401
        assert 'href="/web/prove?next=%2Fweb%2Fproved"' in page.text
    assert 'value="lost laptop"' in (await editor.submit(ADD, FORM)).text
    assert await office.world.admin.list_locks() == ()
    assert "alice" in {info.user.name for info in await office.world.admin.list_users()}

    [session] = await office.world.admin.list_sessions(user="erin", limit=2)
    await office.world.service.sessions.proven(session.id)
    await editor.submit(ADD, FORM)
    await editor.submit("/web/user/alice/remove", {})
    assert len(await office.world.admin.list_locks()) == 1
    assert "alice" not in {info.user.name for info in await office.world.admin.list_users()}
