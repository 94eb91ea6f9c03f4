"""`tport apps check`: what an application needs, found by trying it."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.printing import hint, print_out, print_rows, print_value, printable, say
from tport.commands.probing import tried
from tport.commands.run import settings_of, with_cluster
from tport.commands.settings import Format, FormatOption

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.config.model import Config
    from tport.engine.types.app import App
    from tport.engine.types.probe import ProbeReport


def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The application.")],
    agent: Annotated[
        str, typer.Option("--agent", help="Which agent tries it, where several offer it.")
    ] = "",
    write: Annotated[
        bool, typer.Option("--write", help="Put what is proposed into the agent's file.")
    ] = False,
    format: FormatOption = Format.text,
) -> None:
    """Have an application tried by its agent, and say what it needs.

    The agent asks it for pages under both names (Host), compares Origins, opens a WebSocket,
    follows redirects, looks at cookies, event streams and how large a head it takes. What is
    proposed is printed as YAML. On the agent's own machine, with its file, no cluster is needed,
    and --write puts the settings into that file, its comments kept:

    \b
    tport --config /etc/tport-app.yaml apps check grafana --write

    Nobody's name is sent; the status is 1 when the application doesn't answer as it should.
    """  # noqa: D301 - \b keeps the lines below it as they are
    local = _own_app(ctx, name) if not agent else None
    if local is not None:
        report, app = tried(*local), local[1]
    elif write:
        from tport.engine.errors import InvalidRequest

        raise InvalidRequest(
            f"--write is for the machine of {name}'s agent, whose file is not this one",
            hint=f"there: tport --config FILE apps check {name} --write",
        )
    else:
        report, app = with_cluster(ctx, lambda auth: _tried_there(auth, name, agent))
    if format is not Format.text:
        import msgspec

        print_value(msgspec.to_builtins(report), format)
    else:
        _print(report, app)
    if report.proposal:
        if write and local is not None:
            _write(local[0], report)
        elif local is not None:
            file = f"--config {local[0].file} " if local[0].file else ""
            hint(f"tport {file}apps check {name} --write puts that into the file")
    if any(finding.verdict == "fails" for finding in report.findings):
        raise typer.Exit(1)


def _own_app(ctx: typer.Context, name: str) -> tuple[Config, App] | None:
    """Return the application as the file of this machine's agent defines it, if it does.

    Raises:
        ConfigError: the file, or that application in it, is faulty.
    """
    from tport.engine.config.load import STDIN, find_config_file, load_config
    from tport.engine.errors import ConfigError

    file = find_config_file(settings_of(ctx).config)
    if file is None or file == STDIN:
        return None
    config = load_config(file)
    if not config.app_service.enabled:
        return None
    for faulty in config.app_service.faulty:
        if faulty.name == name:
            raise ConfigError("\n".join(faulty.complaints))
    found = (app for app in config.app_service.apps if app.name == name)
    return next(((config, app) for app in found), None)


async def _tried_there(auth: AuthAPI, name: str, agent: str) -> tuple[ProbeReport, App]:
    import trio

    from tport.engine.defaults import PROBE_DEADLINE
    from tport.engine.errors import Unavailable
    from tport.engine.types.app import App

    probe = await auth.start_probe(app=name, agent=agent)
    with trio.move_on_after(PROBE_DEADLINE + 10):
        while True:
            report = await auth.probe_result(id=probe)
            if report is not None:
                servers = await auth.list_app_servers()
                offers = (server.app for server in servers if server.app.name == name)
                return report, next(offers, App(name=name, uri=report.uri))
    raise Unavailable(
        f"the agent did not say what it found within {PROBE_DEADLINE + 10:.0f} s",
        hint="its log tells why; tport status shows whether it is connected",
    )


def _print(report: ProbeReport, app: App) -> None:
    from tport.engine.config.edit import app_yaml
    from tport.engine.types.app import KEPT

    rows: list[tuple[str, str, str]] = []
    for finding in report.findings:
        rows.append((finding.check, finding.verdict, finding.saw))
        if finding.advice:
            rows.append(("", "", f"→ {finding.advice}"))
    where = f" from {report.hostname}" if report.hostname else ""
    say(printable(f"{report.app} ({report.uri}), tried{where}"))
    print_rows(("CHECK", "RESULT", "FOUND"), rows, empty="nothing could be tried")
    if report.proposal:
        say("in app_service.apps of the agent's file it should say:")
        print_out("\n" + app_yaml(report.proposal.applied(app)))
        if any(KEPT in header.value for header in app.rewrite.headers):
            hint(f"leave in that file what it has where {KEPT} stands here")


def _write(config: Config, report: ProbeReport) -> None:
    """Put what is proposed into the file, with its owner and mode, at once.

    All is done in the folder that was opened, and by open descriptors: who owns that folder may put
    something else under any name in it, or under its own, meanwhile.

    Raises:
        ConfigError: it can't be read or written.
    """
    from tport.engine.config.edit import with_proposal
    from tport.engine.errors import ConfigError

    assert config.file is not None
    file = config.file.resolve()
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            text, old = _read(file.name, folder)
            _replace(file.name, folder, with_proposal(text, report.app, report.proposal), old)
        finally:
            os.close(folder)
    except OSError as problem:
        raise ConfigError(
            f"cannot be written: {str(problem.strerror).lower()}",
            where=file,
            hint="put the settings in by hand, or run this as the file's owner",
        ) from None
    say(f"{config.file} is changed; an agent that runs by it takes that within seconds")


def _read(name: str, folder: int) -> tuple[str, os.stat_result]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with open(descriptor, encoding="utf-8", newline="") as lines:
        return lines.read(), os.fstat(descriptor)


def _replace(name: str, folder: int, text: str, old: os.stat_result) -> None:
    new = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if (os.geteuid(), os.getegid()) != (old.st_uid, old.st_gid):
                os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)
            os.fsync(descriptor)
        os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise
