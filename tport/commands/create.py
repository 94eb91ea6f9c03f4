"""`tport create`: resources from YAML or JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.last_administrator import last_administrator_noted
from tport.commands.printing import say
from tport.commands.run import with_cluster
from tport.engine.errors import ConfigError, InvalidRequest, TportError

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.config.resources import Read
    from tport.engine.types.resource import PutMode, Resource

app = typer.Typer(help="Make resources from a file: roles, users, tokens, apps, locks, connectors.")

STDIN = Path("-")
NAMED = 10  # users, or resources, that are named in one line


@app.command()
def create(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML or JSON; `-` is stdin.")] = STDIN,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace what is there already.")
    ] = False,
) -> None:
    """Make every resource of a file, in Teleport's format; several documents are parted by `---`.

    All of it is read and judged first. Then they are made in order, up to the first that fails.
    """
    from tport.engine.config.load import read_text

    if file == STDIN and sys.stdin.isatty():
        raise InvalidRequest("no file", hint="tport create FILE; or `-`, and write it here")
    name = "stdin" if file == STDIN else str(file)
    found = read_noted(read_text(file, name), name)
    mode: PutMode = "upsert" if force else "create"
    with_cluster(ctx, lambda auth: put_all(auth, found, mode))


def read_noted(text: str, name: str) -> list[Read]:
    """Read resources, and tell what in them has no effect here."""
    from tport.engine.config.resources import read_resources

    found, notes = read_resources(text, name=name)
    for note in notes:
        say(note)
    return [each._replace(resource=with_secret(each)) for each in found]


def with_secret(read: Read) -> Resource:
    """Return a resource; a connector's secret that lies in a file of ours, `file:///…`, is read.

    Raises:
        ConfigError: the file can't be read, or its secret is nobody's alone.
    """
    from msgspec.structs import replace

    from tport.engine.config.connectors import FILE
    from tport.engine.config.secret_file import read_secret_file
    from tport.engine.types.resource import GithubResource, OidcResource

    resource = read.resource
    if not isinstance(resource, OidcResource | GithubResource):
        return resource
    if not resource.connector.client_secret.startswith(FILE):
        return resource
    path = Path(resource.connector.client_secret.removeprefix(FILE))
    try:
        secret, warning = read_secret_file(path)
    except ConfigError as problem:
        raise ConfigError(f"spec.client_secret: {problem}", where=read.where) from None
    if warning:
        say(warning)
    connector = replace(resource.connector, client_secret=secret)
    return replace(resource, connector=connector)


async def put_all(auth: AuthAPI, found: list[Read], mode: PutMode) -> None:
    """Store resources in order, and say so of each.

    Raises:
        TportError: the first that fails; it says where that resource stands. Or, before anything is
            stored, all users whom only their provider can make.
    """
    await _check_people(auth, found)
    async with last_administrator_noted(auth):
        await _put_each(auth, found, mode)


async def _check_people(auth: AuthAPI, found: list[Read]) -> None:
    """A file of another cluster has many of them: whoever moves is told of all in one go."""
    from tport.engine.types.resource import UserResource
    from tport.engine.types.user import check_vouched

    people = [
        (resource.user, where)
        for resource, where in found
        if isinstance(resource, UserResource) and not resource.user.is_local
    ]
    if not people:
        return
    here = {info.user.name: info.user for info in await auth.list_users()}
    complaints, hint = [], ""
    for user, where in people:
        try:
            check_vouched(user, here.get(user.name))
        except InvalidRequest as problem:
            complaints.append(f"{where}: {problem}")
            hint = problem.hint
    if complaints:
        raise InvalidRequest("\n".join(complaints), hint=f"nothing was written; {hint}")


async def _put_each(auth: AuthAPI, found: list[Read], mode: PutMode) -> None:
    from tport.engine.types.resource import PreferenceResource

    for index, (resource, where) in enumerate(found):
        try:
            done = await auth.put_resource(resource=resource, mode=mode)
        except TportError as problem:
            _say_how_far(found, index)
            raise _at(problem, where) from None
        say(f"{_named(resource)} has been {done}")
        if isinstance(resource, PreferenceResource):
            await say_consequence(auth)


def _say_how_far(found: list[Read], failed: int) -> None:
    """Say what of a file is written, and what was not tried, when one of several failed."""
    if len(found) == 1:
        return
    rest = [_named(each.resource) for each in found[failed + 1 :]]
    more = [f"and {len(rest) - NAMED} more"] if len(rest) > NAMED else []
    not_tried = f"; not tried: {', '.join(rest[:NAMED] + more)}" if rest else ""
    say(f"{failed} of {len(found)} written{not_tried}")


def _named(resource: Resource) -> str:
    from tport.engine.types.resource import kind_of, name_of

    name = name_of(resource)
    return f"{kind_of(resource)} {name!r}" if name else kind_of(resource)


async def say_consequence(auth: AuthAPI) -> None:
    """Say what everybody's next sign-in asks for, as it now is."""
    now = (await auth.get_preference()).in_force
    found = await auth.preview_preference(preference=now)
    users = sum(len(names) for names in (found.shows, found.sets_up, found.password))
    say(
        f"next sign-in: {len(found.shows)} of {users} users show a second factor,"
        f" {len(found.sets_up)} must first set one up, {len(found.password)} need a password alone"
    )
    if found.vouched:
        say(f"{len(found.vouched)} more sign in by their provider, which is enough")
    if found.kept_out:
        say(f"{len(found.kept_out)} can't sign in any more")
    if found.sets_up:
        some = ", ".join(found.sets_up[:NAMED]) + (", ..." if len(found.sets_up) > NAMED else "")
        say(f"to set one up: {some}")


def _at(problem: TportError, where: str) -> TportError:
    """Return the same error, saying where the resource stands."""
    problem.args = (f"{where}: {problem}",)
    return problem
