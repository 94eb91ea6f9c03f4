"""A browser of sorts at the proxy's own host: the pages run in this task, auth is a fake."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from typing import cast

import httpx2
from starlette.applications import Starlette

from tests.fakes import FakeAuth
from tport.engine.api.protocol import AuthAPI
from tport.engine.types.launch import LaunchRequest
from tport.engine.web.app import web_app

ORIGIN = "https://proxy.test:3080"
WEB_COOKIE = "__Host-tport_web_0011aabb"
PASSWORD = "right horse battery staple"
APPS = "/web/cluster/main/apps"
NAVIGATION = {
    "accept": "text/html,*/*;q=0.8",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
    "sec-fetch-site": "same-origin",
}
STATES: Mapping[str, LaunchRequest] = {
    "good": LaunchRequest(state_id="s1", app_host="grafana.proxy.test", raw_path="/d/1?a=%20b"),
    "late": LaunchRequest(
        state_id="s2", app_host="grafana.proxy.test", raw_path="/d/1?a=%20b", expired=True
    ),
    "over": LaunchRequest(state_id="s4", app_host="grafana.proxy.test", cause="session-over"),
    "cookieless": LaunchRequest(
        state_id="s5", app_host="grafana.proxy.test", cause="no-state-cookie"
    ),
    "refused": LaunchRequest(state_id="s6", app_host="grafana.proxy.test", cause="code-refused"),
    "other": LaunchRequest(state_id="s3", app_host="secret.proxy.test"),
}


class Visitor:
    """A browser that follows no redirect, keeps cookies, sends what a navigation sends."""

    def __init__(self, app: Starlette, cookies: Mapping[str, str]) -> None:
        self.app = app
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False),
            base_url=ORIGIN,
            headers=NAVIGATION,
            cookies=dict(cookies),
        )

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(path, headers=_names(headers))

    async def fetch(self, path: str) -> httpx2.Response:
        """Ask as a program does."""
        headers = {"accept": "*/*", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
        return await self.http.get(path, headers=headers)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx2.Response:
        """Post without a form: what is missing is missing."""
        return await self.http.post(path, data=dict(fields), headers=_names(headers))

    async def submit(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx2.Response:
        """Open the page at `path`, fill its form in, send it."""
        hidden = form_fields((await self.get(path)).text, path.partition("?")[0])
        return await self.post(path.partition("?")[0], {**hidden, **fields}, **headers)


class Browser(Visitor):
    """A browser at the pages of a proxy whose auth is a fake."""

    def __init__(self, auth: FakeAuth) -> None:
        self.auth = auth
        self.states = dict(STATES)
        app = web_app(
            auth=cast("AuthAPI", auth),
            cluster=auth.cluster,
            cluster_id8="0011aabb",
            public_addr="proxy.test:3080",
            clock=auth.clock,
            secret=b"x" * 32,
            open_launch=lambda state: self.states.get(state),
        )
        super().__init__(app, {})

    async def sign_in(self, next_: str = "") -> httpx2.Response:
        return await self.submit(
            f"/web/login?next={next_}", {"username": "alice", "password": PASSWORD}
        )


@asynccontextmanager
async def open_browser(auth: FakeAuth) -> AsyncIterator[Browser]:
    browser = Browser(auth)
    async with browser.http:
        yield browser


def form_fields(html: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the page's form that is posted to `action`."""
    [form] = re.findall(rf'<form method="post" action="{re.escape(action)}".*?</form>', html, re.S)
    return hidden_fields(form)


def hidden_fields(html: str) -> dict[str, str]:
    """Return the hidden fields of the page's forms."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html)
    return {name: unescape(value) for name, value in found}


def _names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
