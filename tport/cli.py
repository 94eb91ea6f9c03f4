"""The root command: the built-in commands, then those that installed packages add.

A command's module is imported when it is called; its line in the help stands here, so that
`tport --help` stays quick. What went wrong is a line on stderr each, and an
exit status: see `tport.engine.errors`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from tport.commands.printing import be_quiet, on_stderr, warn
from tport.commands.settings import Settings
from tport.engine.errors import InvalidRequest, TportError, leaves

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGINS: Final = "tport.commands"  # the entry-point group
PLAIN: Final = None  # help without rich: it takes 100 ms of CPU to import, half of help's budget
NO_PLUGINS: Final = """\
tport --help
if it is of a plug-in: this program carries its own Python and takes none; use the wheel: pipx install tport"""
ROOTS_OWN: Final = ("install_completion", "show_completion")  # typer gives them to every app

# name → its module, and its line in the help. A module holds `app`, a typer.Typer.
BUILT_IN: Final[Mapping[str, tuple[str, str]]] = {
    "up": ("tport.commands.up", "Start everything on this machine and open it in a browser."),
    "start": ("tport.commands.start", "Start the services that a file or flags enable."),
    "join": ("tport.commands.join", "Offer an application: show a code, wait to be let in."),
    "configure": ("tport.commands.configure", "Write a configuration file, or check one."),
    "install": ("tport.commands.install", "Make tport a service of this machine: systemd."),
    "tokens": ("tport.commands.tokens", "Join tokens, with which agents enter the cluster."),
    "users": ("tport.commands.users", "People: invite, list, change, remove."),
    "apps": ("tport.commands.apps", "The applications that agents offer."),
    "why": ("tport.commands.why", "Why a user may, or may not, open an application."),
    "requests": ("tport.commands.requests", "People who ask for access: list, approve, deny."),
    "get": ("tport.commands.get", "Print resources as YAML: roles, users, tokens, ..."),
    "create": ("tport.commands.create", "Make resources from a YAML file."),
    "edit": ("tport.commands.edit", "Change a resource in your editor."),
    "rm": ("tport.commands.rm", "Remove resources."),
    "lock": ("tport.commands.lock", "Lock a user, a role or an agent out at once."),
    "certs": ("tport.commands.certs", "The certificates that browsers are shown."),
    "sessions": ("tport.commands.sessions", "Who is signed in, and where."),
    "device-tokens": ("tport.commands.device_tokens", "Tokens of people's programs: list, revoke."),
    "sso": ("tport.commands.sso", "Identity providers: try a connector."),
    "audit": ("tport.commands.audit", "What happened, and who asked for what."),
    "ca": ("tport.commands.ca", "The cluster's own certificate authorities."),
    "status": ("tport.commands.status", "What runs in the cluster, and whether it is well."),
    "settings": ("tport.commands.in_force", "Settings in force, and where each comes from."),
    "backup": ("tport.commands.backup", "Write the cluster's state into one file."),
    "restore": ("tport.commands.restore", "Make a cluster of a backup."),
    "db": ("tport.commands.db", "The database: check it."),
    "diag": ("tport.commands.diag", "Write what helps to find a fault into one file, no secrets."),
    "selftest": ("tport.commands.selftest", "Measure the path through tport, with numbers."),
    "version": ("tport.commands.version", "Print the version."),
}


class LazyGroup(TyperGroup):
    """Knows its commands by name, and loads the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        plugins = [name for name in _plugins() if name not in BUILT_IN]
        return [*BUILT_IN, *sorted(plugins)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what help needs of a command; `resolve_command` loads the real one."""
        if cmd_name in BUILT_IN:
            return TyperCommand(cmd_name, help=BUILT_IN[cmd_name][1])
        if (point := _plugins().get(cmd_name)) is not None:
            loaded = _load_plugin(cmd_name, point)
            return TyperCommand(cmd_name, help=(loaded and loaded.get_short_help_str(100)) or "")
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in BUILT_IN:
            module = import_module(BUILT_IN[name][0])
            return name, _as_command(name, module.app), args[1:]
        if (point := _plugins().get(name)) is not None:
            loaded = _load_plugin(name, point)
            if loaded is None:
                raise typer.Exit(1)
            return name, loaded, args[1:]
        self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as problem:
            if not is_without_plugins() or name.startswith("-"):
                raise
            raise InvalidRequest(_first_low(problem.format_message()), hint=NO_PLUGINS) from None


def is_without_plugins() -> bool:
    """Tell whether this program carries its own Python, into which nobody installs a package."""
    return bool(getattr(sys, "frozen", False))  # said by PyInstaller


def _plugins() -> dict[str, EntryPoint]:
    """Return the commands that installed packages add, by name; the built-in ones win."""
    if not any(map(_may_add_commands, sys.path)):
        return {}
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=PLUGINS)}


def _may_add_commands(place: str) -> bool:
    """Tell whether a package that is installed there says so; an archive may hold one.

    What answers that for certain takes a seventh of help's budget to import.
    """
    try:
        found = list(os.scandir(place or "."))
    except OSError:
        return os.path.isfile(place)
    infos = [each.path for each in found if each.name.lower().endswith(("dist-info", "egg-info"))]
    return any(PLUGINS.encode() in _entry_points_in(info) for info in infos)


def _entry_points_in(info: str) -> bytes:
    try:
        return Path(info, "entry_points.txt").read_bytes()
    except OSError:
        return b""


def _load_plugin(name: str, point: EntryPoint) -> Any:
    """Load a plug-in's command; None, and a warning, when it fails: it costs itself and no more."""
    try:
        return _as_command(name, point.load())
    except Exception as error:
        warn(f"plug-in {point.value} not loaded: {error}")
        return None


def _as_command(name: str, app: Any) -> Any:
    if isinstance(app, typer.Typer):
        app.rich_markup_mode = PLAIN
        app = typer.main.get_command(app)
        app.params = [option for option in app.params if option.name not in ROOTS_OWN]
    app.name = name
    return app


app = typer.Typer(
    name="tport",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: tport up http://localhost:3000",
    rich_markup_mode=PLAIN,
)


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The cluster's file; or $TPORT_CONFIG_FILE."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The cluster's data; or $TPORT_DATA_DIR."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Answer every question with yes.")
    ] = False,
) -> None:
    """A safe way to reach internal web applications.

    Commands find the cluster by --config, --data-dir, $TPORT_CONFIG_FILE, $TPORT_DATA_DIR, a
    `tport up` of yours that runs on this machine, or /etc/tport.yaml, in this order.
    """
    ctx.obj = Settings(config=config, data_dir=data_dir, quiet=quiet, yes=yes)
    if quiet:
        be_quiet()


