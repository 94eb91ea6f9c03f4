"""Commands say when nobody is left who may administer in the browser, and only then."""

from __future__ import annotations

import pytest

from tests.engine.auth.world import World, open_world
from tport.commands.last_administrator import last_administrator_noted
from tport.engine.access.administrators import NOBODY_LEFT
from tport.engine.errors import InvalidRequest


async def remove(world: World, name: str) -> None:
    async with last_administrator_noted(world.admin):
        await world.admin.delete_user(name=name)


async def remove_and_fail(world: World, name: str) -> None:
    async with last_administrator_noted(world.admin):
        await world.admin.delete_user(name=name)
        raise InvalidRequest("the second")


async def test_it_is_said_of_the_last_and_of_nobody_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_world() as world:
        for name, role in (("a", "editor"), ("b", "editor"), ("c", "access"), ("d", "access")):
            await world.admin.create_user(name=name, roles=(role,), traits={})
        for name in ("a", "c"):
            await remove(world, name)
            assert capsys.readouterr().err == ""
        await remove(world, "b")
        assert NOBODY_LEFT in capsys.readouterr().err
        await remove(world, "d")  # there was nobody before, either
        assert capsys.readouterr().err == ""


async def test_it_is_said_though_what_came_after_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_world() as world:
        await world.admin.create_user(name="a", roles=("editor",), traits={})
        with pytest.raises(InvalidRequest, match="the second"):
            await remove_and_fail(world, "a")
        assert NOBODY_LEFT in capsys.readouterr().err
