"""`tport up` gives its owner a link until somebody has signed up, and takes nothing from who has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from tport.commands.up import _owner_link
from tport.engine.api.answers import NewInvite, UserInfo
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import InvalidRequest
from tport.engine.types.user import User

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Admin:
    """Auth with these users; it refuses what the real one refuses."""

    def __init__(self, *users: UserInfo) -> None:
        self._users = users
        self.reset: list[str] = []
        self.made: list[str] = []

    async def list_users(self) -> Sequence[UserInfo]:
        return self._users

    async def reset_user(self, *, name: str) -> NewInvite:
        [user] = [info.user for info in self._users if info.user.name == name]
        if not user.is_local:
            raise InvalidRequest("has no password here")
        self.reset.append(name)
        return link(name)

    async def create_user(self, *, name: str, **_: object) -> NewInvite:
        self.made.append(name)
        return link(name)


def link(name: str) -> NewInvite:
    return NewInvite(user=name, url=f"https://tport.test/{name}", expires=NOW)


def user(name: str, *, origin: str = "local", has_password: bool = False) -> UserInfo:
    return UserInfo(user=User(name=name, roles=(), origin=origin), has_password=has_password)


async def link_of(admin: Admin) -> str:
    return await _owner_link(cast("AuthAPI", admin))


async def test_the_owner_is_made_and_gets_another_link_until_they_have_signed_up() -> None:
    fresh, waiting = Admin(), Admin(user("owner"))

    assert (await link_of(fresh)).endswith(fresh.made[0])
    assert await link_of(waiting) == "https://tport.test/owner"
    assert await link_of(Admin(user("owner", has_password=True))) == ""


@pytest.mark.parametrize("others", [(), (user("bob"),), (user("aaron"),)])
async def test_where_people_sign_in_by_a_provider_a_start_takes_nothing_from_anybody(
    others: tuple[UserInfo, ...],
) -> None:
    """Neither their sessions, nor the link that somebody was sent."""
    admin = Admin(*others, user("alice@example.com", origin="oidc/google"))

    assert await link_of(admin) == ""
    assert (admin.reset, admin.made) == ([], [])
