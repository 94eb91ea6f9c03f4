"""`tport join`: offer an application in a cluster, with no token and no file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tport.commands.printing import hint, print_out, say
from tport.commands.probing import applied, tried_all
from tport.commands.run import settings_of
from tport.commands.start import run
from tport.commands.up import app_of

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.config.model import Config
    from tport.engine.types.app import App

MAX_LINE: Final = 1024  # bytes; a word has six

app = typer.Typer()


@app.command()
def join(
    ctx: typer.Context,
    proxy: Annotated[str, typer.Argument(help="The proxy: tport.example.com[:3080].")],
    uri: Annotated[
        str, typer.Argument(help="The application, seen from here: http://localhost:3000, or 3000.")
    ],
    name: Annotated[str, typer.Option("--name", help="The application's name.")] = "",
    ca_pin: Annotated[
        list[str] | None, typer.Option("--ca-pin", help="The cluster's authorities' pin.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where state is kept; or $TPORT_DATA_DIR.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", "-d", help="Say more.")] = False,
) -> None:
    """Ask to offer an application, wait until somebody allows it, and serve it.

    This machine shows a code; somebody who administers the cluster types it at
    https://PROXY/web/join, sees what asks, and lets it join. No secret is copied anywhere: the
    code proves that this machine was shown this cluster's authorities, and nobody's in between.

    That it was this cluster which let it in is proved by the certificate of its proxy, if a
    public authority signed it, or by --ca-pin. Else the page then shows a word, which is asked
    for here; without it nothing is kept.

    The machine then may offer this application at this address, and nothing else. Joined once,
    the same command serves it again without asking.
    """
    from tport.engine.config.flags import read_pin_flags

    pins = read_pin_flags(ca_pin or ())
    given = data_dir or settings_of(ctx).data_dir
    config = _config(proxy, app_of(uri, name), given, pins, debug=debug)
    names = [app.name for app in config.app_service.apps]
    found = tried_all(config, names)
    config = applied(config, found)  # the URI is what is asked for, so it must be right
    if not _has_joined(config):
        [report] = found.values()
        _ask(config, report.title)
    run(config, _greet)


def _config(
    proxy: str, app: App, data_dir: Path | None, pins: tuple[str, ...], *, debug: bool
) -> Config:
    from tport.engine.config.address import Address, parse_dial_address
    from tport.engine.config.model import AppService, AuthService, Config, Log, ProxyService
    from tport.engine.config.resolve import Machine, default_data_dir
    from tport.engine.defaults import WEB_PORT

    nowhere = Address("127.0.0.1", 0)
    return Config(
        data_dir=(data_dir or default_data_dir(Machine.here()) / f"join-{app.name}").absolute(),
        nodename="",
        log=Log(severity="debug" if debug else "info"),
        auth_service=AuthService(
            enabled=False, listen_addr=nowhere, listen_is_given=False, cluster_name=""
        ),
        proxy_service=ProxyService(
            enabled=False, web_listen_addr=nowhere, public_addrs=(), public_is_given=False
        ),
        app_service=AppService(enabled=True, apps=(app,)),
        proxy_addr=parse_dial_address(proxy.removeprefix("https://").rstrip("/"), WEB_PORT),
        ca_pin=pins,
    )


def _has_joined(config: Config) -> bool:
    from tport.engine.agent.state import load_state
    from tport.engine.process import AGENT_DIR

    return load_state(config.data_dir / AGENT_DIR) is not None


def _ask(config: Config, title: str) -> None:
    """Ask, show the code, wait, and keep what came of it."""
    from functools import partial

    import trio

    from tport.engine.agent.approval import join_by_approval
    from tport.engine.agent.service import hostname_of
    from tport.engine.agent.state import save_state
    from tport.engine.config.secret_file import read_pins
    from tport.engine.process import AGENT_DIR, wall_clock
    from tport.engine.storage.folder import locked_folder

    proxy, [app] = config.proxy_addr, config.app_service.apps
    assert proxy is not None

    def show(code: str) -> None:
        port = "" if proxy.port == 443 else f":{proxy.port}"
        say(f"asking {proxy} to let this machine offer {app.name} at {app.uri}")
        print_out(f"\n  {code}\n")
        say(
            f"somebody who administers the cluster types this code, within 15 minutes, at"
            f" https://{proxy.host}{port}/web/join"
        )
        hint(f"or there on the command line: tport tokens approve {code}")

    folder = config.data_dir / AGENT_DIR
    with locked_folder(folder):
        state = trio.run(
            partial(
                join_by_approval,
                proxy,
                app=app.name,
                uri=app.uri,
                title=title,
                hostname=hostname_of(config.nodename),
                pins=read_pins(config.ca_pin),
                clock=wall_clock,
                show=show,
                ask_word=ask_word,
            )
        )
        save_state(folder, state)
    say(f"joined cluster {state.authorities.cluster}")


async def ask_word(tries: int) -> str | None:
    """Ask for the word on a terminal, or wait for it as a line of a script.

    Args:
        tries: how many are left, with this one.

    Returns:
        What was typed; None: standard input is at its end.
    """
    import trio

    from tport.engine.agent.approval import TRIES

    if tries < TRIES:
        left = "1 try is" if tries == 1 else f"{tries} tries are"
        say(f"that is not the word; {left} left")
    else:
        say(
            "this machine was let in; that it was by your cluster, the proxy's certificate can't prove"
        )
        hint("type the word that the page there shows now, as does tport tokens approve")
    if not _is_terminal():
        say("waiting for the word on standard input")
    # Ctrl-C leaves the thread behind: it holds none of Python's locks, which exit would wait for
    return await trio.to_thread.run_sync(_next_line, abandon_on_cancel=True)


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _next_line() -> str | None:
    """Read the next line that is not empty, and no byte beyond it; None: there is none. Blocks."""
    if sys.stdin is None:
        return None
    try:
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:
            while True:
                if _is_terminal():
                    typer.echo("The word: ", nl=False, err=True)
                if not (line := stdin.readline(MAX_LINE)):
                    return None
                if line.strip():
                    return line.decode("utf-8", "replace").strip()
    except OSError:  # it is closed, or another's terminal
        return None


async def _greet(_admin: AuthAPI | None, _config: Config) -> None:
    import logging

    logging.getLogger(__name__).info("ready; joined once, the same command serves again")
