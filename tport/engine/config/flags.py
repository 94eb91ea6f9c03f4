"""The flags of `tport start` over the file: flags win. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from tport.engine.config.address import (
    Address,
    parse_diag_address,
    parse_dial_address,
)
from tport.engine.config.app_rules import check_label, check_public_addr, check_uri
from tport.engine.config.model import Config, Secret, Severity
from tport.engine.config.origins import flag_origins
from tport.engine.config.resolve import auth_listen_default
from tport.engine.config.words import check_join_secret, did_you_mean, one_of, parse_pin, shown
from tport.engine.defaults import WEB_PORT
from tport.engine.errors import ConfigError, InvalidRequest
from tport.engine.types.app import DEBUG_APP, App, check_app_name

T = TypeVar("T")

Role = Literal["auth", "proxy", "app"]
ROLES: tuple[Role, ...] = get_args(Role)
_ELSEWHERE = ("node", "kube", "db", "windowsdesktop", "discovery", "bot")  # Teleport's other roles


class StartFlags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags as they were typed; "", () and None: not given. Lists may hold commas."""

    roles: Sequence[str] = ()
    token: str = ""
    auth_server: str = ""
    ca_pin: Sequence[str] = ()
    insecure: bool = False
    app_name: str = ""
    app_uri: str = ""
    app_public_addr: str = ""
    labels: Sequence[str] = ()
    data_dir: Path | None = None
    bootstrap: Path | None = None
    diag_addr: str = ""
    log_format: Literal["", "text", "json"] = ""
    log_level: Literal["", "debug", "info", "warning", "error"] = ""
    debug: bool = False
    from_environment: Mapping[str, str] = {}  # field → the variable that gave it

    def __repr__(self) -> str:  # the token must not get into a traceback
        return "StartFlags(…)"


def merge_flags(config: Config, flags: StartFlags) -> Config:
    """Return `config` as the flags have it. `data_dir` must be absolute, if given.

    `--roles` enables exactly those it names. `--app-name` adds an app to those of the file, and
    enables the app role unless `--roles` speaks for itself.

    Raises:
        ConfigError: naming the flag; or nothing at all would be started.
    """
    roles = parse_roles(flags.roles)
    config = _with_roles(config, roles)
    app = _app(flags, _proxy_hosts(config, flags))
    if app is not None:
        config = _with_app(config, app, roles)
    if not any(
        service.enabled
        for service in (config.auth_service, config.proxy_service, config.app_service)
    ):
        raise ConfigError(
            "nothing to start: auth_service, proxy_service and app_service are all off",
            hint="switch one on in the file, or by --roles=auth,proxy,app",
        )
    severity: Severity = flags.log_level or config.log.severity
    return replace(
        config,
        log=replace(
            config.log,
            severity="debug" if flags.debug else severity,
            format=flags.log_format or config.log.format,
        ),
        data_dir=flags.data_dir or config.data_dir,
        bootstrap=flags.bootstrap,
        diag_addr=_given("--diag-addr", parse_diag_address, flags.diag_addr) or config.diag_addr,
        auth_token=_token(flags.token) or config.auth_token,
        proxy_addr=_auth_server(flags) or config.proxy_addr,
        ca_pin=read_pin_flags(flags.ca_pin) or config.ca_pin,
        insecure=flags.insecure or config.insecure,
        origins={**config.origins, **flag_origins(flags)},
    )


def judge_flag(name: str, parse: Callable[[str], T], text: str) -> T:
    """Return what `parse` makes of a flag's text.

    Raises:
        ConfigError: naming the flag.
    """
    try:
        return parse(text)
    except InvalidRequest as error:
        raise ConfigError(str(error), where=name, hint=error.hint) from None


def read_pin_flags(words: Sequence[str]) -> tuple[str, ...]:
    """Read `--ca-pin`, repeated or with commas.

    Raises:
        ConfigError: one is none.
    """
    return tuple(judge_flag("--ca-pin", parse_pin, pin) for pin in _split(words))


def parse_roles(words: Sequence[str]) -> frozenset[Role]:
    """Read `--roles`, repeated or with commas; empty: it wasn't given.

    Raises:
        ConfigError: a role that doesn't exist here.
    """
    roles = set()
    for word in _split(words):
        role = next((role for role in ROLES if role == word.lower()), None)
        if role is None:
            other = "tport has no such role" if word.lower() in _ELSEWHERE else "unknown role"
            close = did_you_mean(word, ROLES)
            raise ConfigError(
                f"{other} {shown(word)}; expected {one_of(ROLES)}{close}", where="--roles"
            )
        roles.add(role)
    return frozenset(roles)


