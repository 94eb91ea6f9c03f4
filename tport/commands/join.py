"""`tport join`: offer an application in a cluster, with no token and no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

app = typer.Typer()


@app.command()
def join(
    ctx: typer.Context,
    proxy: Annotated[str, typer.Argument(help="The proxy: tport.example.com[:3080].")],
    uri: Annotated[
        str, typer.Argument(help="The application, seen from here: http://localhost:3000, or 3000.")
    ],
    name: Annotated[str, typer.Option("--name", help="The application's name.")] = "",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where state is kept; or $TPORT_DATA_DIR.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", "-d", help="Say more.")] = False,
) -> None:
    """Ask to offer an application, wait until somebody allows it, and serve it.

    This machine shows a code; somebody who administers the cluster types it at
    https://PROXY/web/join, sees what asks, and lets it join. No secret is copied anywhere: the
    code proves that both sides talk to each other, and to nobody in between.

    The machine then may offer this application at this address, and nothing else. Joined once,
    the same command serves it again without asking.
    """
    config = _config(proxy, app_of(uri, name), data_dir or settings_of(ctx).data_dir, debug=debug)
    names = [app.name for app in config.app_service.apps]
    found = tried_all(config, names)
    config = applied(config, found)  # the URI is what is asked for, so it must be right
    if not _has_joined(config):
        [report] = found.values()
        _ask(config, report.title)
    run(config, _greet)


def _config(proxy: str, app: App, data_dir: Path | None, *, debug: bool) -> Config:
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
                clock=wall_clock,
                show=show,
            )
        )
        save_state(folder, state)
    say(f"joined cluster {state.authorities.cluster}")


async def _greet(_admin: AuthAPI | None, _config: Config) -> None:
    import logging

    logging.getLogger(__name__).info("ready; joined once, the same command serves again")
