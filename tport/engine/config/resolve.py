"""From the shape of the file to `Config`: defaults, and the rules that need more than one setting. Pure."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import msgspec

from tport.engine.config import file as shape
from tport.engine.config.address import (
    Address,
    parse_diag_address,
    parse_dial_address,
    parse_listen_address,
    parse_public_address,
)
from tport.engine.config.apps import resolve_apps
from tport.engine.config.cpus import usable_cpus
from tport.engine.config.dynamic_apps import check_matcher
from tport.engine.config.model import (
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    Acme,
    AppService,
    AuditLogs,
    AuthService,
    Config,
    ConnectionLimits,
    Eab,
    KeyPair,
    Log,
    ProxyService,
    Secret,
    Severity,
)
from tport.engine.config.read import Reading
from tport.engine.config.words import (
    check_email,
    one_of,
    parse_retention,
    shown,
    split_static_token,
)
from tport.engine.defaults import AUTH_PORT, HTTP_PORT, MAX_WORKERS, UP_DOMAIN, WEB_PORT
from tport.engine.errors import InvalidRequest
from tport.engine.proto.forwarded import Network, parse_network
from tport.engine.proto.host import is_public_name
from tport.engine.types.factor import FactorKind, FactorPolicy

T = TypeVar("T")

# Teleport's words for each; `trace` is its most talkative.
_SEVERITIES: Final[Mapping[str, Severity]] = {
    "info": "info",
    "error": "error",
    "err": "error",
    "warning": "warning",
    "warn": "warning",
    "debug": "debug",
    "trace": "debug",
}
_OUTPUTS: Final[Mapping[str, str]] = {
    "stderr": "stderr",
    "error": "stderr",
    "2": "stderr",
    "stdout": "stdout",
    "out": "stdout",
    "1": "stdout",
}
_FACTORS: Final[Mapping[str, FactorKind]] = {"otp": "totp", "webauthn": "webauthn"}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What defaults depend on: the environment, who runs tport, and where."""

    env: Mapping[str, str]
    home: Path
    cwd: Path
    hostname: str
    is_root: bool
    cpus: int = 1

    @classmethod
    def here(cls) -> Machine:
        return cls(
            env=dict(os.environ),
            home=Path(os.path.expanduser("~")),  # never raises, unlike Path.home
            cwd=Path.cwd(),
            hostname=socket.gethostname(),
            is_root=os.geteuid() == 0,
            cpus=usable_cpus(),
        )


def default_data_dir(machine: Machine) -> Path:
    """Return where tport keeps its state when nothing names a place."""
    if given := machine.env.get("TPORT_DATA_DIR"):
        return machine.cwd / given
    if machine.is_root:
        return Path("/var/lib/tport")
    state = machine.env.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored, XDG Base Directory Specification.
    base = Path(state) if state.startswith("/") else machine.home / ".local" / "state"
    return base / "tport"


def auth_listen_default(*, with_proxy: bool) -> Address:
    """Return where auth listens unless told: a proxy in the same process relays to it."""
    return Address("127.0.0.1" if with_proxy else "0.0.0.0", AUTH_PORT)  # noqa: S104


def absolute(text: str, folder: Path, home: Path) -> Path:
    """Return a path of the file: `~/` is the home of who runs tport, relative to the file's folder.

    Raises:
        InvalidRequest: `~someone`, or a character that no path has.
    """
    if "\0" in text:
        raise InvalidRequest("no path has a NUL character")
    path = PurePosixPath(text)
    if path.parts and path.parts[0].startswith("~"):
        if path.parts[0] != "~":
            raise InvalidRequest(f"{shown(text)}: only ~/ is understood; write the whole path")
        return home.joinpath(*path.parts[1:])
    return folder / text


def factor_policy(reading: Reading, path: str, words: Sequence[str]) -> FactorPolicy:
    """Return what `second_factors` means, one of which is required; `path` is where it stands."""
    kinds = tuple(dict.fromkeys(_FACTORS[word] for word in words if word in _FACTORS))
    if "sso" in words:
        reading.note(path, "sso has no effect in tport")
    if not kinds:
        reading.complain(
            path, "expected otp, webauthn or both; for none of them: second_factor: off"
        )
    return FactorPolicy(kinds=kinds)


