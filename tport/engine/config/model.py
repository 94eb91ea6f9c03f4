"""`Config`: what `tport start` and every command work from, complete and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tport.engine.config.address import Address
from tport.engine.defaults import (
    CONNECTIONS,
    CONNECTIONS_PER_ADDRESS,
    IDLE_TIMEOUT,
    KEY_PAIRS_RELOAD,
    NEW_PER_ADDRESS,
    STRANGERS,
    STRANGERS_PER_ADDRESS,
    WEB_IDLE_TIMEOUT,
)
from tport.engine.proto.forwarded import Network
from tport.engine.types.app import App
from tport.engine.types.factor import ON, FactorPolicy
from tport.engine.types.setting import Origin

Severity = Literal["debug", "info", "warning", "error"]

LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Secret(msgspec.Struct, frozen=True):
    """A secret, or where it is; read when it is needed, never kept. Neither repr nor str shows it.

    Attributes:
        text: the secret itself; the absolute path of the file that holds it; `-` for stdin.
    """

    text: str

    @property
    def file(self) -> Path | None:
        return Path(self.text) if self.text.startswith("/") else None

    @property
    def is_stdin(self) -> bool:
        return self.text == "-"

    def __repr__(self) -> str:
        return f"Secret({str(self.file) if self.file else '…'})"

    __str__ = __repr__


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """`output`: `stderr`, `stdout`, or the absolute path of a file."""

    severity: Severity = "info"
    format: Literal["text", "json"] = "text"
    output: str = "stderr"


class AuditLogs(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down, and for how long.

    Attributes:
        retention: days that events are kept; None: for ever.
        request_log: whether requests to applications are recorded.
        request_log_retention: days that those are kept; None: for ever.
        include_query: with their query, which may hold secrets.
    """

    retention: int | None = None
    request_log: bool = True
    request_log_retention: int | None = 90
    include_query: bool = False


class AuthService(msgspec.Struct, frozen=True, kw_only=True):
    """The auth service.

    Attributes:
        listen_is_given: the operator chose `listen_addr`; else it follows from the roles.
        tokens: static tokens, each for agents: the secret, or a file with one a line.
        second_factor: what is demanded beside a password.
        local_auth: whether passwords sign in, or identity providers alone do.
        web_idle_timeout: seconds after which who does nothing is signed out; 0: never.
    """

    enabled: bool
    listen_addr: Address
    listen_is_given: bool
    cluster_name: str
    tokens: tuple[Secret, ...] = ()
    second_factor: FactorPolicy = ON
    local_auth: bool = True
    web_idle_timeout: float = WEB_IDLE_TIMEOUT.total_seconds()
    audit: AuditLogs = AuditLogs()


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute paths of a certificate chain and its key (PEM); `where` is file:line:column."""

    key_file: Path
    cert_file: Path
    where: str = ""


class Eab(msgspec.Struct, frozen=True, kw_only=True):
    """An account that the operator has at the CA: `hmac` is the key, or the file that has it."""

    kid: str
    hmac: Secret


class Acme(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates by ACME.

    Attributes:
        uri: the CA's directory.
        staging: it is Let's Encrypt's for trials, which no browser knows.
        ca_file: certificates by which the CA's own HTTPS is known; None: the system's.
        dns_hook: the program that makes TXT records; None: no wildcard.
        http_addr: where the CA may ask by HTTP; None: it asks at the public port.
    """

    enabled: bool = False
    email: str = ""
    uri: str = LETS_ENCRYPT
    staging: bool = False
    ca_file: Path | None = None
    eab: Eab | None = None
    dns_hook: Path | None = None
    http_addr: Address | None = None


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections each process takes at the public port.

    Attributes:
        strangers: of those on which nobody has shown yet who they are.
        idle_timeout: seconds that one is kept for a next request.
    """

    connections: int = CONNECTIONS
    connections_per_address: int = CONNECTIONS_PER_ADDRESS
    strangers: int = STRANGERS
    strangers_per_address: int = STRANGERS_PER_ADDRESS
    new_per_address: int = NEW_PER_ADDRESS
    idle_timeout: float = IDLE_TIMEOUT


class ProxyService(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy.

    Attributes:
        public_addrs: at least one; the first is the one that links and redirects use. A port
            of 0: the one that the listener got.
        public_is_given: False: nobody named an address, and the proxy serves this machine alone.
        https_keypairs_reload_interval: seconds between looks at those files; 0: only on SIGHUP.
        trusted_proxies: whose X-Forwarded-For, or PROXY header, tells who the client is.
        workers: processes that share the port; 1: the proxy runs in the main process.
    """

    enabled: bool
    web_listen_addr: Address
    public_addrs: tuple[Address, ...]
    public_is_given: bool
    https_keypairs: tuple[KeyPair, ...] = ()
    https_keypairs_reload_interval: float = KEY_PAIRS_RELOAD
    acme: Acme = Acme()
    trusted_proxies: tuple[Network, ...] = ()
    proxy_protocol: bool = False
    workers: int = 1
    limits: ConnectionLimits = ConnectionLimits()


class FaultyApp(msgspec.Struct, frozen=True, kw_only=True):
    """An app that cannot be served as it is written, while the others can.

    Attributes:
        index: in `app_service.apps`, from 0.
        name: as written; "" when there is none.
        complaints: `file:line:column: setting: what is wrong`, at least one.
    """

    index: int
    name: str
    complaints: tuple[str, ...]


class AppService(msgspec.Struct, frozen=True, kw_only=True):
    """The agent. `apps` are all sound, in the file's order; `faulty` are those that aren't.

    Attributes:
        resources: labels of the applications that it picks up from auth.
    """

    enabled: bool
    debug_app: bool = False
    apps: tuple[App, ...] = ()
    faulty: tuple[FaultyApp, ...] = ()
    resources: tuple[Mapping[str, tuple[str, ...]], ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the operator decides, from the file, the environment and the flags.

    Attributes:
        file: the file that was read; None: there is none.
        data_dir: absolute; each role has a folder of its own in it.
        diag_addr: where diagnostics are served in the clear; None: nowhere.
        auth_token: with which an agent joins; None: there is none, or none is needed.
        proxy_addr: the proxy that an agent dials; None: the file names none.
        ca_pin: each 64 lower-case hex digits, or the absolute path of a file of pins.
        bootstrap: resources that a first start makes the cluster of; None: a new one.
        insecure: the agent trusts any proxy; only the flag can say so.
        origins: where settings come from, by their path; what isn't in it has its default.
        notes: what the file says without effect, `file:line:column: setting: …`, to be told once.
    """

    data_dir: Path
    nodename: str
    auth_service: AuthService
    proxy_service: ProxyService
    app_service: AppService
    file: Path | None = None
    log: Log = Log()
    diag_addr: Address | None = None
    auth_token: Secret | None = None
    proxy_addr: Address | None = None
    ca_pin: tuple[str, ...] = ()
    bootstrap: Path | None = None
    insecure: bool = False
    origins: Mapping[str, Origin] = {}
    notes: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """What runs here, in the words of `--roles`."""
        enabled = {
            "auth": self.auth_service.enabled,
            "proxy": self.proxy_service.enabled,
            "app": self.app_service.enabled,
        }
        return tuple(role for role, runs in enabled.items() if runs)
