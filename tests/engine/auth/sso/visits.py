"""Browsers that sign in by a provider, at an auth service in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.engine.auth.world import PROXY, World, open_world
from tests.fakes import WallClock
from tests.provider import CLIENT, SECRET, FakeGithub, FakeProvider
from tport.engine.api.answers import SignedIn
from tport.engine.api.sso import SsoDone, SsoRefused
from tport.engine.auth.cluster import AuthSettings
from tport.engine.proto.oidc import ProviderAnswer, ProviderRequest
from tport.engine.types.connector import (
    ClaimMapping,
    GithubConnector,
    OidcConnector,
    TeamMapping,
)
from tport.engine.types.resource import GithubResource, OidcResource

ADDRESS = f"{PROXY}:3080"
ISSUER = "https://id.test"
OTHER = "https://other.test"

_numbers = count(1)

GOOGLE = OidcConnector(
    name="google",
    display="Google",
    issuer=ISSUER,
    client_id=CLIENT,
    client_secret=SECRET,
    claims_to_roles=(ClaimMapping(claim="groups", value="dev", roles=("access",)),),
)
OCTO = GithubConnector(
    name="octo",
    client_id=CLIENT,
    client_secret=SECRET,
    teams_to_roles=(TeamMapping(organization="Acme", team="devs", roles=("access",)),),
)


class Transport:
    """Asks whichever provider has the address."""

    def __init__(self, *providers: FakeProvider, github: FakeGithub | None = None) -> None:
        self._by_origin = {each.issuer: each for each in providers}
        self._github = github

    async def __call__(self, request: ProviderRequest) -> ProviderAnswer:
        parts = urlsplit(request.url)
        provider = self._by_origin.get(f"{parts.scheme}://{parts.netloc}")
        if provider is not None:
            return await provider(request)
        assert self._github is not None, request.url
        return await self._github(request)


@dataclass
class Visit:
    """One browser."""

    world: World
    connector: str = "oidc/google"
    cookie: str = field(default_factory=lambda: f"sso browser {next(_numbers)}")
    steps: str = ""

    @property
    def browser(self) -> str:
        return hashlib.sha256(self.cookie.encode()).hexdigest()

    async def begin(self, next_: str = "/") -> str:
        return await self.world.proxy.begin_sso(
            connector=self.connector,
            browser=self.browser,
            address=ADDRESS,
            next=next_,
            remote="192.0.2.1",
        )

    async def finish(self, query: str, path: str = "") -> SsoDone | SsoRefused:
        kind, _, name = self.connector.partition("/")
        return await self.world.proxy.finish_sso(
            path=path or f"/v1/webapi/{kind}/callback/{name}",
            query=query,
            browser=self.browser,
            known="",
            remote="192.0.2.1",
            user_agent="UA",
            steps=self.steps,
        )

    async def come(self, provider: FakeProvider, **person: Any) -> SsoDone | SsoRefused:
        """Go there, sign in, and come back."""
        return await self.finish(provider.sign_in(await self.begin(), **person))


def session_of(done: SsoDone | SsoRefused) -> SignedIn:
    assert isinstance(done, SsoDone), done
    assert isinstance(done.answer, SignedIn)
    return done.answer


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


ANN = {"sub": "1", "email": "Ann@x.test", "email_verified": True, "groups": ["dev", "ops"]}


@asynccontextmanager
async def sso_world(
    *connectors: OidcConnector | GithubConnector,
    github: FakeGithub | None = None,
    settings: AuthSettings | None = None,
) -> AsyncIterator[tuple[World, FakeProvider, FakeProvider]]:
    """Open a world with these connectors and two providers, one of each issuer."""
    clock = WallClock()
    provider, other = (FakeProvider(issuer, now=clock) for issuer in (ISSUER, OTHER))
    transport = Transport(provider, other, github=github)
    async with open_world(transport=transport, clock=clock, settings=settings) as world:
        for each in connectors:
            resource = (
                OidcResource(connector=each)
                if isinstance(each, OidcConnector)
                else GithubResource(connector=each)
            )
            await world.admin.put_resource(resource=resource, mode="create")
        yield world, provider, other
