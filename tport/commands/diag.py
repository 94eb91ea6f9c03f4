"""`tport diag`: what helps others to find out what is wrong, in one file without secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.new_file import write_new
from tport.commands.printing import hint, say
from tport.commands.run import settings_of
from tport.engine.errors import ConfigError, TportError

if TYPE_CHECKING:
    from tport.engine.api.answers import ClusterStatus
    from tport.engine.api.certificates import CertInfo
    from tport.engine.client.connect import Place
    from tport.engine.config.model import Config

app = typer.Typer()


@app.command()
def diag(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(help="A new file to write; without, tport-diag-<time>.tar.gz here.")
    ] = "",
) -> None:
    """Write what helps to find out what is wrong into one file: no secret is in it.

    Versions, settings in force without secrets, readiness and figures of the running process,
    the cluster's status, certificates' dates, a check of the database, the log's last lines
    where it is a file. Names of hosts and applications are in it; who isn't to know those must
    not get it. Nothing is sent anywhere.
    """
    from tport.engine.bundle import collect

    now = datetime.now(UTC)
    place, config = _found(ctx)
    secrets = collect.known_secrets(config) if config is not None else frozenset()
    pieces: dict[str, collect.Piece] = {"versions.json": collect.versions}
    if config is not None:
        pieces["settings.json"] = partial(collect.settings, config)
        pieces["readyz.json"] = partial(collect.asked, config, "/readyz")
        pieces["metrics.txt"] = partial(collect.asked, config, "/metrics")
        pieces["log.txt"] = partial(collect.log_end, config, secrets)
    if place is not None:
        from tport.engine.backup.cluster import DATABASE_FILE

        pieces["database.json"] = partial(collect.database, place.folder / DATABASE_FILE)
        pieces["status.json"] = lambda: collect.status(_asked(ctx)[0])
        pieces["certificates.json"] = lambda: collect.certificates(_asked(ctx)[1])
    files = collect.collected(pieces, secrets)
    path = Path(file or f"tport-diag-{now:%Y%m%d-%H%M%S}.tar.gz").absolute()
    write_new(path, collect.packed(files, now))
    say(f"wrote {path}: {', '.join(sorted(files))}")
    for line in files.get("missing.txt", b"").decode().splitlines():
        say(f"not in it: {line}")
    hint("no secret is in it, but names of hosts and applications are: look before you send it")


def _found(ctx: typer.Context) -> tuple[Place | None, Config | None]:
    """Return the cluster on this machine and the configuration, as far as there are any."""
    from tport.engine.client.connect import find_cluster
    from tport.engine.config.load import find_config_file, load_config

    settings = settings_of(ctx)
    place: Place | None = None
    config: Config | None = None
    try:
        place = find_cluster(config=settings.config, data_dir=settings.data_dir)
    except TportError as problem:
        if not isinstance(problem, ConfigError):
            say(f"no cluster's part in it: {problem}")
    try:
        file = settings.config or (place.file if place is not None else find_config_file(None))
        if file is not None:
            config = load_config(file)
    except ConfigError as problem:
        # Its words quote the file, and who has put a secret into the wrong line has it there.
        say(f"no settings in it: the file has {len(str(problem).splitlines())} faults")
        hint("tport configure --check FILE tells them")
    return place, config


def _asked(ctx: typer.Context) -> tuple[ClusterStatus, tuple[CertInfo, ...]]:
    from tport.commands.app_state import status_and_certificates
    from tport.commands.run import with_cluster

    return with_cluster(ctx, status_and_certificates)
