"""One's own sessions: seen, ended, and nobody else's among them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.engine.auth.world import CLUSTER, GRAFANA
from tests.engine.web.browser import WEB_COOKIE, Visitor
from tests.engine.web.office import Office, open_office
from tport.engine.api.answers import SignedIn
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import NotSignedIn
from tport.engine.types.factor import OFF
from tport.engine.types.session import session_id

LIST = "/web/account/sessions"


async def alice(office: Office) -> Visitor:
    return await office.person("alice", "access")


async def alice_elsewhere(office: Office) -> SignedIn:
    """Sign alice in at another browser."""
    service = office.world.service
    user = await service.cluster.stores.users.get("alice")
    return await service.sessions.make(user, "192.0.2.8", "Firefox/1", method="local")


async def test_a_person_sees_their_own_sign_ins_and_no_others(office: Office) -> None:
    browser = await alice(office)
    await office.person("bob", "access")
    await alice_elsewhere(office)

    page = (await browser.get(LIST)).text

    assert page.count('<li class="row">') == 2
    assert page.count("this browser") == 1
    assert "bob" not in page


async def test_each_sign_in_says_when_it_was_seen_last() -> None:
    idle = AuthSettings(cluster=CLUSTER, second_factor=OFF, web_idle=timedelta(hours=1))
    async with open_office(idle) as office:
        browser = await alice(office)
        assert "last seen" not in (await browser.get(LIST)).text

        office.world.pass_time(minutes=5)

        assert f'last seen <time datetime="{office.world.clock():%Y-%m-%dT%H:%M:%SZ}' in (
            (await browser.get(LIST)).text
        )


async def test_a_sign_in_elsewhere_is_ended_with_what_was_opened_there(office: Office) -> None:
    await office.world.serve(GRAFANA)
    browser = await alice(office)
    elsewhere = await alice_elsewhere(office)
    opened = await office.world.open(elsewhere)
    assert "Opened there" in (await browser.get(LIST)).text

    done = await browser.submit(f"/web/account/session/{elsewhere.session.id}/end", {})

    assert "That sign-in was ended." in (await browser.get(done.headers["location"])).text
    for id_ in (elsewhere.session.id, opened.session.id):
        with pytest.raises(NotSignedIn):
            await office.world.proxy.web_session(id=id_)


async def test_somebody_else_s_session_is_none_of_theirs(office: Office) -> None:
    """Knowing its id helps nobody: it looks as if it were not there."""
    browser = await alice(office)
    other = await office.person("bob", "access")
    id_ = session_id(other.http.cookies[WEB_COOKIE])

    assert (await browser.get(f"/web/account/session/{id_}/end")).status_code == 404
    assert (await other.get(LIST)).status_code == 200


async def test_who_ends_the_session_they_use_is_told_first(office: Office) -> None:
    browser = await alice(office)
    id_ = session_id(browser.http.cookies[WEB_COOKIE])

    page = (await browser.get(f"/web/account/session/{id_}/end")).text

    assert "This is the browser that you use now" in page
