"""Signing in at an identity provider: what is begun, and what a test of a connector found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from tport.engine.types.connector import ClaimMapping

SsoPurpose = Literal["sign-in", "prove", "test"]


class SsoAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way to a provider and back, by one browser. It is over with the first answer.

    Attributes:
        connector: "oidc/google".
        holder: SHA-256 hex of the browser's cookie: another's answer is none.
        sealed: nonce and PKCE verifier, which nobody else learns.
        redirect_url: where the provider was told to send the browser.
        address: `host[:port]` of the proxy that the browser came to.
        next: path where the browser goes after it.
        session: for `prove`, the id of the web session that is to be proven.
        test: for `test`, its id.
    """

    connector: str
    purpose: SsoPurpose
    holder: str
    sealed: str
    redirect_url: str
    address: str
    next: str
    expires: datetime
    session: str = ""
    test: str = ""


class ProviderSession(msgspec.Struct, frozen=True, kw_only=True):
    """On which sign-in at a provider a web session rests.

    Attributes:
        connector: "oidc/google".
        subject: as `User.subject`.
        session: the provider's name for its own session, `sid`; "": it gave none.
        id_token: sealed; with it the provider knows whom to sign out. "": there is none.
    """

    connector: str
    subject: str
    session: str = ""
    id_token: str = ""


class SsoTest(msgspec.Struct, frozen=True, kw_only=True):
    """What a connector that is tried made of a sign-in; nobody is signed in by it.

    Attributes:
        connector: as it would be stored; its secret is sealed.
        is_done: the person came back from the provider.
        problem: why they could not sign in; "": they could.
        claims: what the provider said, as text.
        left_out: claims that can be no trait, with why.
        roles: those that its mappings gave; `missing`: those of them that are no roles here.
        apps: names of the applications that these roles would open.
        mappings: what would have given roles, where none did.
    """

    connector: bytes
    by: str
    expires: datetime
    is_done: bool = False
    problem: str = ""
    hint: str = ""
    user: str = ""
    claims: Mapping[str, tuple[str, ...]] = {}
    left_out: Mapping[str, str] = {}
    roles: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    mappings: tuple[ClaimMapping, ...] = ()