class Resolver:
    """One file becoming a `Config`; complaints and notes go to `reading`.

    Args:
        name: what the file is called in complaints.
        folder: absolute, to which relative paths belong.
    """

    def __init__(self, reading: Reading, name: str, folder: Path, machine: Machine) -> None:
        self._reading = reading
        self._name = name
        self._folder = folder
        self._machine = machine

    def config(self, file: shape.File, path: Path | None) -> Config:
        """Return the whole configuration. It counts only if nothing was complained of."""
        top = self._top()
        instance = file.teleport if top == "teleport" else file.tport
        if file.ssh_service.enabled:
            self._reading.complain(
                "ssh_service.enabled", "tport has no SSH service; expected no, or no such section"
            )
        proxy = self._proxy(file.proxy_service)
        auth = self._auth(file.auth_service, proxy)
        proxy_addr = self._proxy_addr(instance, top)
        return Config(
            file=path,
            data_dir=self._data_dir(instance, top),
            nodename=instance.nodename or self._machine.hostname,
            log=self._log(instance.log, f"{top}.log"),
            diag_addr=self._try(f"{top}.diag_addr", parse_diag_address, instance.diag_addr),
            auth_token=self._auth_token(instance, top),
            proxy_addr=proxy_addr,
            ca_pin=instance.ca_pin,
            auth_service=auth,
            proxy_service=proxy,
            app_service=self._apps(file.app_service, proxy, proxy_addr),
        )

    def _try(self, path: str, parse: Callable[[str], T], text: str) -> T | None:
        """Return what `parse` makes of a text that isn't ""; else None, and a complaint."""
        if not text:
            return None
        try:
            return parse(text)
        except InvalidRequest as error:
            self._reading.complain(path, str(error))
            return None

    # --- tport: ------------------------------------------------------------------------------

    def _top(self) -> str:
        if self._reading.has("tport") and self._reading.has("teleport"):
            self._reading.complain(
                "teleport", "means the same as 'tport', which is there too; keep one", shape=True
            )
        return "teleport" if self._reading.has("teleport") else "tport"

    def _data_dir(self, instance: shape.Instance, top: str) -> Path:
        path = self._try(f"{top}.data_dir", self._path, instance.data_dir)
        return path or default_data_dir(self._machine)

    def _path(self, text: str) -> Path:
        return absolute(text, self._folder, self._machine.home)

    def _log(self, log: shape.Log, path: str) -> Log:
        severity = _SEVERITIES.get(log.severity.lower())
        if severity is None:
            self._reading.complain(
                f"{path}.severity",
                f"expected {one_of(('debug', 'info', 'warning', 'error'))}, found"
                f" {shown(log.severity)}",
            )
        output = _OUTPUTS.get(log.output.lower())
        if output is None and log.output == "syslog":
            self._reading.complain(
                f"{path}.output", "syslog is not supported; expected stderr, stdout or a file"
            )
        elif output is None and ("/" not in log.output):
            self._reading.complain(
                f"{path}.output",
                f"expected stderr, stdout or the path of a file, found {shown(log.output)}",
            )
        elif output is None:
            output = str(self._try(f"{path}.output", self._path, log.output) or "stderr")
        return Log(severity=severity or "info", format=log.format.output, output=output or "stderr")

    def _auth_token(self, instance: shape.Instance, top: str) -> Secret | None:
        joining = instance.join_params
        if joining.method != "token":
            self._reading.complain(
                f"{top}.join_params.method",
                f"{shown(joining.method)} is not supported; expected token",
            )
        if instance.auth_token and joining.token_name:
            self._reading.complain(
                f"{top}.auth_token", "join_params.token_name is there too; keep one"
            )
        token = instance.auth_token or joining.token_name
        return Secret(token) if token else None

    def _proxy_addr(self, instance: shape.Instance, top: str) -> Address | None:
        """Return the one proxy that agents dial, whichever of its three names was used."""
        given = {
            "proxy_server": instance.proxy_server,
            "auth_server": instance.auth_server,
            "auth_servers": instance.auth_servers[0] if instance.auth_servers else "",
        }
        used = [name for name, text in given.items() if text]
        if len(used) > 1:
            self._reading.complain(
                f"{top}.{used[1]}", f"means the same as {used[0]}, which is there too; keep one"
            )
        if not used:
            return None
        path = f"{top}.{used[0]}" + ("[0]" if used[0] == "auth_servers" else "")
        address = self._try(path, lambda text: parse_dial_address(text, WEB_PORT), given[used[0]])
        if len(instance.auth_servers) > 1 and used[0] == "auth_servers":
            self._reading.note(f"{top}.auth_servers[1]", "only the first address is dialled")
        if address and address.port == AUTH_PORT:
            self._reading.note(
                path,
                f"an agent dials the proxy, and {AUTH_PORT} is auth's port; did you mean"
                f" {WEB_PORT} or 443?",
            )
        return address

    # --- auth_service: -----------------------------------------------------------------------

    def _auth(self, auth: shape.AuthService, proxy: ProxyService) -> AuthService:
        asked = auth.authentication
        if asked.type != "local":
            self._reading.complain(
                "auth_service.authentication.type",
                f"{shown(asked.type)} is not supported; expected local",
            )
        listen = self._try(
            "auth_service.listen_addr",
            lambda text: parse_listen_address(text, AUTH_PORT),
            auth.listen_addr,
        )
        return AuthService(
            enabled=auth.enabled,
            listen_addr=listen or auth_listen_default(with_proxy=proxy.enabled),
            listen_is_given=listen is not None,
            cluster_name=auth.cluster_name or proxy.public_addrs[0].host,
            tokens=tuple(self._tokens(auth.tokens)),
            second_factor=self._factors(asked),
            local_auth=asked.local_auth,
            web_idle_timeout=auth.web_idle_timeout,
            audit=AuditLogs(
                retention=parse_retention(auth.audit.retention),
                request_log=auth.audit.request_log,
                request_log_retention=parse_retention(auth.audit.request_log_retention),
                include_query=auth.audit.include_query,
            ),
        )

    def _factors(self, asked: shape.Authentication) -> FactorPolicy:
        path = "auth_service.authentication.second_factors"
        if not self._reading.stands(path):
            return FactorPolicy.from_word(asked.second_factor)
        if self._reading.stands("auth_service.authentication.second_factor"):
            self._reading.complain(path, "is the newer spelling of second_factor; keep one of them")
        return factor_policy(self._reading, path, asked.second_factors)

    def _tokens(self, entries: tuple[str, ...]) -> list[Secret]:
        tokens = []
        for index, entry in enumerate(entries):
            path = f"auth_service.tokens[{index}]"
            try:
                secret, others = split_static_token(entry)
            except InvalidRequest as error:
                self._reading.complain(path, str(error))
                continue
            if others:
                self._reading.note(path, f"only the role app has an effect, not {one_of(others)}")
            tokens.append(Secret(secret))
        return tokens

    # --- proxy_service: ----------------------------------------------------------------------

    def _proxy(self, proxy: shape.ProxyService) -> ProxyService:
        listen = self._try(
            "proxy_service.web_listen_addr",
            lambda text: parse_listen_address(text, WEB_PORT),
            proxy.web_listen_addr,
        )
        port = listen.port if listen else WEB_PORT
        public: list[Address] = []
        for index, text in enumerate(proxy.public_addr):
            path = f"proxy_service.public_addr[{index}]"
            address = self._try(path, lambda text: parse_public_address(text, port), text)
            if address in public:
                self._reading.complain(path, f"{address} is there twice; keep one")
            elif address:
                public.append(address)
        everywhere = Address("0.0.0.0", WEB_PORT)  # noqa: S104  # the one public port
        addresses = tuple(public) or (Address(UP_DOMAIN, port),)
        for host in dict.fromkeys(address.host for address in addresses):
            if proxy.acme.enabled and not is_public_name(host):
                self._reading.note(
                    "proxy_service.acme", f"no authority vouches for {host}: it gets none by ACME"
                )
        return ProxyService(
            enabled=proxy.enabled,
            web_listen_addr=listen or (everywhere if public else Address("127.0.0.1", WEB_PORT)),
            public_addrs=addresses,
            public_is_given=bool(public),
            https_keypairs=tuple(self._keypairs(proxy)),
            https_keypairs_reload_interval=proxy.https_keypairs_reload_interval,
            acme=self._acme(proxy.acme),
            trusted_proxies=self._trusted(proxy),
            proxy_protocol=proxy.proxy_protocol,
            workers=proxy.workers or min(self._machine.cpus, MAX_WORKERS),
            limits=msgspec.convert(msgspec.to_builtins(proxy.limits), ConnectionLimits),
        )

    def _trusted(self, proxy: shape.ProxyService) -> tuple[Network, ...]:
        if proxy.proxy_protocol and not proxy.trusted_proxies:
            self._reading.complain(
                "proxy_service.proxy_protocol",
                "needs trusted_proxies beside it: the networks of the load balancers to believe",
            )
        networks = (
            self._try(f"proxy_service.trusted_proxies[{index}]", parse_network, text)
            for index, text in enumerate(proxy.trusted_proxies)
        )
        return tuple(network for network in networks if network is not None)

    def _keypairs(self, proxy: shape.ProxyService) -> list[KeyPair]:
        pairs = [
            (f"proxy_service.https_keypairs[{index}]", "", pair.key_file, pair.cert_file)
            for index, pair in enumerate(proxy.https_keypairs)
        ]
        if proxy.https_key_file or proxy.https_cert_file:
            pairs.append(("proxy_service", "https_", proxy.https_key_file, proxy.https_cert_file))
        found = []
        for path, prefix, key, cert in pairs:
            files = {}
            for name, text in ((f"{prefix}key_file", key), (f"{prefix}cert_file", cert)):
                here = f"{path}.{name}"
                if not text and not self._reading.is_faulty(path):
                    self._reading.complain(
                        here, "is missing; a certificate needs its key, and a key its certificate"
                    )
                elif resolved := self._try(here, self._path, text):
                    files[name.removeprefix(prefix)] = resolved
            if len(files) == 2:
                found.append(KeyPair(**files, where=self._reading.where(path, self._name)))
        return found

    def _acme(self, acme: shape.Acme) -> Acme:
        self._try("proxy_service.acme.email", check_email, acme.email)
        if acme.uri and not acme.uri.startswith("https://"):
            self._reading.complain(
                "proxy_service.acme.uri",
                f"{shown(acme.uri)} is no directory of an ACME server; expected https://…",
            )
        if acme.uri and acme.staging:
            self._reading.complain(
                "proxy_service.acme.staging", "is Let's Encrypt's: leave out either it or uri"
            )
        where = "proxy_service.acme"
        return Acme(
            enabled=acme.enabled,
            email=acme.email,
            uri=acme.uri or (LETS_ENCRYPT_STAGING if acme.staging else LETS_ENCRYPT),
            staging=acme.staging,
            ca_file=self._try(f"{where}.ca_file", self._path, acme.ca_file),
            eab=self._eab(acme.eab),
            dns_hook=self._try(f"{where}.dns_hook", self._path, acme.dns_hook),
            http_addr=self._try(
                f"{where}.http_addr",
                lambda text: parse_listen_address(text, HTTP_PORT),
                acme.http_addr,
            ),
        )

    def _eab(self, eab: shape.Eab) -> Eab | None:
        where = "proxy_service.acme.eab"
        if not (eab.kid or eab.hmac or eab.key_file):
            return None
        file = self._try(f"{where}.key_file", self._path, eab.key_file)
        if not eab.kid:
            self._reading.complain(f"{where}.kid", "is missing; the CA gives it with the key")
        elif bool(eab.hmac) == bool(eab.key_file):
            self._reading.complain(
                where, "needs one of hmac and key_file: the key that the CA gave"
            )
        return Eab(kid=eab.kid, hmac=Secret(str(file) if file else eab.hmac))

    # --- app_service: ------------------------------------------------------------------------

    def _apps(
        self, service: shape.AppService, proxy: ProxyService, proxy_addr: Address | None
    ) -> AppService:
        if service.apps and not self._reading.has("app_service.enabled"):
            self._reading.note(
                "app_service",
                "is off unless it says `enabled: yes`, so that its apps aren't offered",
            )
        proxy_host = proxy.public_addrs[0].host if proxy.enabled else ""
        if not proxy_host and proxy_addr:
            proxy_host = proxy_addr.host
        own = {address.host for address in proxy.public_addrs} if proxy.enabled else set()
        apps, faulty = resolve_apps(
            service,
            self._reading,
            self._name,
            proxy_host,
            frozenset(own | {proxy_host} - {""}),
            self._path,
        )
        for index, matcher in enumerate(service.resources):
            try:
                check_matcher(matcher.labels)
            except InvalidRequest as error:
                hint = f"; {error.hint}" if error.hint else ""
                self._reading.complain(f"app_service.resources[{index}].labels", f"{error}{hint}")
        return AppService(
            enabled=service.enabled,
            debug_app=service.debug_app,
            apps=apps,
            faulty=faulty,
            resources=tuple(matcher.labels for matcher in service.resources),
        )
