"""`tport edit`: one resource in an editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.create import put_all, read_noted
from tport.commands.printing import hint, say
from tport.commands.run import with_cluster
from tport.engine.errors import InvalidRequest, TportError

if TYPE_CHECKING:
    from tport.engine.types.resource import Resource

app = typer.Typer(help="Change a resource in your editor.")

EDITABLE = ("role", "user", "token", "app", "lock", "oidc", "github", "cluster_auth_preference")
EDITORS = ("TPORT_EDITOR", "VISUAL", "EDITOR")


@app.command()
def edit(
    ctx: typer.Context,
    resource: Annotated[str, typer.Argument(help="KIND/NAME; or cluster_auth_preference.")],
) -> None:
    """Open a resource in $TPORT_EDITOR, $VISUAL, $EDITOR or vi, and store what is saved.

    If somebody else changed it meanwhile, nothing is stored. What can't be stored is kept.
    """
    from tport.engine.config.kinds import parse_reference
    from tport.engine.config.resource_text import yaml_text

    reference = parse_reference(resource, whole=True)
    if reference.kind not in EDITABLE:
        raise InvalidRequest(
            f"{reference.kind} is no kind that one edits: {', '.join(EDITABLE)} are"
        )
    found = with_cluster(
        ctx,
        lambda auth: auth.get_resources(kind=reference.kind, name=reference.name, secrets=False),
    )
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} resources are meant by {resource}; give the whole name")
    before = found[0]
    text = yaml_text([before])
    handle, name = tempfile.mkstemp(prefix=f"tport-{reference.kind}-", suffix=".yaml")  # 0600
    path = Path(name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    _open_editor(path)
    edited = path.read_text(encoding="utf-8")
    if edited == text:
        path.unlink()
        say("not changed")
        return
    try:
        after = read_noted(edited, str(path))
        _check_same(before, [each.resource for each in after])
        with_cluster(ctx, lambda auth: put_all(auth, after, "update"))
    except TportError:
        hint(f"what you wrote is kept in {path}")
        raise
    path.unlink()


def _open_editor(path: Path) -> None:
    """Run the person's editor and wait for its end.

    Raises:
        InvalidRequest: it can't be run, or fails.
    """
    command = next((os.environ[name] for name in EDITORS if os.environ.get(name)), "vi")
    try:
        status = subprocess.run([*shlex.split(command), str(path)], check=False).returncode  # noqa: S603 - the person's own
    except (OSError, ValueError) as problem:
        raise InvalidRequest(
            f"the editor {command!r} can't be run: {getattr(problem, 'strerror', None) or problem}",
            hint="set $EDITOR to one that is there",
        ) from None
    if status:
        raise InvalidRequest(f"the editor {command!r} ended with status {status}")


def _check_same(before: Resource, found: list[Resource]) -> None:
    """Raise InvalidRequest unless it is one resource still, of the same kind, name and revision."""
    from tport.engine.types.resource import kind_of, name_of

    same = [(kind_of(each), name_of(each)) for each in found] == [
        (kind_of(before), name_of(before))
    ]
    if not same:
        raise InvalidRequest(
            "edit changes one resource and leaves its kind and name",
            hint="for another name: tport create the new one, tport rm the old one",
        )
    if found[0].revision != before.revision:
        raise InvalidRequest("leave metadata.revision as it is: it tells whether others changed it")
