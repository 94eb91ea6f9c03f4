"""`tport configure`: write a configuration file, or check one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from tport.commands.new_file import write_new
from tport.commands.printing import hint, on_stderr, print_out, print_rows, print_value, say
from tport.commands.run import settings_of
from tport.commands.settings import Format
from tport.engine.errors import ConfigError

if TYPE_CHECKING:
    from tport.engine.config.model import Config
    from tport.engine.config.sample import SampleFlags

app = typer.Typer()

DEFAULT_FILE: Final = Path("/etc/tport.yaml")  # as tport.engine.config.load has it
DATA_DIR: Final = "/var/lib/tport"


@app.command()
def configure(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What --check looks at.")
    ] = None,
    *,
    cluster_name: Annotated[
        str, typer.Option(help="The cluster's name: the proxy's host name.")
    ] = "",
    public_addr: Annotated[
        str, typer.Option(help="Where browsers and agents reach the proxy, as host:port.")
    ] = "",
    acme: Annotated[bool, typer.Option("--acme", help="Certificates from Let's Encrypt.")] = False,
    acme_email: Annotated[str, typer.Option(help="Whom Let's Encrypt writes to.")] = "",
    staging: Annotated[
        bool,
        typer.Option("--staging", help="With --acme: a dry run, whose certificates nobody knows."),
    ] = False,
    cert_file: Annotated[str, typer.Option(help="A certificate chain, PEM.")] = "",
    key_file: Annotated[str, typer.Option(help="The certificate's key, PEM.")] = "",
    roles: Annotated[
        list[str] | None, typer.Option(help="What runs here: auth, proxy, app.")
    ] = None,
    token: Annotated[
        str, typer.Option(help="The join token of an agent, or its file's absolute path.")
    ] = "",
    proxy: Annotated[str, typer.Option(help="The proxy that an agent dials.")] = "",
    app_name: Annotated[str, typer.Option(help="An application: a sub-domain.")] = "",
    app_uri: Annotated[str, typer.Option(help="Where the application is.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tport keeps its state.")] = "",
    version: Annotated[str, typer.Option(help="Of the file's format: v1, v2 or v3.")] = "",
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A new file to write; `file` is /etc/tport.yaml; else stdout."
        ),
    ] = "",
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Ask for what isn't given.")
    ] = False,
    test: Annotated[
        Path | None, typer.Option(help="Check this file, '-' for stdin, and write nothing.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look whether all that FILE needs is as it must be.")
    ] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How --check prints: text, json or yaml.")
    ] = Format.text,
) -> None:
    """Write a configuration file to stdout, or check one.

    A server with certificates from Let's Encrypt, one with its own, and an agent's machine:

    \b
    tport configure --acme --acme-email=alice@example.com \\
        --cluster-name=tport.example.com | sudo tee /etc/tport.yaml
    tport configure --cluster-name=tport.example.com --output=tport.yaml
    tport configure --proxy=tport.example.com --token=/tmp/token \\
        --app-name=grafana --app-uri=http://localhost:3000 --output=file

    --interactive asks four questions and shows the file before it is written. No file is ever
    overwritten.

    --test judges a file by itself. --check looks around: DNS records, ports, the way to the public
    address, the certificate authority, the clock, the data directory, certificates, an agent's
    proxy, applications. What is wrong comes with what to do, and status 1:

    \b
    sudo tport configure --check /etc/tport.yaml
    """  # noqa: D301 - \b keeps the lines below it as they are
    from tport.engine.config.sample import SampleFlags, sample_config

    flags = SampleFlags(
        cluster_name=cluster_name,
        public_addr=public_addr,
        acme=acme,
        acme_email=acme_email,
        staging=staging,
        cert_file=_absolute(cert_file),
        key_file=_absolute(key_file),
        roles=tuple(roles or ()),
        token=token,
        proxy=proxy,
        app_name=app_name,
        app_uri=app_uri,
        data_dir=_absolute(data_dir),
        version=version,
    )
    if check:
        if output or interactive or test is not None or not flags.is_empty:
            raise ConfigError("--check goes alone: it looks at a file and writes none")
        _preflight(ctx, file, format)
        return
    if file is not None or format is not Format.text:
        raise ConfigError("FILE and --format belong to --check", hint="to write one: --output=FILE")
    if test is not None:
        if output or interactive or not flags.is_empty:
            raise ConfigError("--test goes alone: it checks a file and writes none")
        check_file(test)
        return
    path = output_path(output)
    asked = interactive or (flags.is_empty and _is_terminal())
    if asked:
        from tport.commands.interview import ask_for_rest

        if not _is_terminal():
            raise ConfigError("--interactive asks questions, and stdin is no terminal")
        flags = ask_for_rest(flags, check_pair=check_certificate)
    text = sample_config(flags)
    check_certificate(flags.cert_file, flags.key_file, "--cert-file and --key-file")
    if asked and (path is not None or sys.stdout.isatty()):
        from tport.commands.interview import ask_where

        path = ask_where(text, path, yes=settings_of(ctx).yes)
        if path is None:
            return
    if path is None:
        print_out(text)
    else:
        write_new(path, text)
        _tell_written(path, flags)
    _warn_of_data(Path(flags.data_dir or DATA_DIR))


def output_path(output: str) -> Path | None:
    """Return the file that `--output` means; None: stdout.

    Raises:
        ConfigError: a `file://` without an absolute path.
    """
    if output in ("", "-", "stdout"):
        return None
    if output == "file":
        return DEFAULT_FILE
    if not output.startswith("file://"):
        return Path(output)
    path = Path(output.removeprefix("file://"))
    if not path.is_absolute():
        raise ConfigError(
            f"--output: {output!r} has no absolute path", hint="as in file:///etc/tport.yaml"
        )
    return path


def _tell_written(path: Path, flags: SampleFlags) -> None:
    """Say what was written, and what comes next."""
    import shlex

    from tport.engine.config.load import load_config

    config = load_config(path, to_run=False)
    start = f"tport start --config={shlex.quote(str(path))}"
    say(f"wrote {path}; next: {start}")
    for note in config.notes:
        say(note)
    hint(f"is all there that it needs? tport configure --check {shlex.quote(str(path))}")
    port = config.proxy_service.web_listen_addr.port if config.proxy_service.enabled else 1024
    if port < 1024:
        hint(f"port {port} needs a right, which a service has: tport install systemd")


def _warn_of_data(data_dir: Path) -> None:
    """Warn of a data directory that isn't as a first start wants it: it may hold another cluster."""
    try:
        found = any(data_dir.iterdir())
    except FileNotFoundError:
        return
    except OSError as problem:
        say(f"warning: {data_dir} can't be looked at: {str(problem.strerror).lower()}")
        return
    if found:
        say(f"warning: {data_dir} isn't empty: what is in it goes on, the cluster's name too")


