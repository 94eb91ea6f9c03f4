"""Applications: what is offered (App), and who offers it (AppServer)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from tport.engine.errors import InvalidRequest
from tport.engine.types.health import AppHealth

JwtClaims = Literal["roles-and-traits", "roles", "traits", "none"]
CookieSameSite = Literal["lax", "none", "strict"]

DEBUG_APP = "dumper"  # the built-in app that shows the request it received; Teleport's name
KEPT = "(kept by the agent)"  # others see it in the place of a header's text; refused as a value

_APP_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one DNS label, RFC 1123
_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")
_GROUP = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_. -]{0,61}[A-Za-z0-9])?")
# Found in linear time: agents send any text. No search goes past the next `{{`, so that the group needn't be
# possessive, which Python before 3.11.5 matches wrongly (gh-106052).
_TEMPLATE = re.compile(r"(\{\{(?:[^{}]|\{(?!\{)|\}(?!\}))*\}\})")
_PUBLIC = re.compile(r"((Bearer|Basic|Token) +)?| +", re.IGNORECASE)  # schemes of Authorization
MAX_LABEL_VALUE = 1024  # characters
MAX_REQUIRED_APPS = 16  # each is one more redirect on the way to the first page


class Header(msgspec.Struct, frozen=True):
    """A header sent to the application; `value` may hold `{{internal.…}}` and `{{external.…}}`."""

    name: str
    value: str

    def as_offered(self) -> Header:
        """Return it as others may see it: its own text may be a password for the application.

        A template names what is put in, and Host says where the application is. Text that is the
        same everywhere, as the scheme before a token, is told too.
        """
        if self.name.lower() == "host":
            return self
        parts = _TEMPLATE.split(self.value)  # own text and templates, in turn
        parts[::2] = [part if _PUBLIC.fullmatch(part) else KEPT for part in parts[::2]]
        return Header(self.name, "".join(parts))


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


class UpstreamTls(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent knows an application by `https`, and shows who it is itself.

    The paths are absolute, of PEM files on the agent's machine; "" means: the system's
    authorities, the host of the URI, no certificate.
    """

    ca_file: str = ""
    server_name: str = ""
    client_cert: str = ""
    client_key: str = ""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long an agent waits for an application, in seconds; 0: for ever.

    There is no limit on a whole request: long answers and streams are what people use.

    Attributes:
        connect: for the connection, and as long again for its TLS handshake.
        response_head: for the head of the answer once the request is sent.
        idle: for the next piece of an answer that has begun.
    """

    connect: float = 10.0
    response_head: float = 0.0
    idle: float = 0.0


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """Which pages of other origins may read an application's answers; see `access.cors`.

    Attributes:
        allowed_origins: `https://host[:port]`, or `*`.
        max_age: seconds that a browser may remember a preflight; 0: its own default.
    """

    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...] = ()
    allowed_headers: tuple[str, ...] = ()
    exposed_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: int = 0


class App(msgspec.Struct, frozen=True, kw_only=True):
    """The definition of one application, as its agent's file or flags give it.

    Attributes:
        name: one DNS label; `check_app_name` holds.
        uri: where the agent finds it, `http://` or `https://`.
        public_addr: the host (no port) at which people reach it; "": `<name>.<proxy host>`.
        labels: static labels.
        commands: dynamic labels; never leave the agent, only their values do.
        rewrite: its headers' own text never leaves the agent, see `Header.as_offered`.
        tls, timeouts: never leave the agent.
        allow_metadata: connect even where clouds keep credentials, `access.targets`; likewise.
        cookie_same_site: of the cookie that carries the application's session.
        cors: None: other origins' pages get nothing.
        required_apps: names of applications that are opened with it, for its pages to call.
        group: those in it are opened together, their pages may call each other; "": in none.
        session_notice: serve the script by which its pages tell that the session has ended.
    """

    name: str
    uri: str
    public_addr: str = ""
    description: str = ""
    labels: Mapping[str, str] = {}
    commands: tuple[DynamicLabel, ...] = ()
    insecure_skip_verify: bool = False
    rewrite: Rewrite = Rewrite()
    tls: UpstreamTls = UpstreamTls()
    timeouts: Timeouts = Timeouts()
    allow_metadata: bool = False
    cookie_same_site: CookieSameSite = "lax"
    cors: Cors | None = None
    required_apps: tuple[str, ...] = ()
    group: str = ""
    session_notice: bool = False

    def as_offered(self, labels: Mapping[str, str]) -> App:
        """Return what leaves the agent: with the labels as they are now, without what is its own."""
        headers = tuple(header.as_offered() for header in self.rewrite.headers)
        return msgspec.structs.replace(
            self,
            labels=labels,
            commands=(),
            rewrite=msgspec.structs.replace(self.rewrite, headers=headers),
            tls=UpstreamTls(),
            timeouts=Timeouts(),
            allow_metadata=False,
        )

    def same_definition(self, other: App) -> bool:
        """Tell whether two agents mean the same application.

        Labels and description belong to each AppServer; all else that leaves an agent must agree.
        """
        one, two = (
            msgspec.structs.replace(app.as_offered({}), description="") for app in (self, other)
        )
        return one == two


class AppServer(msgspec.Struct, frozen=True, kw_only=True):
    """An application as one agent offers it now.

    Attributes:
        app: its definition, as offered.
        labels: static and dynamic labels as they are now: what access is decided by.
        host_id: the agent's id, from its certificate.
        hostname: what the agent's machine calls itself.
        version: the agent's tport version.
        refused: why this offer does not count; "": it does.
        health: whether the application answers that agent; None: auth doesn't know, or this was
            no answer of its own.
    """

    app: App
    labels: Mapping[str, str]
    host_id: str
    hostname: str = ""
    version: str = ""
    refused: str = ""
    health: AppHealth | None = None


def check_app_name(name: str) -> str:
    """Return `name` when it can be an application's: one DNS label.

    Raises:
        InvalidRequest: with the rule in words.
    """
    if name.startswith("xn--"):
        raise InvalidRequest(
            f"{name!r} is a name in disguise (punycode): browsers show other letters for it"
        )
    if not _APP_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no sub-domain (at most 63 of a-z, 0-9 and -, neither first nor last a -)"
        )
    return name


def check_group(name: str) -> str:
    """Return `name` when applications can be grouped under it.

    Raises:
        InvalidRequest: with the rule in words.
    """
    if not _GROUP.fullmatch(name):
        raise InvalidRequest(
            f"{name[:80]!r} is no group (at most 63 of letters, digits, space and _ . -, first and"
            " last a letter or digit)"
        )
    return name


def check_required_apps(names: Sequence[str], *, of: str) -> tuple[str, ...]:
    """Return the names of the applications that the application `of` needs.

    Raises:
        InvalidRequest: not names, itself, one twice, or more than MAX_REQUIRED_APPS.
    """
    for name in names:
        check_app_name(name)
        if name == of:
            raise InvalidRequest(f"{name!r} is this app itself")
    if len(set(names)) < len(names):
        raise InvalidRequest("an app is named twice")
    if len(names) > MAX_REQUIRED_APPS:
        raise InvalidRequest(f"{len(names)} apps, at most {MAX_REQUIRED_APPS}")
    return tuple(names)


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
