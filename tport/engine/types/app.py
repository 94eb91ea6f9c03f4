"""Applications: what is offered (App), and who offers it (AppServer)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from tport.engine.errors import InvalidRequest

JwtClaims = Literal["roles-and-traits", "roles", "traits", "none"]

DEBUG_APP = "dumper"  # the built-in app that shows the request it received; Teleport's name

_APP_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one DNS label, RFC 1123
_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")
MAX_LABEL_VALUE = 1024  # characters


class Header(msgspec.Struct, frozen=True):
    """A header sent to the application; `value` may hold `{{internal.…}}` and `{{external.…}}`."""

    name: str
    value: str


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """How messages change on their way.

    Attributes:
        redirect: hosts; a Location that names one of them becomes the public address.
        headers: sent to the application in this order, the last of one name wins.
        jwt_claims: which optional claims the JWT carries.
    """

    redirect: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    jwt_claims: JwtClaims = "roles-and-traits"


class DynamicLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A label whose value is what a command prints. `period` in seconds, at least 1."""

    name: str
    command: tuple[str, ...]
    period: Annotated[float, msgspec.Meta(ge=1)]


class App(msgspec.Struct, frozen=True, kw_only=True):
    """The definition of one application, as its agent's file or flags give it.

    Attributes:
        name: one DNS label; `check_app_name` holds.
        uri: where the agent finds it, `http://` or `https://`.
        public_addr: the host (no port) at which people reach it; "": `<name>.<proxy host>`.
        labels: static labels.
        commands: dynamic labels; never leave the agent, only their values do.
    """

    name: str
    uri: str
    public_addr: str = ""
    description: str = ""
    labels: Mapping[str, str] = {}
    commands: tuple[DynamicLabel, ...] = ()
    insecure_skip_verify: bool = False
    rewrite: Rewrite = Rewrite()

    def same_definition(self, other: App) -> bool:
        """Tell whether two agents mean the same application.

        Labels and description belong to each AppServer; all else must agree.
        """
        keep = {"labels": {}, "commands": (), "description": ""}
        return msgspec.structs.replace(self, **keep) == msgspec.structs.replace(other, **keep)


class AppServer(msgspec.Struct, frozen=True, kw_only=True):
    """An application as one agent offers it now.

    Attributes:
        app: its definition; `app.commands` is empty here.
        labels: static and dynamic labels as they are now: what access is decided by.
        host_id: the agent's id, from its certificate.
        hostname: what the agent's machine calls itself.
        version: the agent's tport version.
        refused: why this offer does not count; "": it does.
    """

    app: App
    labels: Mapping[str, str]
    host_id: str
    hostname: str = ""
    version: str = ""
    refused: str = ""


def check_app_name(name: str) -> str:
    """Return `name` when it can be an application's: one DNS label.

    Raises:
        InvalidRequest: with the rule in words.
    """
    if not _APP_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no sub-domain (at most 63 of a-z, 0-9 and -, neither first nor last a -)"
        )
    return name


def is_label(key: str, value: str) -> bool:
    """Tell whether a label may exist: a plain key, a value of printable characters."""
    return (
        _LABEL_KEY.fullmatch(key) is not None
        and len(value) <= MAX_LABEL_VALUE
        and (value.isprintable())
    )


def public_host(app: App, proxy_host: str) -> str:
    """Return the host (lower case, no port) at which people reach `app` through this proxy."""
    return app.public_addr or f"{app.name}.{proxy_host}"
