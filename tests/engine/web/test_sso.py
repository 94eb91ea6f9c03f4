"""Back from a provider: what the browser holds the steps by that come next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.engine.web.browser import Visitor
from tests.fakes import WallClock
from tport.engine.api.factors import NextStep
from tport.engine.api.protocol import AuthAPI
from tport.engine.api.sso import SsoDone
from tport.engine.api.wire import TOO_NEW
from tport.engine.errors import AttemptOver, InvalidRequest
from tport.engine.web.app import web_app
from tport.engine.web.site import SECOND_STEP, holder_of

CALLBACK = "/v1/webapi/oidc/callback/google"
PRE, STEP = "__Host-tport_pre_0011aabb", "__Host-tport_step_0011aabb"


class Auth:
    """Signs anybody in who comes back, up to a second step. `is_old`: it is a version before."""

    def __init__(self) -> None:
        self.is_old = False
        self.clock = WallClock()
        self.steps: dict[str, NextStep] = {}

    async def finish_sso(self, *, browser: str, **given: Any) -> SsoDone:
        if self.is_old and "steps" in given:
            raise InvalidRequest("finish_sso: it contains unknown field `steps`", hint=TOO_NEW)
        step = NextStep(
            attempt="a", user="ann", to="prove", kinds=("totp",), expires=self.clock.now
        )
        self.steps[given.get("steps") or browser] = step
        return SsoDone(outcome="signed-in", next="/", answer=step)

    async def next_step(self, *, browser: str) -> NextStep:
        if browser not in self.steps:
            raise AttemptOver("nothing was begun")
        return self.steps[browser]


@pytest.fixture
async def auth() -> Auth:
    return Auth()


@pytest.fixture
async def browser(auth: Auth) -> AsyncIterator[Visitor]:
    app = web_app(
        auth=cast("AuthAPI", auth),
        cluster="main",
        cluster_id8="0011aabb",
        public_addr="proxy.test:3080",
        clock=auth.clock,
        secret=b"x" * 32,
        open_launch=lambda _: None,
    )
    visitor = Visitor(app, {PRE: "sent-there-by-this"})
    async with visitor.http:
        yield visitor


async def test_auth_14_the_steps_after_a_provider_are_held_by_what_came_with_them(
    auth: Auth, browser: Visitor
) -> None:
    """AUTH-14. Not by what the browser held on its way there, which others may know."""
    answer = await browser.get(f"{CALLBACK}?code=c&state=s")

    assert answer.headers["location"].startswith(SECOND_STEP)
    assert list(auth.steps) == [holder_of(browser.http.cookies[STEP])]
    assert (await browser.get(SECOND_STEP)).status_code == 200
    assert browser.http.cookies[PRE] == "sent-there-by-this"  # other tabs may be on their way


async def test_an_auth_of_the_version_before_holds_them_by_what_it_knows(
    auth: Auth, browser: Visitor
) -> None:
    auth.is_old = True
    answer = await browser.get(f"{CALLBACK}?code=c&state=s")

    assert answer.headers["location"].startswith(SECOND_STEP)
    assert (await browser.get(SECOND_STEP)).status_code == 200
