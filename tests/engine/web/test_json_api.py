"""The JSON API: each call for exactly whose roles allow it, and for no page of another origin."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import msgspec
import pytest

from tests.engine.web.browser import WEB_COOKIE, Visitor
from tests.engine.web.office import Office
from tests.security.test_auth import ARGUMENTS
from tport.engine.access.rules import check_rule
from tport.engine.api.protocol import CALLERS, RULES
from tport.engine.errors import AccessDenied
from tport.engine.types.role import PRESETS
from tport.engine.web.json_api import openapi

JSON = {"content-type": "application/json", "accept": "application/json"}


async def call(visitor: Visitor, name: str, body: object, **headers: str) -> httpx2.Response:
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await visitor.http.post(f"/v1/{name}", content=content, headers={**JSON, **given})


def allowed(roles: tuple[str, ...], name: str) -> bool:
    rule = RULES.get(name, ("", ""))
    if rule is None:
        return True
    try:
        check_rule(PRESETS, roles, *rule)
    except AccessDenied:
        return False
    return True


@pytest.mark.parametrize("roles", [("editor",), ("auditor",), ("access",)], ids=str)
@pytest.mark.parametrize("name", sorted(RULES.keys() - {"check_right"}))  # it asks that itself
async def test_az05_each_call_is_for_exactly_whose_roles_allow_it(
    office: Office, name: str, roles: tuple[str, ...]
) -> None:
    """AZ-05"""
    visitor = await office.person("person", *roles)

    response = await call(visitor, name, ARGUMENTS.get(name, {}))

    refused = response.status_code == 403 and "your roles may not" in response.text
    assert refused is not allowed(roles, name), response.text
    assert response.status_code < 500
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", sorted(RULES))
async def test_az05_nobody_is_answered_without_a_session(office: Office, name: str) -> None:
    """AZ-05"""
    response = await call(await office.anybody(), name, ARGUMENTS.get(name, {}))

    assert response.status_code == 401
    assert response.json()["error"] == "not-signed-in"


@pytest.mark.parametrize("name", [*sorted(CALLERS.keys() - RULES.keys()), "nothing", "../x"])
async def test_az05_what_no_rule_names_is_no_call(office: Office, name: str) -> None:
    """AZ-05: what proxies and agents ask of auth, no person does."""
    response = await call(await office.person("erin", "editor"), name, {})

    assert response.status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},  # a sibling application
        {"sec_fetch_site": "none", "origin": "https://evil.proxy.test"},
    ],
)
async def test_web05_no_other_origin_calls(office: Office, headers: dict[str, str]) -> None:
    """WEB-05"""
    visitor = await office.person("erin", "editor")

    response = await call(visitor, "delete_user", {"name": "erin"}, **headers)

    assert response.status_code == 403
    assert any(info.user.name == "erin" for info in await office.world.admin.list_users())


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_web05_what_a_form_can_send_is_no_call(office: Office, kind: str) -> None:
    """WEB-05: a page may send these to any origin without asking."""
    visitor = await office.person("erin", "editor")

    response = await call(visitor, "delete_user", {"name": "erin"}, content_type=kind)

    assert response.status_code == 415


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"name": 1}', b'{"nome": "x"}', b"\xff"])
async def test_what_is_no_argument_is_said_to_be_none(office: Office, body: bytes) -> None:
    response = await call(await office.person("erin", "editor"), "delete_user", body)

    assert response.status_code == 400
    assert response.json()["error"] == "invalid-request"


async def test_a_call_does_what_it_says(office: Office) -> None:
    visitor = await office.person("erin", "editor")

    made = await call(
        visitor, "create_user", {"name": "bob", "roles": ["access"], "traits": {"team": ["dev"]}}
    )
    listed = await call(visitor, "list_users", {})
    twice = await call(visitor, "create_user", {"name": "bob", "roles": ["access"], "traits": {}})

    assert made.json()["url"].startswith("https://")
    assert {info["user"]["name"] for info in listed.json()} == {"erin", "bob"}
    assert (twice.status_code, twice.json()["error"]) == (409, "already-exists")
    assert "tport users reset bob" in twice.json()["hint"]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()), set())
    if isinstance(value, list | tuple):
        return set().union(*map(references, value), set())
    return set()


async def test_the_description_has_every_call_and_says_what_it_refers_to(office: Office) -> None:
    response = await (await office.anybody()).fetch("/v1/openapi.json")

    told = response.json()
    assert told == json.loads(msgspec.json.encode(openapi(WEB_COOKIE)))
    assert set(told["paths"]) == {f"/v1/{name}" for name in RULES}
    known = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert references(told) <= known
    for path in told["paths"].values():
        assert path["post"]["summary"].endswith((".", "?")), path
