"""`tport users`: who may sign in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from tport.commands.last_administrator import last_administrator_noted
from tport.commands.printing import (
    hint,
    labels_text,
    print_out,
    print_rows,
    print_value,
    say,
    time_text,
)
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import AlreadyExists, InvalidRequest, NotFound
from tport.engine.types.user import User

app = typer.Typer(help="People: invite, list, change, remove.", no_args_is_help=True)

Roles = Annotated[str, typer.Option("--roles", help="Roles, parted by commas.")]
Traits = Annotated[
    list[str] | None,
    typer.Option("--trait", help="A trait and its values: env=prod,dev. May be repeated."),
]
Logins = Annotated[str, typer.Option("--logins", help="Values of the trait `logins`: a,b.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    roles: Roles,
    logins: Logins = "",
    trait: Traits = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="A user who is there already is no error.")
    ] = False,
    format: FormatOption = Format.text,
) -> None:
    """Make a user and print the link with which they choose a password.

    Role `access` opens every application, `editor` administers, `auditor` reads the log.
    """
    traits = _traits(logins, trait)
    try:
        made = with_cluster(
            ctx, lambda auth: auth.create_user(name=name, roles=_words(roles), traits=traits)
        )
    except AlreadyExists:
        if not if_not_exists:
            raise
        say(f"user {name} exists already; left as it is")
        return
    if format is not Format.text:
        print_value(
            {"user": made.user, "url": made.url, "expires": time_text(made.expires)}, format
        )
    elif (source := ctx.get_parameter_source("format")) and source.name == "COMMANDLINE":
        print_out(made.url)
    else:
        print_out(
            f"User {made.user!r} has been invited. Give them this link; it works once, until"
            f" {time_text(made.expires)}:\n\n  {made.url}\n"
        )


@app.command("ls")
def list_(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """List users."""
    users = with_cluster(ctx, lambda auth: auth.list_users())
    if format is not Format.text:
        print_value(
            [
                {
                    "name": info.user.name,
                    "roles": list(info.user.roles),
                    "roles_until": {g.role: time_text(g.until) for g in info.user.grants},
                    "traits": {name: list(v) for name, v in info.user.traits.items()},
                    "origin": info.user.origin,
                    "created": time_text(info.user.created),
                    "signed_up": info.has_password,
                    "invited_until": time_text(info.invited_until),
                    "locked_until": time_text(info.locked_until),
                    "lock": info.lock,
                }
                for info in users
            ],
            format,
        )
        return
    print_rows(
        ("USER", "ROLES", "TRAITS", "STATE"),
        [
            (
                info.user.name,
                _roles(info.user),
                labels_text(dict(info.user.traits)),
                f"locked; lift it with: tport rm lock/{info.lock}"
                if info.lock
                else f"locked until {time_text(info.locked_until)}"
                if info.locked_until
                else f"by {info.user.origin}"
                if not info.user.is_local
                else "active"
                if info.has_password
                else f"invited until {time_text(info.invited_until)}"
                if info.invited_until
                else "invite expired: tport users reset " + info.user.name,
            )
            for info in users
        ],
        empty="no users; invite one with: tport users add --roles=access NAME",
    )


@app.command()
def update(
    ctx: typer.Context,
    name: Name,
    roles: Annotated[
        str | None, typer.Option("--roles", "--set-roles", help="The roles from now on.")
    ] = None,
    logins: Annotated[
        str, typer.Option("--logins", "--set-logins", help="Values of the trait `logins`: a,b.")
    ] = "",
    trait: Traits = None,
) -> None:
    """Replace a user's roles or traits. It counts at once, for open sessions too."""
    traits = _traits(logins, trait) if logins or trait else None
    if roles is None and traits is None:
        raise InvalidRequest("nothing to change", hint="give --roles, --logins or --trait")

    async def change(auth: AuthAPI) -> User:
        async with last_administrator_noted(auth):
            return await auth.update_user(
                name=name, roles=None if roles is None else _words(roles), traits=traits
            )

    user = with_cluster(ctx, change)
    say(f"user {user.name}: roles {', '.join(user.roles) or 'none'}")


@app.command()
def reset(ctx: typer.Context, name: Name, format: FormatOption = Format.text) -> None:
    """Print a new link for a user; the old password, devices and all sessions end now."""
    made = with_cluster(ctx, lambda auth: auth.reset_user(name=name))
    if format is not Format.text:
        print_value(
            {"user": made.user, "url": made.url, "expires": time_text(made.expires)}, format
        )
    else:
        until = time_text(made.expires)
        say(f"{made.user} begins anew with this link, once, until {until}; nothing older signs in")
        print_out(made.url)


def _roles(user: User) -> str:
    """Write a user's roles, those given for a time with its end."""
    until = {grant.role: f" until {time_text(grant.until)}" for grant in user.grants}
    return ",".join(role + until.get(role, "") for role in user.roles)


@app.command()
def unlock(ctx: typer.Context, name: Name) -> None:
    """End the lock that five failures in a row brought about, and forget the failures."""
    lock = with_cluster(ctx, lambda auth: _unlock(auth, name))
    if lock:
        say(f"the failures of {name} are forgotten, yet a lock still keeps them out")
        hint(f"to lift it: tport rm lock/{lock}")
    else:
        say(f"{name} may sign in again")


async def _unlock(auth: AuthAPI, name: str) -> str:
    """Forget a user's failures; return the name of a lock that is on them all the same, or ""."""
    await auth.unlock_user(name=name)
    users = await auth.list_users()
    return next((info.lock for info in users if info.user.name == name.lower()), "")


@app.command()
def rm(
    ctx: typer.Context,
    name: Name,
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="A missing user is no error.")
    ] = False,
) -> None:
    """Remove a user; their sessions end now."""

    async def remove(auth: AuthAPI) -> None:
        async with last_administrator_noted(auth):
            await auth.delete_user(name=name)

    try:
        with_cluster(ctx, remove)
    except NotFound:
        if not if_exists:
            raise
        return
    say(f"user {name} removed")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _traits(logins: str, trait: list[str] | None) -> Mapping[str, tuple[str, ...]]:
    traits: dict[str, tuple[str, ...]] = {}
    for item in trait or ():
        name, equals, values = item.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"--trait {item}: expected name=value,value")
        traits[name] = traits.get(name, ()) + _words(values)
    if logins:
        traits["logins"] = traits.get("logins", ()) + _words(logins)
    return traits