def run(args: list[str]) -> int:
    """Run one command and return its exit status."""
    status = 0
    try:
        result = app(args=args, prog_name="tport", standalone_mode=False)
        status = result if isinstance(result, int) else 0
    except* TportError as group:
        for error in leaves(group):
            say_error(error)
            status = max(status, error.exit_code)
    except* typer.Abort:
        warn("given up")
        status = 1
    except* KeyboardInterrupt:
        status = 130
    except* SystemExit as group:  # a plug-in's own, or typer's when nobody reads stdout any more
        for end in leaves(group):
            if not isinstance(end.__context__, BrokenPipeError):
                status = max(status, end.code if isinstance(end.code, int) else 1)
    except* typer.TyperException as group:  # usage: an unknown option, a missing argument
        for problem in leaves(group):
            say_misuse(problem.format_message(), getattr(problem, "ctx", None))
            status = 2
    return _flushed(status)


def say_error(error: TportError) -> None:
    """Print an error, a line for each of its lines, and what to do next."""
    on_stderr(str(error) or type(error).__name__, "tport: error: ")
    on_stderr(error.hint, "tport: hint: ")


def say_misuse(message: str, context: typer.Context | None) -> None:
    """Print what is wrong with a command line; or its help, when nothing was given at all."""
    if "\n" in message:
        on_stderr(message)
        return
    on_stderr(_first_low(message), "tport: error: ")
    if context is not None:
        on_stderr(f"{context.command_path} --help", "tport: hint: ")


def _first_low(message: str) -> str:
    return (message[:1].lower() + message[1:]).rstrip(".")


def _flushed(status: int) -> int:
    """Flush stdout; a reader that went away (`| head -1`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
