"""`tport start`: run the services that a file or flags enable."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tport.commands.printing import hint, say
from tport.commands.probing import applied, tried_all
from tport.commands.run import settings_of

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.config.flags import StartFlags
    from tport.engine.config.model import Config
    from tport.engine.types.probe import ProbeReport

app = typer.Typer()

_VARIABLES = (("token", "TPORT_TOKEN_FILE"), ("auth_server", "TPORT_PROXY"))


@app.command()
def start(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The file; or $TPORT_CONFIG_FILE.")
    ] = None,
    roles: Annotated[
        list[str] | None, typer.Option("--roles", "-r", help="Of auth, proxy, app.")
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            "--token", help="The join token's file; - is stdin.", envvar="TPORT_TOKEN_FILE"
        ),
    ] = "",
    auth_server: Annotated[
        str,
        typer.Option("--auth-server", help="The proxy that the agent dials.", envvar="TPORT_PROXY"),
    ] = "",
    app_name: Annotated[str, typer.Option("--app-name", help="An application: its name.")] = "",
    app_uri: Annotated[str, typer.Option("--app-uri", help="Where it is, seen from here.")] = "",
    app_public_addr: Annotated[
        str, typer.Option("--app-public-addr", help="Its host, when not <name>.<proxy>.")
    ] = "",
    labels: Annotated[
        list[str] | None, typer.Option("--labels", help="Its labels: env=dev,team=a.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Try applications first; --app-name's gets what it needs."),
    ] = False,
    ca_pin: Annotated[
        list[str] | None, typer.Option("--ca-pin", help="The cluster's authorities' pin.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Believe whoever answers at the proxy's address.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where state is kept; or $TPORT_DATA_DIR.")
    ] = None,
    bootstrap: Annotated[
        Path | None,
        typer.Option(
            "--bootstrap", help="First start: make the cluster of `tport get all --with-secrets`."
        ),
    ] = None,
    diag_addr: Annotated[
        str, typer.Option("--diag-addr", help="Serve /healthz, /readyz and /metrics here.")
    ] = "",
    log_format: Annotated[str, typer.Option("--log-format", help="text or json.")] = "",
    log_level: Annotated[
        str, typer.Option("--log-level", help="debug, info, warning or error.")
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", "-d", help="The same as debug level.")] = False,
) -> None:
    """Start auth, proxy and agent, as the file or the flags say, until SIGTERM or Ctrl-C.

    An agent, in one line:

    \b
    tport start --roles=app --token=/tmp/token --auth-server=tport.example.com:3080 \\
        --app-name=grafana --app-uri=http://localhost:3000
    """  # noqa: D301 - \b keeps the lines below it as they are
    from tport.engine.config.flags import StartFlags

    os.environ.pop(
        "TPORT_TOKEN_FILE", None
    )  # it may be the token: nothing started here inherits it
    if token not in ("", "-") and os.path.isfile(token):
        token = str(Path(token).absolute())

    flags = StartFlags(
        roles=tuple(roles or ()),
        token=token,
        auth_server=auth_server,
        ca_pin=tuple(ca_pin or ()),
        insecure=insecure,
        app_name=app_name,
        app_uri=app_uri,
        app_public_addr=app_public_addr,
        labels=tuple(labels or ()),
        data_dir=None if data_dir is None else data_dir.absolute(),
        bootstrap=bootstrap,
        diag_addr=diag_addr,
        log_format=_one_of("--log-format", log_format, ("", "text", "json")),
        log_level=_one_of("--log-level", log_level, ("", "debug", "info", "warning", "error")),
        debug=debug,
        from_environment={
            field: variable for field, variable in _VARIABLES if _is_from_environment(ctx, field)
        },
    )
    configured = _configured(ctx, config, flags, probe=probe)
    if token and not (token.startswith("/") or token == "-"):  # noqa: S105 - it asks what it is
        say("warning: a token on the command line can be read by others (ps, history)")
        hint("put it into a file and give that: --token=FILE, or --token=- for stdin")
    run(*configured)


def _configured(
    ctx: typer.Context, path: Path | None, flags: StartFlags, *, probe: bool
) -> tuple[Config, Ready, Reread | None]:
    """Return what to run, the greeting, and how to read it anew.

    It comes from the file, the flags, and what can be found out for an agent.
    """
    import msgspec

    from tport.engine.config.flags import merge_flags
    from tport.engine.config.load import STDIN, find_config_file, load_config

    settings = settings_of(ctx)
    file = find_config_file(path or settings.config)
    loaded = load_config(file)
    for note in loaded.notes:
        say(note)
    if flags.data_dir is None and settings.data_dir is not None:
        flags = _replaced(flags, data_dir=settings.data_dir.absolute())
    if flags.app_name and not flags.app_uri:
        flags = _replaced(flags, app_uri=_found_uri(flags.app_name))
    merged = config = merge_flags(loaded, flags)
    if config.app_service.enabled and not config.auth_service.enabled:
        config = _with_local_cluster(config)
    needs: dict[str, ProbeReport] = {}
    if probe and config.app_service.enabled:
        found = tried_all(config, {flags.app_name})
        needs = {name: need for name, need in found.items() if name == flags.app_name}
        config = applied(config, needs)
    if file is None or file == STDIN:
        return config, _greet, None
    joined = config.auth_token is not merged.auth_token

    def reread() -> Config:
        fresh = applied(merge_flags(load_config(file), flags), needs)
        if not joined:
            return fresh
        return msgspec.structs.replace(
            fresh, auth_token=config.auth_token, proxy_addr=config.proxy_addr
        )

    return config, _greet, reread


def _is_from_environment(ctx: typer.Context, parameter: str) -> bool:
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name == "ENVIRONMENT"


def _replaced(flags: StartFlags, **changes: object) -> StartFlags:
    import msgspec

    return msgspec.structs.replace(flags, **changes)


def _found_uri(name: str) -> str:
    """Return where a known application answers on this machine, or what the person says; or ""."""
    from tport.engine.config.known_apps import usual_uri

    uri = usual_uri(name)
    if uri and _answers(uri):
        say(f"{name} answers at {uri}; that is its --app-uri")
        return uri
    if sys.stdin.isatty():
        answer: str = typer.prompt(
            f"Where is {name}, seen from here", default=uri or None, err=True
        )
        return answer
    return ""


def _answers(uri: str) -> bool:
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), timeout=1).close()
    except OSError:
        return False
    return True


def _with_local_cluster(config: Config) -> Config:
    """Take what an agent lacks from the cluster that runs on this machine, if it is this user's."""
    import msgspec

    from tport.engine.agent.state import load_state
    from tport.engine.client.connect import find_cluster, open_cluster
    from tport.engine.config.address import parse_dial_address
    from tport.engine.config.model import Secret
    from tport.engine.defaults import WEB_PORT
    from tport.engine.errors import TportError
    from tport.engine.process import AGENT_DIR

    if config.auth_token is not None or load_state(config.data_dir / AGENT_DIR) is not None:
        return config
    try:
        place = find_cluster(config=None, data_dir=None)
        import trio

        async def ask() -> tuple[str, str]:
            async with open_cluster(place) as auth:
                made = await auth.create_token(
                    roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
                )
                return made.token, made.proxy_addr

        token, proxy = trio.run(ask)
    except TportError:
        return config  # there is none, or it isn't ours: what is missing is said by the agent
    if config.proxy_addr is not None and str(config.proxy_addr) != proxy:
        return config
    say(f"joining the cluster that runs on this machine, {proxy}")
    return msgspec.structs.replace(
        config, auth_token=Secret(token), proxy_addr=parse_dial_address(proxy, WEB_PORT)
    )


