"""Sessions: a person is signed in to tport (WebSession) or has opened one app (AppSession)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec


class WebSession(msgspec.Struct, frozen=True, kw_only=True):
    """Signed in to tport.

    Attributes:
        id: SHA-256 hex of the cookie's value (`session_id`).
        user_id, proofs: of the user when it was made; either changing ends it. A change of
            roles does not: who is signed in stays, and may open less.
        proven: when they had shown who they are, as they signed in; None: they have not, as where a
            provider let them through because they had signed in there long before.
    """

    id: str
    user: str
    user_id: str
    proofs: int
    cluster: str
    created: datetime
    expires: datetime
    remote: str = ""
    user_agent: str = ""
    proven: datetime | None = None


class AppSession(msgspec.Struct, frozen=True, kw_only=True):
    """One person at one application. Never outlives its web session.

    Attributes:
        id: SHA-256 hex of the cookie's value; of a device token `device_token_id`.
        web_session: the id of the web session it came from; "": a device token's.
        app: the application's name.
        host: the public host (lower case, no port) it is for, and no other.
    """

    id: str
    web_session: str
    user: str
    user_id: str
    epoch: int
    cluster: str
    app: str
    host: str
    created: datetime
    expires: datetime


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A live session as lists show it. Nothing in it lets anybody in.

    Attributes:
        web_session: of an app session, the id of the web session it came from.
        app, host: of an app session.
        remote, user_agent: of the sign-in it rests on.
        seen: when something was done with a web session last, a minute coarse; None: just made,
            or nobody is signed out for doing nothing here.
    """

    id: str
    kind: Literal["web", "app"]
    user: str
    web_session: str = ""
    app: str = ""
    host: str = ""
    remote: str = ""
    user_agent: str = ""
    created: datetime
    expires: datetime
    seen: datetime | None = None


class SessionCredential(msgspec.Struct, frozen=True, kw_only=True):
    """An app session as auth signs it for agents; see `pki.jwt.sign_session_credential`.

    Attributes:
        sid: the AppSession's id.
        user_key: `types.user.user_key` of the user, matched against epochs.
        host: the public host of the application, as the browser sees it.
        jwt: the assertion for the application, "" until auth made one.
    """

    sid: str
    user: str
    user_key: str
    roles: tuple[str, ...]
    traits: Mapping[str, tuple[str, ...]]
    app: str
    host: str
    cluster: str
    epoch: int
    issued: datetime
    expires: datetime
    session_expires: datetime
    jwt: str = ""


def session_id(secret: str) -> str:
    """Return the id under which storage, caches and logs know the holder of `secret`."""
    return hashlib.sha256(secret.encode()).hexdigest()
