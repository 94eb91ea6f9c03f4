"""`tport create` of a file that can't all be made: what was, what wasn't, and why."""

from __future__ import annotations

import pytest

from tests.engine.auth.sso.visits import ANN, GOOGLE, Visit, session_of, sso_world
from tests.engine.auth.world import World, open_world
from tport.commands.create import put_all
from tport.engine.config.resources import read_resources
from tport.engine.errors import InvalidRequest, NotFound

ROLE = "kind: role\nversion: v7\nmetadata: {name: NAME}\n"
USER = "kind: user\nversion: v2\nmetadata: {name: NAME}\nspec: {roles: [ROLE]}\n"
VOUCHED = """\
kind: user
version: v2
metadata: {name: NAME}
spec:
  roles: [access]
  created_by: {connector: {id: google, type: oidc, identity: x}}
"""


async def create(world: World, *documents: str) -> None:
    found, _ = read_resources("---\n".join(documents), name="all.yaml")
    await put_all(world.admin, found, "upsert")


async def names(world: World) -> list[str]:
    return [info.user.name for info in await world.admin.list_users()]


async def test_every_user_whom_only_their_provider_makes_is_told_before_anything_is_written() -> (
    None
):
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        people = [
            VOUCHED.replace("NAME", name) for name in ("bob@x.test", "ann@x.test", "eve@x.test")
        ]
        with pytest.raises(InvalidRequest) as refused:
            await create(world, ROLE.replace("NAME", "dev"), *people)
        first, second = str(refused.value).splitlines()
        assert first.startswith("all.yaml:5:1: user 'bob@x.test' signs in by oidc/google")
        assert second.startswith("all.yaml:19:1: user 'eve@x.test' signs in by oidc/google")
        assert "nothing was written" in refused.value.hint
        assert "dev" not in {role.name for role in await world.admin.list_roles()}
        await create(world, people[1])  # she is here by it


async def test_a_file_that_fails_in_the_middle_says_how_far_it_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    users = [
        USER.replace("NAME", name).replace("ROLE", role)
        for name, role in (("ann", "access"), ("bob", "acess"), ("eve", "access"))
    ]
    async with open_world() as world:
        with pytest.raises(NotFound, match=r"^all\.yaml:6:1: user 'bob': no role") as refused:
            await create(world, *users, ROLE.replace("NAME", "dev"))
        said = capsys.readouterr().err
        assert "user 'ann' has been created" in said
        assert "1 of 4 written; not tried: user 'eve', role 'dev'" in said
        assert "there are: access" in refused.value.hint
        assert await names(world) == ["ann"]


async def test_of_a_long_file_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    users = [USER.replace("NAME", f"u{n}").replace("ROLE", "acess") for n in range(20)]
    async with open_world() as world:
        with pytest.raises(NotFound):
            await create(world, *users)
        said = capsys.readouterr().err
        assert "0 of 20 written; not tried: user 'u1'" in said
        assert said.rstrip().endswith("user 'u10', and 9 more")


async def test_of_a_single_resource_its_fault_says_all(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_world() as world:
        with pytest.raises(NotFound):
            await create(world, USER.replace("NAME", "u").replace("ROLE", "acess"))
        assert capsys.readouterr().err == ""
