"""Join tokens: with one, a machine enters the cluster."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Literal

import msgspec

from tport.engine.errors import InvalidRequest

JoinRole = Literal["app"]  # what a token lets its holder become

HINT = 8  # characters that lists show
MIN_CHOSEN = 32  # characters of a secret that a person chose. Source: security.md AG-01

_HASHED = re.compile(r"sha256:([0-9a-f]{64})(?::([A-Za-z0-9_-]{1,8}))?")
_JOIN_TOKEN = re.compile(r"([A-Za-z0-9_-]{16,128})(?:\.([0-9a-f]{64}))?")


class JoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token as stored: the secret itself is nowhere.

    Attributes:
        id: SHA-256 hex of the secret.
        hint: the secret's first characters, so that people can tell tokens apart.
        app_name: the only application (beside the debug app) its holder may offer; "": any.
        app_uri: what the maker said the application's URI would be; shown, not enforced.
        expires: None: never (static tokens of the file).
        max_uses: 0: any number.
    """

    id: str
    hint: str
    roles: tuple[JoinRole, ...] = ("app",)
    app_name: str = ""
    app_uri: str = ""
    expires: datetime | None = None
    max_uses: int = 0
    uses: int = 0
    created: datetime | None = None
    created_by: str = ""
    static: bool = False

    @property
    def fingerprint(self) -> str:
        """Name it in logs: by its hash, and by the hint that lists show it by."""
        return f"sha256:{self.id[:12]}:{self.hint}"


def split_join_token(token: str) -> tuple[str, str]:
    """Split `<secret>[.<pin>]` into the secret and the CA pin ("" without one).

    Raises:
        InvalidRequest: it is no join token; the message never holds the text.
    """
    match = _JOIN_TOKEN.fullmatch(token.strip())
    if match is None:
        raise InvalidRequest(
            "this is no join token",
            hint="a token looks like 3f0c….<pin>; make one with: tport tokens add --type=app",
        )
    return match[1], match[2] or ""


def token_id(secret: str) -> str:
    """Return what a token is stored under. By it static tokens are compared too: no timing tells."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hashed_token(name: str) -> tuple[str, str]:
    """Return the id and the hint of the token that a resource is named by.

    That is its secret, as Teleport has it, or `sha256:<id>:<hint>`, as tport writes it, who doesn't
    know the secret.

    Raises:
        InvalidRequest: it is neither, or could be guessed; the message never holds it.
    """
    if (match := _HASHED.fullmatch(name)) is not None:
        return match[1], match[2] or match[1][:HINT]
    secret, _ = split_join_token(name)
    if len(secret) < MIN_CHOSEN:
        raise InvalidRequest(
            f"a join token's name is its secret, and has {MIN_CHOSEN} characters or more",
            hint="make one with: openssl rand -hex 32; or let tport make it: tport tokens add",
        )
    return token_id(secret), secret[:HINT]
