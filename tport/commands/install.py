"""`tport install systemd`: the unit with which systemd runs tport."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from tport.commands.new_file import write_new
from tport.commands.printing import hint, print_out, say
from tport.commands.run import settings_of
from tport.engine.errors import InvalidRequest

app = typer.Typer(help="Make tport a service of this machine.", no_args_is_help=True)

_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8), "CAVEATS"
_DEFAULT_FILE: Final = "/etc/tport.yaml"
_DATA_DIR: Final = "/var/lib/tport"


@app.callback()
def install() -> None:
    """Make tport a service of this machine."""


@app.command()
def systemd(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The file that it starts by.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Its data, when the file names no place.")
    ] = None,
    user: Annotated[str, typer.Option("--user", help="Whom it runs as.")] = "tport",
    env_file: Annotated[
        Path, typer.Option("--env-file", help="NAME=value lines, as for HTTPS_PROXY.")
    ] = Path("/etc/default/tport"),
    fd_limit: Annotated[
        int, typer.Option("--fd-limit", min=1024, max=2**30, help="Open files and connections.")
    ] = 65536,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A new file to write; stdout without.")
    ] = "",
) -> None:
    """Print a systemd unit that runs `tport start`, or write it.

    It runs as a user of its own without any right but that to ports below 1024, sees a file
    system that is read only but for its data, is restarted when it fails, drains when it is
    stopped, and reads files anew on `systemctl reload tport`.

    \b
    sudo tport install systemd --output=/etc/systemd/system/tport.service
    sudo systemctl daemon-reload
    sudo systemctl enable --now tport
    """  # noqa: D301 - \b keeps the lines below it as they are
    from tport.engine.config.systemd_unit import Unit, unit_text

    if not _USER.fullmatch(user):
        raise InvalidRequest(f"--user: {user!r} is no name of a system user")
    settings = settings_of(ctx)
    file = (config or settings.config or Path(_DEFAULT_FILE)).absolute()
    folder = str((data_dir or settings.data_dir or _data_dir_of(file)).absolute())
    text = unit_text(
        Unit(
            program=_program(),
            config_file=str(file),
            data_dir=folder,
            user=user,
            env_file=str(env_file.absolute()),
            fd_limit=fd_limit,
        )
    )
    if output in ("", "-", "stdout"):
        print_out(text)
        return
    path = Path(output).absolute()
    write_new(path, text, mode=0o644, or_else="remove it first; changes of yours: systemctl edit")
    say(f"wrote {path}")
    for line in _next_steps(path, file, folder, user):
        hint(line)


def _next_steps(unit: Path, file: Path, folder: str, user: str) -> list[str]:
    """Return what is left to do, as lines to type."""
    quoted, name = shlex.quote(str(file)), unit.stem
    home = f"sudo install -d -m 700 -o {user} -g {user} {shlex.quote(folder)}"
    return [
        f"sudo useradd --system --no-create-home --shell=/usr/sbin/nologin {user}",
        f"sudo chgrp {user} {quoted} && sudo chmod 640 {quoted}",
        *([] if folder.startswith("/var/lib/") else [home]),
        f"sudo systemctl daemon-reload && sudo systemctl enable --now {name}",
        f"its log: journalctl -u {name} -f",
    ]


def _program() -> str:
    """Return the path of the `tport` that runs now."""
    here = Path(sys.argv[0])
    if here.name == "tport" and here.exists():
        return str(here.absolute())
    return shutil.which("tport") or str(Path(sys.executable).with_name("tport"))


def _data_dir_of(file: Path) -> Path:
    """Return the data directory that a file names; where it can't be read, the usual one."""
    from tport.engine.config.load import load_config
    from tport.engine.config.resolve import Machine, default_data_dir
    from tport.engine.errors import ConfigError

    machine = Machine.here()
    try:
        found = load_config(file, machine=machine).data_dir
    except ConfigError:
        return Path(_DATA_DIR)
    # The default of who types this isn't that of the service.
    return Path(_DATA_DIR) if found == default_data_dir(machine) else found