async def _greet(admin: AuthAPI | None, config: Config) -> None:
    """Say where to go in the browser, once all serve."""
    import logging

    logger = logging.getLogger(__name__)
    if config.proxy_service.enabled:
        address = config.proxy_service.public_addrs[0]
        port = "" if address.port == 443 else f":{address.port}"
        logger.info("open https://%s%s in a browser", address.host, port)
        if config.proxy_service.acme.enabled:
            logger.info("certificates come by ACME from %s", config.proxy_service.acme.uri)
        elif not config.proxy_service.https_keypairs:
            logger.info("certificates come from the cluster's own authority: tport ca trust")
    if admin is not None and not await admin.list_users():
        logger.info(
            "nobody can sign in yet; for the first administrator's link, as this user:"
            " tport users add --roles=editor,access,auditor NAME"
        )
    logger.info("ready")


def run(config: Config, ready: Ready, reread: Reread | None = None) -> None:
    """Run a configuration until it is told to stop.

    Raises:
        typer.Exit: a signal stopped it, after draining; 128 and its number.
    """
    import trio

    from tport.engine.logs import set_up_logging
    from tport.engine.process import run_process

    set_up_logging(config.log)
    if status := trio.run(run_process, config, ready, reread):
        raise typer.Exit(status)


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> Literal[""]:
    from tport.engine.errors import ConfigError

    if value not in allowed:
        raise ConfigError(f"{flag}: expected one of {', '.join(allowed[1:])}, found {value!r}")
    return value  # type: ignore[return-value] # one of the words that StartFlags takes


if TYPE_CHECKING:
    from tport.engine.process import Ready
    from tport.engine.reload import Reread
