"""`tport backup`: the cluster's state as one file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tport.commands.new_file import write_new
from tport.commands.printing import hint, say
from tport.commands.run import settings_of
from tport.engine.errors import InvalidRequest

app = typer.Typer()


@app.command()
def backup(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="A new file to write; - is stdout.")],
) -> None:
    """Write the cluster's state into one file: its database and keys, as they are at one moment.

    Auth may run meanwhile. Run it where auth runs, as the user that tport runs as. The file is
    for its owner alone, and whoever has it has the cluster: keep it like a private key, or
    encrypt it on its way.

    \b
    tport backup /var/backups/tport-$(date +%F).tar.gz
    tport backup - | age -r RECIPIENT > tport.tar.gz.age
    """  # noqa: D301 - \b keeps the lines below it as they are
    from tport.engine.backup.cluster import DATABASE_FILE, make_backup
    from tport.engine.client.connect import find_cluster

    settings = settings_of(ctx)
    place = find_cluster(config=settings.config, data_dir=settings.data_dir, shown_by=DATABASE_FILE)
    if file == "-" and sys.stdout.isatty():
        raise InvalidRequest(
            "a backup is no text for a terminal", hint="tport backup FILE; or: tport backup - | …"
        )
    data, manifest = make_backup(place.folder.parent, datetime.now(UTC))
    if file == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        path = Path(file).absolute()
        write_new(path, data, or_else="name another file: a backup overwrites none")
        say(f"wrote {path}: cluster {manifest.cluster} at revision {manifest.revision}")
        hint("it has every key of the cluster in it: keep it where nobody else reads it")
    hint(
        "not in it: the logs (audit/ and requests/ beside the database), tport.yaml, and files"
        " that it names"
    )