def parse_labels(words: Sequence[str]) -> dict[str, str]:
    """Read `--labels`: `key=value`, with commas or repeated; `key="a, b"` holds a comma.

    Raises:
        ConfigError: no `=`, or a key or value that no label has.
    """
    labels = {}
    for word in (part for text in words for part in _split_quoted(text)):
        key, equals, value = word.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise ConfigError(f"{shown(word)} is no label; expected key=value", where="--labels")
        if value.startswith("["):
            raise ConfigError(
                f"{key}: labels that a command makes go into the file, under commands",
                where="--labels",
            )
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        judge_flag("--labels", partial(check_label, key), value)
        labels[key] = value
    return labels


def _with_roles(config: Config, roles: frozenset[Role]) -> Config:
    if not roles:
        return config
    auth = replace(config.auth_service, enabled="auth" in roles)
    if not auth.listen_is_given:
        auth = replace(auth, listen_addr=auth_listen_default(with_proxy="proxy" in roles))
    return replace(
        config,
        auth_service=auth,
        proxy_service=replace(config.proxy_service, enabled="proxy" in roles),
        app_service=replace(config.app_service, enabled="app" in roles),
    )


def _with_app(config: Config, app: App, roles: frozenset[Role]) -> Config:
    if roles and "app" not in roles:
        raise ConfigError(
            f"an app needs the role app, and --roles={','.join(sorted(roles))} leaves it out",
            where="--app-name",
        )
    service = config.app_service
    taken = {app.name for app in service.apps} | {faulty.name for faulty in service.faulty}
    if app.name in taken or (service.debug_app and app.name == DEBUG_APP):
        raise ConfigError(
            f"an app {app.name!r} is in the file already; leave out --app-name, or choose another",
            where="--app-name",
        )
    return replace(config, app_service=replace(service, enabled=True, apps=(*service.apps, app)))


def _app(flags: StartFlags, proxy_hosts: frozenset[str]) -> App | None:
    if not flags.app_name:
        for name, value in (
            ("--app-uri", flags.app_uri),
            ("--app-public-addr", flags.app_public_addr),
            ("--labels", flags.labels),
        ):
            if value:
                raise ConfigError(
                    "says something of an app, and --app-name is missing",
                    where=name,
                    hint=_example("NAME", flags.app_uri),
                )
        return None
    name = judge_flag("--app-name", check_app_name, flags.app_name)
    if not flags.app_uri:
        raise ConfigError(
            f"where is {name}? --app-uri is missing", where="--app-name", hint=_example(name, "")
        )
    return App(
        name=name,
        uri=judge_flag("--app-uri", check_uri, flags.app_uri),
        public_addr=_given(
            "--app-public-addr",
            lambda text: check_public_addr(text, proxy_hosts),
            flags.app_public_addr,
        )
        or "",
        labels=parse_labels(flags.labels),
    )


def _example(name: str, uri: str) -> str:
    uri = uri or "http://localhost:PORT"
    return (
        "write: tport start --roles=app --token=FILE --auth-server=HOST:PORT"
        f" --app-name={name} --app-uri={uri}"
    )


def _proxy_hosts(config: Config, flags: StartFlags) -> frozenset[str]:
    hosts = set()
    if config.proxy_service.enabled:
        hosts |= {address.host for address in config.proxy_service.public_addrs}
    if dialled := _auth_server(flags) or config.proxy_addr:
        hosts.add(dialled.host)
    return frozenset(hosts)


def _auth_server(flags: StartFlags) -> Address | None:
    return _given(
        "--auth-server", lambda text: parse_dial_address(text, WEB_PORT), flags.auth_server
    )


def _token(text: str) -> Secret | None:
    if not text:
        return None
    if text == "-":
        return Secret(text)
    try:
        return Secret(check_join_secret(text))
    except InvalidRequest:  # a file that is there was given by its absolute path
        raise ConfigError(
            "there is no such file"
            if "/" in text
            else "this is no join token, and there is no file of that name",
            where="--token",
            hint="make a token with: tport tokens add --type=app",
        ) from None


def _given(name: str, parse: Callable[[str], T], text: str) -> T | None:
    return judge_flag(name, parse, text) if text else None


def _split(words: Sequence[str]) -> list[str]:
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


def _split_quoted(text: str) -> list[str]:
    """Split at the commas outside of double quotes."""
    parts, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]
