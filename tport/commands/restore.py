"""`tport restore`: a cluster out of a backup."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tport.commands.printing import hint, say
from tport.commands.run import settings_of
from tport.engine.errors import NotFound

app = typer.Typer()


@app.command()
def restore(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="What tport backup wrote; - is stdin.")],
    keep_tokens: Annotated[
        bool,
        typer.Option(
            "--keep-tokens", help="Join and device tokens, too, though some may be revoked by now."
        ),
    ] = False,
) -> None:
    """Put a backup's cluster into a data directory that has none; auth must not run.

    Users, roles, locks and authorities are as they were when the backup was made. Sessions,
    invites and tokens of then are not brought back: some may have been ended or revoked since.
    What root restores belongs to the data directory's owner; `--data-dir` or `--config` before it say where.
    """
    from tport.engine.backup.cluster import restore_backup
    from tport.engine.client.connect import named_data_dir

    settings = settings_of(ctx)
    data_dir = named_data_dir(config=settings.config, data_dir=settings.data_dir)
    with ExitStack() as stack:
        try:
            opened = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        except OSError as problem:
            raise NotFound(f"{file} can't be read: {str(problem.strerror).lower()}") from None
        restored = restore_backup(data_dir, opened, datetime.now(UTC), keep_tokens=keep_tokens)
    manifest = restored.manifest
    say(
        f"restored cluster {manifest.cluster} into {data_dir}, as it was at"
        f" {manifest.created:%Y-%m-%d %H:%M} UTC"
    )
    say(f"left out {restored.left_out} sessions, tokens and the like: people sign in again")
    hint("who was locked, removed or had a role taken since then has it back: look through them")
    hint("once auth runs: tport users ls; tport lock ls; agents come back by themselves")
