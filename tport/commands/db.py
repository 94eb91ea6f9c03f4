"""`tport db`: the database, looked at and gone on with while auth doesn't run."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import typer

from tport.commands.printing import hint, print_out, print_value, say
from tport.commands.run import settings_of
from tport.commands.settings import Format, FormatOption

app = typer.Typer(
    help="The database: check it; go on with one that lost writes.", no_args_is_help=True
)


@app.callback()
def db() -> None:
    """The database: check it; go on with one that lost writes."""


@app.command()
def check(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """Read all of the database, and say what is wrong with it; auth may run meanwhile.

    Each page and record is read, and the last acknowledged write must be in it. The format is that of
    the records: one of an older version is brought forward when auth starts, after a backup. Exit
    status 0: all is well; 1: something is wrong, a line each.
    """
    from tport.engine.backup.cluster import DATABASE_FILE
    from tport.engine.client.connect import find_cluster
    from tport.engine.errors import TportError
    from tport.engine.storage.formats import FORMATS
    from tport.engine.storage.snapshot import is_in_use, take_snapshot

    settings = settings_of(ctx)
    place = find_cluster(config=settings.config, data_dir=settings.data_dir, shown_by=DATABASE_FILE)
    path = place.folder / DATABASE_FILE
    revision, items, size, found = 0, 0, 0, 0
    try:
        snapshot = take_snapshot(path)
    except TportError as problem:
        complaints = ["; ".join(filter(None, (str(problem), problem.hint)))]
    else:
        revision, items, size = snapshot.revision, snapshot.items, len(snapshot.data)
        found = snapshot.format
        complaints = list(snapshot.complaints)
    complaints += _open_to_others(place.folder)
    if format is not Format.text:
        print_value(
            {
                "database": str(path),
                "in_use": is_in_use(path),
                "format": found,
                "revision": revision,
                "records": items,
                "bytes": size,
                "problems": complaints,
            },
            format,
        )
    else:
        for complaint in complaints:
            print_out(complaint)
        if not complaints:
            print_out(
                f"well: {items} records, {size} bytes, at revision {revision}, format {found}"
            )
        elif any(not each.startswith("open to") for each in complaints):
            say("to begin again from a backup: stop auth, move its folder away, tport restore FILE")
            say(
                "to go on with what is left, if SQLite can read it: stop auth, tport db accept-rollback"
            )
    if 0 < found < FORMATS.newest:
        say(f"the next start of auth brings it to format {FORMATS.newest}, after a backup")
    if complaints:
        raise typer.Exit(1)


@app.command("accept-rollback")
def accept(ctx: typer.Context) -> None:
    """Go on with a database that lost writes, or isn't as it was written; auth must not run.

    Sessions, invites, join tokens and device tokens are removed, and codes of authenticator apps that
    count now are used up: some may have been ended, revoked or used in what is lost. Copy the folder
    first; a backup that is newer than what is left is better. Exit status 2: nothing is wrong with it.
    """
    import trio

    from tport.engine.backup.cluster import accept_rollback
    from tport.engine.client.connect import named_data_dir

    settings = settings_of(ctx)
    data_dir = named_data_dir(config=settings.config, data_dir=settings.data_dir)
    accepted = trio.run(accept_rollback, data_dir, partial(datetime.now, UTC))
    for complaint in accepted.complaints:
        say(complaint)
    say(f"accepted: {accepted.left_out} sessions, tokens and the like are removed")
    hint(
        "who was locked, removed or had a role taken in what is lost has it back: look through them"
    )
    hint("once auth runs: tport users ls; tport lock ls; recovery codes may work again, too")


def _open_to_others(folder: Path) -> list[str]:
    """Tell of files and folders that others than their owner may use."""
    return [
        f"open to others: {path} has mode {mode:04o}; chmod go= {path}"
        for path in (folder, *sorted(folder.iterdir()))
        if not path.is_symlink() and (mode := stat.S_IMODE(os.stat(path).st_mode)) & 0o077
    ]
