"""`tport up`: a whole cluster on this machine, in one command."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tport.commands.printing import hint, print_out, say
from tport.commands.probing import applied, tried_all
from tport.commands.run import settings_of
from tport.commands.start import run

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.config.model import Config
    from tport.engine.types.app import App
    from tport.engine.types.setting import Origin

TRYING: Final = 10.0  # s for a look at what the application needs; a silent one is served as it is

app = typer.Typer()


@app.command()
def up(
    ctx: typer.Context,
    uri: Annotated[
        str, typer.Argument(help="The application: http://localhost:3000, or 3000. None: a demo.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="The application's name.")] = "",
    public_addr: Annotated[
        str,
        typer.Option("--public-addr", help="host[:port] for other machines; else this one only."),
    ] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen.")] = 3080,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where state is kept; or $TPORT_DATA_DIR.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", "-d", help="Say more.")] = False,
) -> None:
    """Start auth, proxy and an agent on this machine, and open them in a browser.

    Without a file: the address is https://tport.localhost:3080, applications are at
    https://<name>.tport.localhost:3080, and one link, printed once, makes you the owner. The
    application is tried first, so that it gets the Host and the scheme that it needs.
    """
    given = data_dir or settings_of(ctx).data_dir
    config = _config(uri, name, public_addr, port, given, debug=debug)
    _check_not_up(config)
    if config.app_service.apps and port:  # 0: which address it will have isn't known yet
        names = [app.name for app in config.app_service.apps]
        config = applied(config, tried_all(config, names, deadline=TRYING))
    run(config, _greet)


def _check_not_up(config: Config) -> None:
    """Raise AlreadyExists when this very cluster runs: a second one could only say "in use"."""
    import trio

    from tport.engine.client.connect import ADMIN_FILE, AUTH_DIR, Place, open_cluster
    from tport.engine.errors import AlreadyExists, TportError

    place = Place(config.data_dir / AUTH_DIR, "tport up")
    if not (place.folder / ADMIN_FILE).exists():
        return

    async def ask() -> str:
        async with open_cluster(place) as auth:
            return (await auth.status()).proxy_addrs[0]

    try:
        address = trio.run(ask)
    except TportError:
        return
    raise AlreadyExists(
        f"it is up already: https://{address}",
        hint="to add an application: tport start --roles=app --app-name=NAME --app-uri=URI",
    )


def _config(
    uri: str, name: str, public_addr: str, port: int, data_dir: Path | None, *, debug: bool
) -> Config:
    from tport.engine.client.connect import up_data_dir
    from tport.engine.config.address import Address, parse_public_address
    from tport.engine.config.model import AppService, AuthService, Config, Log, ProxyService
    from tport.engine.config.resolve import Machine
    from tport.engine.defaults import UP_DOMAIN, WEB_PORT
    from tport.engine.types.factor import FactorPolicy

    public = Address(UP_DOMAIN, port)
    listen = Address("127.0.0.1", port)
    if public_addr:
        public = parse_public_address(public_addr, port)
        listen = Address("", port)
    apps = (app_of(uri, name),) if uri else ()
    return Config(
        data_dir=(data_dir or up_data_dir(Machine.here())).absolute(),
        nodename="",
        log=Log(severity="debug" if debug else "warning"),
        auth_service=AuthService(
            enabled=True,
            listen_addr=Address("127.0.0.1", 0),
            listen_is_given=True,
            cluster_name=UP_DOMAIN,
            second_factor=FactorPolicy.from_word("optional"),
        ),
        proxy_service=ProxyService(
            enabled=True,
            web_listen_addr=listen,
            public_addrs=(public,),
            public_is_given=bool(public_addr),
        ),
        app_service=AppService(enabled=True, debug_app=not apps, apps=apps),
        origins=_origins(
            flags={
                "tport.data_dir": "--data-dir" if data_dir else "",
                "tport.log.severity": "--debug" if debug else "",
                "proxy_service.web_listen_addr": "--port" if port != WEB_PORT else "",
                "proxy_service.public_addr": "--public-addr" if public_addr else "",
            }
        ),
    )


def _origins(flags: dict[str, str]) -> dict[str, Origin]:
    """Return where settings come from: `flags` says which flag was given; all else up decides."""
    from tport.engine.config.in_force import SECOND_FACTOR
    from tport.engine.types.setting import Origin

    others = ("auth_service.listen_addr", "auth_service.cluster_name", SECOND_FACTOR)
    ours = dict.fromkeys((*flags, *others), Origin("command", "tport up"))
    return ours | {path: Origin("flag", flag) for path, flag in flags.items() if flag}


def app_of(uri: str, name: str) -> App:
    """Return the application that a person means by a URI, or a port, and perhaps a name.

    Raises:
        ConfigError: it is none.
    """
    from urllib.parse import urlsplit

    from tport.engine.config.app_rules import check_uri, typed_uri
    from tport.engine.config.flags import judge_flag
    from tport.engine.types.app import App, check_app_name

    uri = judge_flag("URI", check_uri, typed_uri(uri))
    host = urlsplit(uri).hostname or ""
    label = host.partition(".")[0]
    guess = label if label.isalpha() and label != "localhost" else "app"
    return App(name=check_app_name(name or guess), uri=uri)


async def _greet(admin: AuthAPI | None, config: Config) -> None:
    """Say where everything is, and give the owner the link with which to sign up."""
    assert admin is not None
    address = config.proxy_service.public_addrs[0]
    port = "" if address.port == 443 else f":{address.port}"
    say(f"up: https://{address.host}{port}")
    names = [app.name for app in config.app_service.apps] or ["dumper"]
    for name in names:
        say(f"application: https://{name}.{address.host}{port}")
    link = await _owner_link(admin)
    hint("your browser will warn until it knows this cluster's authority: tport ca trust")
    if link:
        say("sign up as the owner with this link, once, within the hour:")
        print_out(link)
    else:
        print_out(f"https://{address.host}{port}/")
    if sys.stderr.isatty():
        hint("Ctrl-C stops it; what you set up stays for the next time")


async def _owner_link(admin: AuthAPI) -> str:
    """Return an invite for the owner while nobody has signed up, nor in by a provider; "" after."""
    from tport.engine.errors import InvalidRequest
    from tport.engine.types.user import canonical_user_name

    users = await admin.list_users()
    if any(info.has_password or not info.user.is_local for info in users):
        return ""
    if users:
        return (await admin.reset_user(name=users[0].user.name)).url
    try:
        name = canonical_user_name(getpass.getuser())
    except (InvalidRequest, OSError, KeyError):
        name = "owner"
    made = await admin.create_user(name=name, roles=("access", "editor", "auditor"), traits={})
    return made.url
