"""Device tokens: what a program shows instead of a person's session, for one application."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tport.engine.errors import InvalidRequest

PREFIX: Final = "tport_"  # by which proxies, and scanners of leaked secrets, know one
SECRET: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")  # 256 bits, base64url
DEFAULT_TTL: Final = timedelta(days=90)
MAX_TTL: Final = timedelta(days=365)
MIN_TTL: Final = timedelta(minutes=1)
MAX_NAME: Final = 64  # characters


class DeviceToken(msgspec.Struct, frozen=True, kw_only=True):
    """One program of a person, at one application. The secret itself is kept nowhere.

    Attributes:
        id: `device_token_id` of the secret.
        name: what its maker calls it.
        user_id, proofs: of the user when it was made; either changing ends it. A change of roles
            does not: it may open less.
        app: the application's name.
        last_seen: some minutes coarse; None: never used.
    """

    id: str
    name: str
    user: str
    user_id: str
    proofs: int
    app: str
    created: datetime
    expires: datetime
    last_seen: datetime | None = None


class NewDeviceToken(msgspec.Struct, frozen=True, kw_only=True):
    """A device token just made. `secret` is shown this once."""

    secret: str
    token: DeviceToken


def device_token_id(secret: str) -> str:
    """Return the id under which storage, caches and logs know a device token: SHA-256, hex.

    No cookie's value has this id, whoever puts a device token into one: the two kinds of secret
    can't be taken for one another.
    """
    return hashlib.sha256(b"tport device token\0" + secret.encode()).hexdigest()


def check_token_name(name: str) -> str:
    """Return `name` without the space around it when a device token may be called so.

    Raises:
        InvalidRequest: with the rule in words.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequest(f"a device token's name has 1 to {MAX_NAME} printable characters")
    return name


def check_token_ttl(ttl: float) -> timedelta:
    """Return a device token's life, given in seconds.

    Raises:
        InvalidRequest: with the rule in words.
    """
    if not MIN_TTL.total_seconds() <= ttl <= MAX_TTL.total_seconds():  # NaN is neither
        raise InvalidRequest(f"a device token lives for a minute to {MAX_TTL.days} days")
    return timedelta(seconds=ttl)
