"""Signing in by identity providers: what a proxy asks for a browser, and what `tport sso test` asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

from tport.engine.api.answers import SignedIn
from tport.engine.api.callers import ADMIN, PROXY, Rule
from tport.engine.api.factors import NextStep
from tport.engine.types.connector import ClaimMapping, Connector


class ConnectorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connector as everybody may see it. `id`: "oidc/google"."""

    id: str
    display: str


class SignInChoices(msgspec.Struct, frozen=True, kw_only=True):
    """The ways in. `passwords`: whether passwords, passkeys and invite links count."""

    connectors: tuple[ConnectorInfo, ...]
    passwords: bool


class ProviderLogout(msgspec.Struct, frozen=True, kw_only=True):
    """`url`: the provider's; `display`: what the connector is called."""

    url: str
    display: str


class SsoDone(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody came back from their provider.

    Attributes:
        outcome: `signed-in`: see `answer`; `proven`: their session was shown anew to be theirs;
            `tested`: nothing changed, who tests reads it elsewhere.
        next: path where the browser goes on.
    """

    outcome: Literal["signed-in", "proven", "tested"]
    next: str
    answer: SignedIn | NextStep | None = None


class SsoRefused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody came back and is not signed in; what it says is for them.

    Attributes:
        display: the connector's.
        claims: what the provider said of them, where that is the cause; else empty.
        left_out: claims that can be no trait, with why, likewise.
        looked_at: names of the claims that roles are made of, where they have none. Which values
            give which roles is nobody's who has an account there: `tport sso test` tells.
    """

    problem: str
    hint: str
    display: str
    connector: str
    next: str
    claims: Mapping[str, tuple[str, ...]] = {}
    left_out: Mapping[str, str] = {}
    looked_at: tuple[str, ...] = ()


class TestInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a test of a connector stands; see `types.sso.SsoTest`."""

    __test__ = False  # no test of pytest's

    is_done: bool
    problem: str = ""
    hint: str = ""
    user: str = ""
    claims: Mapping[str, tuple[str, ...]] = {}
    left_out: Mapping[str, str] = {}
    roles: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    mappings: tuple[ClaimMapping, ...] = ()


class SsoAPI(Protocol):
    async def sign_in_choices(self) -> SignInChoices: ...

    async def begin_sso(
        self, *, connector: str, browser: str, address: str, next: str, remote: str
    ) -> str:
        """Return the provider's address where this browser signs in.

        Args:
            connector: "oidc/google".
            browser: SHA-256 hex of the cookie that it has before it is signed in.
            address: `host[:port]` that it came to.
            next: path where it goes afterwards.

        Raises:
            NotFound: no such connector.
            Unavailable: the provider can't be reached, or what it says of itself can't be meant.
            LimitExceeded: this address tries too often.
        """
        ...

    async def begin_sso_proof(
        self, *, secret: str, browser: str, address: str, next: str, remote: str
    ) -> str:
        """As `begin_sso`, for who is signed in and is to show anew that it is they.

        Args:
            secret: the session cookie's value.
        """
        ...

    async def begin_sso_test_visit(
        self, *, test: str, browser: str, address: str, remote: str
    ) -> str:
        """As `begin_sso`, for the browser of somebody who tests a connector.

        Raises:
            NotFound: no such test, or it is over.
        """
        ...

    async def finish_sso(
        self,
        *,
        path: str,
        query: str,
        browser: str,
        known: str,
        remote: str,
        user_agent: str,
        steps: str = "",
    ) -> SsoDone | SsoRefused:
        """Take what a browser brought back from a provider; it counts once.

        Args:
            steps: SHA-256 hex of what the browser holds further steps by; "": as what it was sent there by.
            path, query: of the address that it came to, as they came.
        """
        ...

    async def end_sso_sessions(self, *, connector: str, logout_token: str, remote: str) -> None:
        """End the sessions that a provider says are over (OpenID Connect Back-Channel Logout).

        Raises:
            AccessDenied: it is no such token of this connector's provider.
        """
        ...

    async def provider_logout(self, *, id: str, back: str) -> ProviderLogout | None:
        """Return where the browser of a web session ends the provider's, too; None: nowhere.

        To be asked before `sign_out`. `back`: the address where the provider sends it then.
        """
        ...

    async def begin_sso_test(self, *, connector: Connector) -> str:
        """Keep a connector for a test, 10 minutes; nothing else changes.

        Returns:
            The address to open in a browser. Its last part is the test's id, a secret.
        """
        ...

    async def sso_test(self, *, id: str) -> TestInfo:
        """Raises NotFound: no such test, or it is over."""
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "sign_in_choices": PROXY,
    "begin_sso": PROXY,
    "begin_sso_test_visit": PROXY,
    "finish_sso": PROXY,
    "end_sso_sessions": PROXY,
    "provider_logout": PROXY,
    "begin_sso_proof": PROXY,
    "begin_sso_test": ADMIN,
    "sso_test": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {}
