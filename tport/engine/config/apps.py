"""The apps of the file: each judged by itself, so that a bad one goes red alone. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

from tport.engine.access.cors import check_cors, check_token
from tport.engine.access.targets import is_metadata
from tport.engine.config import file as shape
from tport.engine.config.app_rules import (
    check_command,
    check_label,
    check_origin,
    check_public_addr,
    check_redirect,
    check_server_name,
    check_uri,
    parse_header,
)
from tport.engine.config.model import FaultyApp
from tport.engine.config.read import Reading, within
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import (
    DEBUG_APP,
    App,
    Cors,
    DynamicLabel,
    Header,
    Rewrite,
    Timeouts,
    UpstreamTls,
    check_app_name,
    check_group,
    check_required_apps,
)

MAX_CONNECT_TIMEOUT: Final = 30.0  # s; with as much for TLS still within what the proxy waits

T = TypeVar("T")
P = ParamSpec("P")


def resolve_apps(
    service: shape.AppService,
    reading: Reading,
    file: str,
    proxy_host: str,
    proxy_hosts: frozenset[str],
    locate: Callable[[str], Path],
) -> tuple[tuple[App, ...], tuple[FaultyApp, ...]]:
    """Return the apps that can be served, and those that can't with what is wrong.

    Args:
        file: what the file is called in complaints.
        proxy_host: under which apps without a public_addr are; "": not known here.
        proxy_hosts: names that no app may have, as far as they are known here.
        locate: makes a path of the file absolute.
    """
    apps, faulty = [], []
    names: dict[str, str] = {DEBUG_APP: "the debug app"} if service.debug_app else {}
    hosts: dict[str, str] = {}
    for index, entry in enumerate(service.apps):
        path = f"app_service.apps[{index}]"
        if entry.name in names:
            reading.complain(
                f"{path}.name",
                f"{entry.name!r} is the name of {names[entry.name]} too; each app needs its own",
                shape=True,
            )
        elif entry.name:
            names[entry.name] = path.removeprefix("app_service.")
        app = AppReader(reading, path, proxy_hosts, locate).app(entry)
        default = f"{app.name}.{proxy_host}" if app.name and proxy_host else ""
        host = app.public_addr or default
        if host and host in hosts:
            reading.complain(
                f"{path}.public_addr" if entry.public_addr else path,
                f"{host} is the address of {hosts[host]} too; each app needs its own",
            )
        elif host:
            hosts[host] = path.removeprefix("app_service.")
        complaints = sorted(within(reading.complaints, path))
        if complaints:
            told = tuple(complaint.told(file) for complaint in complaints)
            faulty.append(FaultyApp(index=index, name=entry.name, complaints=told))
        else:
            apps.append(app)
    return tuple(apps), tuple(faulty)


class AppReader:
    """One app. What is faulty has a harmless value in the result, and a complaint."""

    def __init__(
        self,
        reading: Reading,
        path: str,
        proxy_hosts: frozenset[str],
        locate: Callable[[str], Path],
    ) -> None:
        self._reading = reading
        self._path = path
        self._proxy_hosts = proxy_hosts
        self._locate = locate

    def app(self, entry: shape.AppEntry) -> App:
        return App(
            name=self._needed("name", check_app_name, entry.name),
            uri=self._uri(entry),
            public_addr=self._public_addr(entry.public_addr),
            description=entry.description,
            labels=self._labels(entry),
            commands=tuple(self._commands(entry)),
            insecure_skip_verify=entry.insecure_skip_verify,
            rewrite=self._rewrite(entry.rewrite),
            tls=self._tls(entry),
            timeouts=self._timeouts(entry.timeouts),
            allow_metadata=entry.allow_metadata,
            cookie_same_site=entry.cookie_same_site,
            cors=self._cors(entry.cors),
            required_apps=self._required_apps(entry),
            group=(entry.group and self._judge("group", check_group, entry.group)) or "",
            session_notice=entry.session_notice,
        )

    def _complain(self, path: str, text: str) -> None:
        self._reading.complain(f"{self._path}.{path}", text)

    def _judge(
        self, path: str, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Return what `check` makes of a value; None, and a complaint about `path`, if it refuses."""
        try:
            return check(*args, **kwargs)
        except InvalidRequest as error:
            hint = f"; {error.hint}" if error.hint else ""
            self._reading.complain(f"{self._path}.{path}", f"{error}{hint}")
            return None

    def _needed(self, name: str, check: Callable[[str], str], text: str) -> str:
        path = f"{self._path}.{name}"
        if text:
            return self._judge(name, check, text) or ""
        if not self._reading.is_faulty(path) and not self._reading.is_unreadable(self._path):
            self._reading.complain(path, "is missing")
        return ""

    def _uri(self, entry: shape.AppEntry) -> str:
        uri = self._needed("uri", check_uri, entry.uri)
        if uri and not entry.allow_metadata and is_metadata(urlsplit(uri).hostname or ""):
            self._complain(
                "uri",
                f"{urlsplit(uri).hostname} is where clouds keep their machines' credentials;"
                " if people may have these, say `allow_metadata: yes`",
            )
        return uri

    def _public_addr(self, text: str) -> str:
        if not text:
            return ""
        return self._judge("public_addr", check_public_addr, text, self._proxy_hosts) or ""

    def _labels(self, entry: shape.AppEntry) -> dict[str, str]:
        labels = {}
        for name, value in entry.labels.items():
            self._judge(f"labels.{name}", check_label, name, value)
            labels[name] = value
        return labels

    def _commands(self, entry: shape.AppEntry) -> list[DynamicLabel]:
        labels = []
        taken = dict.fromkeys(entry.labels, "labels")
        for index, command in enumerate(entry.commands):
            path = f"commands[{index}]"
            if self._reading.is_unreadable(f"{self._path}.{path}"):
                continue
            if not command.name:
                self._reading.complain(f"{self._path}.{path}.name", "is missing")
            else:
                self._judge(f"{path}.name", check_label, command.name)
            if command.name in taken:
                self._reading.complain(
                    f"{self._path}.{path}.name",
                    f"{command.name!r} is a label in {taken[command.name]} already; keep one",
                )
            taken[command.name] = path
            if not self._reading.is_faulty(f"{self._path}.{path}.command"):
                self._judge(f"{path}.command", check_command, command.command)
            if command.period < 1:
                self._reading.complain(
                    f"{self._path}.{path}.period", "is less than a second; expected 1s or more"
                )
            labels.append(
                DynamicLabel(
                    name=command.name, command=command.command, period=max(command.period, 1)
                )
            )
        return labels

    def _rewrite(self, rewrite: shape.Rewrite) -> Rewrite:
        redirect, headers = [], []
        for index, text in enumerate(rewrite.redirect):
            path = f"rewrite.redirect[{index}]"
            host = self._judge(path, check_redirect, text)
            redirect.append(host or "")
        for index, text in enumerate(rewrite.headers):
            path = f"rewrite.headers[{index}]"
            header: Header | None = self._judge(path, parse_header, text)
            if header:
                headers.append(header)
        return Rewrite(
            redirect=tuple(redirect), headers=tuple(headers), jwt_claims=rewrite.jwt_claims
        )

    def _tls(self, entry: shape.AppEntry) -> UpstreamTls:
        tls = entry.tls
        if self._reading.has(f"{self._path}.tls") and entry.uri.lower().startswith("http:"):
            self._complain("tls", "the uri is http://, which has no TLS; did you mean https://?")
        if tls.ca_file and entry.insecure_skip_verify:
            self._complain(
                "tls.ca_file", "has no effect beside insecure_skip_verify; keep the ca_file alone"
            )
        for here, other in (("client_cert", "client_key"), ("client_key", "client_cert")):
            if getattr(tls, here) and not getattr(tls, other):
                self._complain(f"tls.{here}", f"needs its {other} beside it")
        name = tls.server_name
        return UpstreamTls(
            ca_file=self._file("tls.ca_file", tls.ca_file),
            server_name=(name and self._judge("tls.server_name", check_server_name, name)) or "",
            client_cert=self._file("tls.client_cert", tls.client_cert),
            client_key=self._file("tls.client_key", tls.client_key),
        )

    def _file(self, path: str, text: str) -> str:
        located = self._judge(path, self._locate, text) if text else None
        return str(located) if located else ""

    def _timeouts(self, timeouts: shape.Timeouts) -> Timeouts:
        if timeouts.connect <= 0:
            self._complain("timeouts.connect", "expected more than 0s")
        if timeouts.connect > MAX_CONNECT_TIMEOUT:
            self._complain(
                "timeouts.connect",
                f"at most {MAX_CONNECT_TIMEOUT:.0f}s: people don't wait longer for nothing",
            )
        return Timeouts(
            connect=timeouts.connect, response_head=timeouts.response_head, idle=timeouts.idle
        )

    def _cors(self, cors: shape.Cors) -> Cors | None:
        if not self._reading.has(f"{self._path}.cors"):
            return None
        judged = Cors(
            allowed_origins=self._each("cors.allowed_origins", check_origin, cors.allowed_origins),
            allowed_methods=self._each("cors.allowed_methods", check_token, cors.allowed_methods),
            allowed_headers=self._each("cors.allowed_headers", check_token, cors.allowed_headers),
            exposed_headers=self._each("cors.exposed_headers", check_token, cors.exposed_headers),
            allow_credentials=cors.allow_credentials,
            max_age=cors.max_age,
        )
        if not self._reading.is_faulty(f"{self._path}.cors"):
            self._judge("cors", check_cors, judged)
        return judged

    def _each(
        self, path: str, check: Callable[[str], str], texts: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Return what `check` makes of each entry of a list; faulty ones are left out."""
        judged = (self._judge(f"{path}[{index}]", check, text) for index, text in enumerate(texts))
        return tuple(value for value in judged if value)

    def _required_apps(self, entry: shape.AppEntry) -> tuple[str, ...]:
        return (
            self._judge("required_apps", check_required_apps, entry.required_apps, of=entry.name)
            or ()
        )
