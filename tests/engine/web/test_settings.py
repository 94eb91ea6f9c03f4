"""The pages about settings, with a real auth service behind them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from html import unescape

import pytest

from tests.engine.auth.visitor import Visitor as Person
from tests.engine.auth.world import CLUSTER, PROXY, open_world
from tests.engine.config.places import read
from tests.engine.web.browser import form_fields
from tests.engine.web.office import Office
from tport.engine.auth.cluster import AuthSettings
from tport.engine.config.in_force import settings_in_force
from tport.engine.types.factor import FactorPolicy

LIST = "/web/settings"
CHANGE = "/web/settings/sign-in"
RESET = "/web/settings/sign-in/reset"
SECRET = "0123456789abcdef0123456789abcdef"
FILE = f"""\
tport: {{auth_token: {SECRET}}}
auth_service:
  tokens: ["app:{SECRET}", "app:/etc/tport/token"]
proxy_service:
  public_addr: tport.example.com:443
"""


@asynccontextmanager
async def office_of(file: str = FILE) -> AsyncIterator[Office]:
    """Open the pages of a process that a file configures."""
    config = read(file)
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=(f"{PROXY}:3080",),
        second_factor=config.auth_service.second_factor,
        web_idle=timedelta(seconds=config.auth_service.web_idle_timeout),
        shown=settings_in_force(config),
    )
    async with open_world(settings=settings) as world, AsyncExitStack() as stack:
        yield Office(world, stack, settings_in_force(config))


def words(html: str) -> str:
    """Return what a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


async def test_every_setting_is_shown_with_its_value_its_origin_and_what_it_means() -> None:
    async with office_of() as office:
        page = await (await office.person("erin", "editor")).get(LIST)
    said = words(page.text)

    assert page.status_code == 200
    for setting in settings_in_force(read(FILE)):
        assert f"<h3><code>{setting.name}</code></h3>" in page.text, setting.path
    assert "public_addr Where users and agents reach the proxy" in said
    assert "tport.example.com:443 from tport.yaml:5" in said
    assert "web_idle_timeout Who makes no request" in said
    assert "1h the default" in said
    assert "set, /etc/tport/token from tport.yaml:3" in said
    assert SECRET not in page.text


async def test_how_people_sign_in_is_changed_in_a_form_and_the_list_says_what_decides() -> None:
    async with office_of() as office:
        editor = await office.person("erin", "editor")
        done = await editor.submit(CHANGE, {"second_factor": "otp", "web_idle_timeout": "8h"})
        assert done.status_code == 303
        page = await editor.get(done.headers["location"])
        said = words(page.text)
        policy = await office.world.proxy.factor_policy()

    assert policy == FactorPolicy.from_word("otp")
    assert "Second factor: Required: a code. 1 user sets one up at the next sign-in." in said
    assert "otp changed while auth runs: cluster_auth_preference" in said
    assert "8h changed while auth runs: cluster_auth_preference" in said


async def test_who_will_be_asked_is_said_before_anything_is_saved() -> None:
    async with office_of("auth_service: {web_idle_timeout: 0s}") as office:
        await Person(office.world, name="alice").with_app()
        editor = await office.person("erin", "editor")
        fields = {"second_factor": "off", "web_idle_timeout": "30m", "do": "preview"}
        page = await editor.submit(CHANGE, fields)
        fields["second_factor"] = "on"
        said = words((await editor.submit(CHANGE, fields)).text)
        policy = await office.world.proxy.factor_policy()

    assert "2 need a password alone alice, erin" in words(page.text)
    assert policy.word == "on"
    assert "1 must set up a second factor first, between password and session erin" in said
    assert "1 show the second factor that they have alice" in said


async def test_what_the_file_sets_is_shown_with_its_line_and_not_asked_for() -> None:
    async with office_of("auth_service:\n  authentication: {second_factor: on}") as office:
        editor = await office.person("erin", "editor")
        page = await editor.get(CHANGE)
        done = await editor.submit(CHANGE, {"web_idle_timeout": "2h"})
        info = await office.world.admin.get_preference()

    assert "Set in tport.yaml:2 : change it there, and restart auth." in words(page.text)
    assert "<fieldset disabled>" in page.text
    assert done.status_code == 303
    assert info.in_force.web_idle_timeout == 7200


async def test_of_two_who_change_it_the_second_is_told_and_sees_both() -> None:
    async with office_of() as office:
        erin, bob = await office.person("erin", "editor"), await office.person("bob", "editor")
        behind = form_fields((await bob.get(CHANGE)).text, CHANGE)
        await erin.submit(CHANGE, {"second_factor": "optional", "web_idle_timeout": "2h"})
        told = await bob.post(CHANGE, {**behind, "second_factor": "otp", "web_idle_timeout": "3h"})
        policy = await office.world.proxy.factor_policy()

    assert told.status_code == 409
    assert "was changed meanwhile by erin" in words(told.text)
    assert "Second factor: Optional. Signed out after: 2h." in words(told.text)
    assert 'value="otp" checked' in told.text
    assert 'value="3h"' in told.text
    assert policy.word == "optional"


async def test_what_lies_too_long_after_the_last_proof_keeps_what_was_typed() -> None:
    async with office_of() as office:
        editor = await office.person("erin", "editor")
        office.world.pass_time(minutes=6)
        page = await editor.submit(CHANGE, {"second_factor": "off", "web_idle_timeout": "8h"})
        policy = await office.world.proxy.factor_policy()

    assert "Show that it is you" in words(page.text)
    assert 'value="off" checked' in page.text
    assert policy.word == "on"


async def test_back_to_the_file() -> None:
    async with office_of() as office:
        editor = await office.person("erin", "editor")
        assert RESET not in (await editor.get(LIST)).text
        await editor.submit(CHANGE, {"second_factor": "off", "web_idle_timeout": "8h"})
        assert RESET in (await editor.get(LIST)).text
        done = await editor.submit(RESET, {})
        policy = await office.world.proxy.factor_policy()
        gone = await editor.submit(RESET, {})

    assert done.status_code == 303
    assert policy.word == "on"
    assert gone.status_code == 404


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"second_factor": "sms", "web_idle_timeout": "1h"}, "Choose what is needed"),
        ({"web_idle_timeout": "1h"}, "Choose what is needed"),
        ({"second_factor": "on", "web_idle_timeout": "1m"}, "Signed out after: expected 10m"),
        ({"second_factor": "on", "web_idle_timeout": ""}, "Signed out after: expected"),
    ],
)
async def test_what_cannot_be_meant_is_said_in_the_form(
    fields: dict[str, str], problem: str
) -> None:
    async with office_of() as office:
        editor = await office.person("erin", "editor")
        page = await editor.submit(CHANGE, fields)
        info = await office.world.admin.get_preference()

    assert page.status_code == 400
    assert problem in words(page.text)
    assert info.revision == 0