def check_file(path: Path) -> None:
    """Say `<file>: ok` on stdout, or every complaint on stderr and end with status 2."""
    from tport.engine.config.load import load_config

    try:
        config = load_config(path, to_run=False)
    except ConfigError as error:
        _fail(str(error).splitlines(), error.hint)
    for note in config.notes:
        on_stderr(note, "tport: ")
    complaints = [line for app in config.app_service.faulty for line in app.complaints]
    complaints += _certificate_complaints(config)
    if complaints:
        _fail(complaints)
    typer.echo(f"{path}: ok")


def _preflight(ctx: typer.Context, path: Path | None, format: Format) -> None:
    """Look at all that a file needs; print a table, and end with status 1 if something is wrong."""
    import msgspec
    import trio

    from tport.engine.config.load import find_config_file, load_config
    from tport.engine.preflight.row import has_problem
    from tport.engine.preflight.running import preflight

    settings = settings_of(ctx)
    file = find_config_file(path or settings.config)
    config = load_config(file)
    if settings.data_dir is not None:
        config = msgspec.structs.replace(config, data_dir=settings.data_dir.absolute())
    for note in config.notes:
        say(note)
    if format is Format.text:
        say(f"looking at what {file or 'no file, but the defaults,'} needs")
    rows = trio.run(preflight, config)
    if format is not Format.text:
        print_value(msgspec.to_builtins(rows), format)
    else:
        table: list[tuple[str, str, str]] = []
        for row in rows:
            table.append((row.check, row.verdict, row.found))
            if row.advice:
                table.append(("", "", f"→ {row.advice}"))
        print_rows(("CHECK", "RESULT", "FOUND"), table, empty="there is nothing to look at")
        wrong = sum(row.verdict == "problem" for row in rows)
        say(f"{wrong} of {len(rows)} must be mended" if wrong else "nothing is wrong")
    if has_problem(rows):
        raise typer.Exit(1)


def _fail(complaints: list[str], hint: str = "") -> NoReturn:
    # Without the prefix of other errors: file:line:column first is what editors jump by.
    for complaint in complaints:
        on_stderr(complaint)
    on_stderr(hint, "tport: hint: ")
    raise typer.Exit(2)


def _certificate_complaints(config: Config) -> list[str]:
    """Return what is wrong with certificates; of those that can be used it is said on stderr."""
    if not config.proxy_service.enabled or not config.proxy_service.https_keypairs:
        return []
    from tport.engine.reload import judge_key_pairs

    warnings, complaints = judge_key_pairs(config, datetime.now(UTC))
    for warning in warnings:
        say(warning)
    return complaints


def check_certificate(cert_file: str, key_file: str, where: str) -> None:
    """Raise ConfigError unless both can be read and used together."""
    if not cert_file:
        return
    from tport.engine.proxy.key_pairs import read_key_pair

    try:
        read_key_pair(Path(cert_file), Path(key_file), now=datetime.now(UTC), authorities=())
    except ConfigError as problem:
        raise ConfigError(str(problem), where=where, hint=problem.hint) from None


def _absolute(text: str) -> str:
    return str(Path(text).absolute()) if text else ""


def _is_terminal() -> bool:
    return sys.stdin.isatty()
