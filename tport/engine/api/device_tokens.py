"""Device tokens, with which programs of a person reach one application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.device_token import DeviceToken, NewDeviceToken


class DeviceTokenAPI(Protocol):
    async def create_device_token(self, *, app: str, name: str, ttl: float) -> NewDeviceToken:
        """Make a token of the person who is signed in, for `ttl` seconds.

        Raises:
            AccessDenied: no such application, or no role of theirs opens it: the same words.
            InvalidRequest: the name or the time can't be, or they have too many.
            AlreadyExists: one of theirs is called so.
        """
        ...

    async def own_device_tokens(self) -> tuple[DeviceToken, ...]:
        """Return the tokens of the person who is signed in, the newest first."""
        ...

    async def revoke_device_token(self, *, id: str) -> DeviceToken:
        """End a token of the person who is signed in, and what runs by it.

        Raises:
            NotFound: they have none of this id.
        """
        ...

    async def list_device_tokens(self) -> tuple[DeviceToken, ...]:
        """Return everybody's tokens, by user, the newest first."""
        ...

    async def delete_device_token(self, *, id: str) -> DeviceToken:
        """End anybody's token, and what runs by it.

        Args:
            id: whole, or how it begins if no other begins so.

        Raises:
            NotFound: there is none.
            InvalidRequest: it is too short, or several begin so.
        """
        ...


_NOBODY: Final[frozenset[str]] = frozenset()  # only people, through a proxy

CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "create_device_token": _NOBODY,
    "own_device_tokens": _NOBODY,
    "revoke_device_token": _NOBODY,
    "list_device_tokens": ADMIN,
    "delete_device_token": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "create_device_token": None,
    "own_device_tokens": None,
    "revoke_device_token": None,
    "list_device_tokens": ("user", "list"),
    "delete_device_token": ("user", "update"),
}

FRESH: Final = frozenset({"create_device_token"})
