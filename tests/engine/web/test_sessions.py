"""The page about sessions, with a real auth service behind it."""

import re

import pytest

from tests.engine.auth.world import GRAFANA
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tport.engine.errors import NotSignedIn
from tport.engine.web.sessions import browser_of


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def test_what_was_opened_by_a_sign_in_stands_under_it(
    office: Office, editor: Visitor
) -> None:
    await office.world.serve(GRAFANA)
    await office.world.open(await office.world.alice())

    page = (await editor.get("/web/sessions")).text

    assert re.search(r"alice .*?Opened by it.*?grafana ", page, re.S)
    assert page.count("this browser") == 1
    only = (await editor.get("/web/sessions?user=alice")).text
    assert "erin </h2>" not in only


async def test_a_session_is_ended_after_a_question(office: Office, editor: Visitor) -> None:
    alice = await office.world.alice()
    address = f"/web/session/{alice.session.id}/end"
    assert "End alice" in (await editor.get(address)).text
    assert (await office.world.proxy.web_session(id=alice.session.id)).user == "alice"

    done = await editor.submit(address, {})

    assert "alice&#39;s sign-in was ended" in (await editor.get(done.headers["location"])).text
    with pytest.raises(NotSignedIn):
        await office.world.proxy.web_session(id=alice.session.id)
    assert (await editor.get(address)).status_code == 404


async def test_who_ends_their_own_sign_in_is_told_and_then_signed_out(
    office: Office, editor: Visitor
) -> None:
    [own] = await office.world.admin.list_sessions(user="erin", limit=10)
    address = f"/web/session/{own.id}/end"
    assert "This is the browser that you use now" in (await editor.get(address)).text

    done = await editor.submit(address, {})

    assert "/web/login" in (await editor.get(done.headers["location"])).headers["location"]


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120 Safari/537.36",
            "Chrome on Linux",
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) Version/17 Safari/605", "Safari on macOS"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/120 Safari/537.36 Edg/120", "Edge on Windows"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:121.0) Firefox/121.0", "Firefox on Android"),
        ("curl/8.5", "curl"),
        ("<b>", "<b>"),
        ("", ""),
    ],
)
def test_a_browser_is_named_in_words(user_agent: str, words: str) -> None:
    assert browser_of(user_agent) == words
