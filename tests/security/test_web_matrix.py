"""AZ-05 for pages: every route of the proxy's own host, and who gets through it.

Generated from the route table: a route without a row here fails, and so does a row without a
route. Auth is real, the people have tport's own roles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Final, Literal, NamedTuple

import msgspec
import pytest
from starlette.routing import Route

from tests.engine.auth.world import CLUSTER, GRAFANA
from tests.engine.web.browser import WEB_COOKIE, Visitor
from tests.engine.web.office import Office, open_office
from tport.engine.access.rules import check_rule
from tport.engine.errors import AccessDenied
from tport.engine.types.device_token import DeviceToken
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.role import PRESETS
from tport.engine.types.session import WebSession, session_id
from tport.engine.types.token import JoinToken
from tport.engine.web.assets import STYLE
from tport.engine.web.forms import form_token

Who = Literal["anybody", "signed-in"] | tuple[str, str]

PEOPLE: Final[Mapping[str, tuple[str, ...]]] = {
    "anonymous": (),
    "no-role": (),
    "auditor": ("auditor",),
    "editor": ("editor",),
}


class Row(NamedTuple):
    """A method of a route: who gets through, and an address that the route has.

    `who`: "anybody"; "signed-in": others are sent to sign in; kind and verb: of those who are
    signed in, who has a role that allows it.
    """

    who: Who
    path: str = ""


INVITE: Final = "/web/invite/inv_0123456789abcdef"  # there is none like it

DEVICE_TOKEN: Final = "/web/users/token/01234567/revoke"
NO_SESSION: Final = "/web/account/session/01234567/end"  # it is somebody else's
NO_PROVIDER: Final = "/v1/webapi/oidc/logout/none"
NO_TOKEN: Final = "/web/account/token/0123/revoke"  # of this person

ROWS: Final[Mapping[tuple[str, str], Row]] = {
    ("GET", "/"): Row("signed-in"),
    ("GET", "/web"): Row("signed-in"),
    ("GET", "/web/login"): Row("anybody"),
    ("POST", "/web/login"): Row("anybody"),
    ("GET", "/web/login/second"): Row("anybody"),  # what was begun decides; tests of its own
    ("POST", "/web/login/second"): Row("anybody"),
    ("POST", "/web/login/passkey"): Row("anybody"),
    ("GET", "/web/invite/{token}"): Row("anybody", INVITE),
    ("POST", "/web/invite/{token}"): Row("anybody", INVITE),
    ("GET", "/web/login/sso/{kind}/{name}"): Row("anybody", "/web/login/sso/oidc/none"),
    # what was begun decides, by its state; tests of its own (AUTH-14)
    ("GET", "/v1/webapi/{kind}/callback"): Row("anybody", "/v1/webapi/oidc/callback"),
    ("GET", "/v1/webapi/{kind}/callback/{name}"): Row("anybody", "/v1/webapi/oidc/callback/none"),
    ("POST", "/v1/webapi/oidc/logout/{name}"): Row("anybody", NO_PROVIDER),
    ("GET", "/web/sso/test/{id}"): Row("anybody", "/web/sso/test/none"),
    ("GET", "/web/prove/sso"): Row("signed-in"),
    ("GET", "/web/logout"): Row("signed-in"),
    ("POST", "/web/logout"): Row("signed-in"),
    ("GET", "/web/cluster/{cluster}/apps"): Row("signed-in", f"/web/cluster/{CLUSTER}/apps"),
    ("GET", "/web/request"): Row("anybody"),
    ("POST", "/web/request"): Row("signed-in"),
    ("GET", "/web/launch"): Row("anybody"),  # its state decides; tests of its own
    ("GET", "/webapi/ping"): Row("anybody"),
    ("GET", "/webapi/find"): Row("anybody"),
    ("GET", "/webapi/cas"): Row("anybody"),
    ("GET", "/.well-known/jwks.json"): Row("anybody"),
    ("GET", "/healthz"): Row("anybody"),
    ("GET", "/robots.txt"): Row("anybody"),
    ("GET", "/favicon.ico"): Row("anybody"),
    ("GET", "/static/{name}"): Row("anybody", STYLE.url),
    ("GET", "/v1/openapi.json"): Row("anybody"),
    ("GET", "/web/settings"): Row(("cluster_auth_preference", "read")),
    ("GET", "/web/settings/sign-in"): Row(("cluster_auth_preference", "update")),
    ("POST", "/web/settings/sign-in"): Row(("cluster_auth_preference", "update")),
    ("GET", "/web/settings/sign-in/reset"): Row(("cluster_auth_preference", "update")),
    ("POST", "/web/settings/sign-in/reset"): Row(("cluster_auth_preference", "update")),
    ("GET", "/web/requests"): Row(("access_request", "list")),
    ("GET", "/web/requests/{id}"): Row(("access_request", "update"), "/web/requests/none"),
    ("POST", "/web/requests/{id}"): Row(("access_request", "update"), "/web/requests/none"),
    ("GET", "/web/join"): Row(("token", "create")),
    ("POST", "/web/join"): Row(("token", "create")),
    ("GET", "/web/audit"): Row(("event", "list")),
    ("GET", "/web/audit/export"): Row(("event", "list")),
    # theirs, or there is none: tests of its own
    ("GET", "/web/app/{name}/icon"): Row("anybody", "/web/app/grafana/icon"),
    ("GET", "/web/app/{name}/favourite"): Row("signed-in", "/web/app/grafana/favourite"),
    ("POST", "/web/app/{name}/favourite"): Row("signed-in", "/web/app/grafana/favourite"),
    ("GET", "/web/apps/add"): Row(("token", "create")),
    ("POST", "/web/apps/add"): Row(("token", "create")),
    ("GET", "/web/apps/add/{name}"): Row(("token", "create"), "/web/apps/add/wiki"),
    ("GET", "/web/account"): Row("signed-in"),
    ("GET", "/web/account/password"): Row("signed-in"),
    ("POST", "/web/account/password"): Row("signed-in"),
    ("GET", "/web/account/devices/add"): Row("signed-in"),
    ("POST", "/web/account/devices/add"): Row("signed-in"),
    ("GET", "/web/account/device/{id}"): Row("signed-in", "/web/account/device/none"),
    ("POST", "/web/account/device/{id}"): Row("signed-in", "/web/account/device/none"),
    ("GET", "/web/account/device/{id}/remove"): Row("signed-in", "/web/account/device/none/remove"),
    ("POST", "/web/account/device/{id}/remove"): Row(
        "signed-in", "/web/account/device/none/remove"
    ),
    ("GET", "/web/account/recovery-codes"): Row("signed-in"),
    ("POST", "/web/account/recovery-codes"): Row("signed-in"),
    ("GET", "/web/prove"): Row("signed-in"),
    ("POST", "/web/prove"): Row("signed-in"),
    ("GET", "/web/proved"): Row("signed-in"),
    ("GET", "/web/users"): Row(("user", "list")),
    ("GET", "/web/users/add"): Row(("user", "create")),
    ("POST", "/web/users/add"): Row(("user", "create")),
    ("GET", "/web/user/{name}"): Row(("user", "update"), "/web/user/victim"),
    ("POST", "/web/user/{name}"): Row(("user", "update"), "/web/user/victim"),
    ("GET", "/web/user/{name}/reset"): Row(("user", "update"), "/web/user/victim/reset"),
    ("POST", "/web/user/{name}/reset"): Row(("user", "update"), "/web/user/victim/reset"),
    ("GET", "/web/user/{name}/remove"): Row(("user", "delete"), "/web/user/victim/remove"),
    ("POST", "/web/user/{name}/remove"): Row(("user", "delete"), "/web/user/victim/remove"),
    ("GET", "/web/tokens"): Row(("token", "list")),
    ("GET", "/web/tokens/add"): Row(("token", "create")),
    ("POST", "/web/tokens/add"): Row(("token", "create")),
    ("GET", "/web/token/{id}/delete"): Row(("token", "delete"), "/web/token/0123/delete"),
    ("POST", "/web/token/{id}/delete"): Row(("token", "delete"), "/web/token/0123/delete"),
    ("GET", "/web/agents"): Row(("app_server", "list")),
    ("GET", "/web/app/{name}/check"): Row(("app_server", "update"), "/web/app/grafana/check"),
    ("POST", "/web/app/{name}/check"): Row(("app_server", "update"), "/web/app/grafana/check"),
    ("GET", "/web/check/{id}"): Row(("app_server", "update"), "/web/check/0123"),
    ("GET", "/web/roles"): Row(("role", "list")),
    ("GET", "/web/roles/add"): Row(("role", "create")),
    ("POST", "/web/roles/add"): Row(("role", "create")),
    ("GET", "/web/roles/add-yaml"): Row(("role", "create")),
    ("POST", "/web/roles/add-yaml"): Row(("role", "create")),
    ("GET", "/web/role/{name}"): Row(("role", "update"), "/web/role/access"),
    ("POST", "/web/role/{name}"): Row(("role", "update"), "/web/role/access"),
    ("GET", "/web/role/{name}/yaml"): Row(("role", "update"), "/web/role/access/yaml"),
    ("POST", "/web/role/{name}/yaml"): Row(("role", "update"), "/web/role/access/yaml"),
    ("GET", "/web/role/{name}/delete"): Row(("role", "delete"), "/web/role/access/delete"),
    ("POST", "/web/role/{name}/delete"): Row(("role", "delete"), "/web/role/access/delete"),
    ("GET", "/web/sessions"): Row(("session", "list")),
    ("GET", "/web/session/{id}/end"): Row(("session", "delete"), "/web/session/01234567/end"),
    ("POST", "/web/session/{id}/end"): Row(("session", "delete"), "/web/session/01234567/end"),
    ("GET", "/web/users/tokens"): Row(("user", "list")),
    ("GET", "/web/users/token/{id}/revoke"): Row(("user", "update"), DEVICE_TOKEN),
    ("POST", "/web/users/token/{id}/revoke"): Row(("user", "update"), DEVICE_TOKEN),
    ("GET", "/web/account/sessions"): Row("signed-in"),
    ("GET", "/web/account/session/{id}/end"): Row("signed-in", NO_SESSION),
    ("POST", "/web/account/session/{id}/end"): Row("signed-in", NO_SESSION),
    ("GET", "/web/account/tokens"): Row("signed-in"),
    ("GET", "/web/account/tokens/add"): Row("signed-in"),
    ("POST", "/web/account/tokens/add"): Row("signed-in"),
    ("GET", "/web/account/token/{id}/revoke"): Row("signed-in", NO_TOKEN),
    ("POST", "/web/account/token/{id}/revoke"): Row("signed-in", NO_TOKEN),
    ("GET", "/web/certificates"): Row(("app_server", "list")),
    ("GET", "/web/locks"): Row(("lock", "list")),
    ("GET", "/web/locks/add"): Row(("lock", "create")),
    ("POST", "/web/locks/add"): Row(("lock", "create")),
    ("GET", "/web/lock/{name}/lift"): Row(("lock", "delete"), "/web/lock/0123/lift"),
    ("POST", "/web/lock/{name}/lift"): Row(("lock", "delete"), "/web/lock/0123/lift"),
}
PURPOSES: Final = {"/web/logout": "logout", "/web/request": "request"}  # elsewhere: the path
JSON_CALLS: Final = ("POST", "/v1/{call}")  # each call of its own: test_json_api.py
POSTS: Final = [path for method, path in ROWS if method == "POST"]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with open_office() as opened:
        await opened.world.admin.create_user(name="victim", roles=("access",), traits={})
        await opened.world.serve(GRAFANA)
        now = opened.world.clock.now
        expires = now + timedelta(hours=1)
        stores = opened.world.service.cluster.stores
        token = JoinToken(id="0123", hint="0123", expires=expires)
        await stores.tokens.put("0123", token)
        lock = Lock(name="0123", target=LockTarget(user="nobody"))
        await stores.locks.put("0123", lock)
        victim = await stores.users.get("victim")
        session = WebSession(
            id="01234567",
            user="victim",
            user_id=victim.id,
            proofs=victim.proofs,
            cluster=CLUSTER,
            created=now,
            expires=expires,
        )
        await stores.web_sessions.put("01234567", session)
        device_token = DeviceToken(
            id="01234567",
            name="script",
            user="victim",
            user_id=victim.id,
            proofs=victim.proofs,
            app="grafana",
            created=now,
            expires=expires,
        )
        await stores.device_tokens.put("01234567", device_token)
        await stores.device_tokens_of.put(f"{victim.id}/01234567", msgspec.Raw(b"null"))
        yield opened


async def someone(office: Office, who: str) -> Visitor:
    if who == "anonymous":
        return await office.anybody()
    return await office.person("person", *PEOPLE[who])


async def test_every_route_has_a_row_and_every_row_a_route(office: Office) -> None:
    """AZ-05"""
    routes = {
        (method, route.path)
        for route in office.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert routes - {JSON_CALLS} == set(ROWS)


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize(("method", "path"), ROWS, ids="-".join)
async def test_az05_each_route_lets_through_exactly_who_may(
    office: Office, method: str, path: str, who: str
) -> None:
    """AZ-05: a form comes with the right hidden token, so that only who sends it decides."""
    row = ROWS[(method, path)]
    visitor, address = await someone(office, who), row.path or path
    before = await kept(office)

    if method == "POST":
        response = await visitor.post(address, {"token": own_token(visitor, address)})
    else:
        response = await visitor.get(address)

    assert response.status_code < 500
    if row.who == "anybody":
        return
    to_sign_in = response.headers.get("location", "").startswith("/web/login")
    if address == "/web/logout" and who != "anonymous":
        to_sign_in = False  # it is what signing out leads to
    if who == "anonymous":
        assert to_sign_in
    elif isinstance(row.who, tuple) and not may(who, row.who):
        assert response.status_code == 403
    else:
        assert response.status_code != 403
        assert not to_sign_in
        return
    assert await kept(office) == before, "who was refused changed nothing"


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("lie", ["no-token", "token-of-another", "another-form", "foreign-site"])
async def test_web05_no_form_counts_that_our_own_page_in_this_browser_did_not_send(
    office: Office, path: str, lie: str
) -> None:
    """WEB-05: an editor's browser, and a page of a sibling application that makes it send forms."""
    editor = await office.person("person", "editor")
    address = ROWS[("POST", path)].path or path
    other = await office.person("other", "editor")
    token = {
        "no-token": "",
        "token-of-another": own_token(other, address),
        "another-form": own_token(editor, f"{address}/x"),
        "foreign-site": own_token(editor, address),
    }[lie]
    headers = {"sec_fetch_site": "same-site"} if lie == "foreign-site" else {}
    before = await kept(office)

    response = await editor.post(address, {"token": token}, **headers)

    # 404: there is no such invite, device, or token of theirs; 303: a request without a state leads
    # to the applications, a second step of nothing to the sign-in
    elsewhere = (
        "/web/request",
        INVITE,
        NO_TOKEN,
        NO_SESSION,
        "/web/login/second",
        "/web/login/passkey",
    )
    # 400: what a provider sends counts by its signature, and comes from no browser
    if address == NO_PROVIDER:
        assert response.status_code == 400
    else:
        assert response.status_code in (403, 404) or address in elsewhere
    assert await kept(office) == before


def may(who: str, rule: tuple[str, str]) -> bool:
    try:
        check_rule(PRESETS, PEOPLE[who], *rule)
    except AccessDenied:
        return False
    return True


def own_token(visitor: Visitor, address: str) -> str:
    """Return the token that our page would have put into a form of this browser."""
    purpose = PURPOSES.get(address, address)
    secret = visitor.http.cookies.get(WEB_COOKIE)
    return form_token(b"x" * 32, purpose, session_id(secret)) if secret else ""


async def kept(office: Office) -> list[tuple[str, bytes]]:
    """Return all that auth has stored, but what pages that are shown begin."""
    found = await office.world.backend.range("/")
    return [(item.key, item.value) for item in found if not item.key.startswith("/attempts/")]
