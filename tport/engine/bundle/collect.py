"""What goes into the bundle, piece by piece; what can't be had is named with the reason.

Each piece says what it tells, field by field: nothing is taken whole from where secrets are.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import platform
import sqlite3
import ssl
import tarfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import tport
from tport.engine.api.answers import ClusterStatus
from tport.engine.api.certificates import CertInfo
from tport.engine.bundle.redact import redacted, without_known
from tport.engine.config.in_force import settings_in_force
from tport.engine.config.model import Config, Secret
from tport.engine.errors import ConnectionProblem, NotFound, TportError
from tport.engine.net.dial import EVERYWHERE
from tport.engine.storage.snapshot import is_in_use, take_snapshot
from tport.engine.types.app import App

LOG_BYTES: Final = 512 * 1024  # of the log's end
PATIENCE: Final = 5.0  # s for a process to answer at its diag_addr
MAX_ANSWER: Final = 8 * 1024 * 1024  # bytes; 1000 applications are 1
_DEPENDENCIES: Final = (
    *("trio", "h11", "cryptography", "PyJWT", "msgspec", "ruamel.yaml", "typer", "starlette"),
    *("jinja2", "fido2", "httpx2"),
)

Piece = Callable[[], str]


def collected(pieces: Mapping[str, Piece], secrets: frozenset[str]) -> dict[str, bytes]:
    """Return the bundle's files; `missing.txt` is one of them when a piece could not be had.

    Args:
        secrets: that are known, and nowhere in it whatever a piece says.
    """
    files: dict[str, str] = {}
    missing: list[str] = []
    for name, piece in pieces.items():
        try:
            files[name] = piece()
        except (TportError, OSError) as problem:
            missing.append(f"{name}: {redacted(str(problem), secrets)}\n")
    if missing:
        files["missing.txt"] = "".join(missing)
    return {name: without_known(text, secrets).encode() for name, text in files.items()}


def packed(files: Mapping[str, bytes], now: datetime) -> bytes:
    """Return the files as a tar.gz, in a folder of their own."""
    out = io.BytesIO()
    folder = f"tport-diag-{now:%Y%m%d-%H%M%S}"
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(now.timestamp())
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


# --- The pieces ------------------------------------------------------------------------------------


def versions() -> str:
    """Tell what runs here: versions and the machine's kind; no name and no address of it."""
    found = {}
    for name in _DEPENDENCIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return _json(
        {
            "tport": tport.__version__,
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            "sqlite": sqlite3.sqlite_version,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "packages": found,
        }
    )


def settings(config: Config) -> str:
    """Tell the settings in force, of secrets only whether they are set; of applications their shape."""
    return _json(
        {
            "roles": config.roles,
            "settings": [
                {"setting": each.path, "value": redacted(each.value), "origin": str(each.origin)}
                for each in settings_in_force(config)
            ],
            "apps": [_app(app) for app in config.app_service.apps],
            "faulty_apps": [
                {"index": app.index, "name": app.name, "complaints": len(app.complaints)}
                for app in config.app_service.faulty
            ],
        }
    )


def asked(config: Config, path: str) -> str:
    """Return what the running process says at its diag_addr; a 503 is an answer.

    Raises:
        NotFound: there is no diag_addr, or it isn't known.
        ConnectionProblem: nobody answers there.
    """
    address = config.diag_addr
    if address is None:
        raise NotFound("diag_addr is not set, so a running process tells nothing of itself")
    if address.port == 0:
        raise NotFound("diag_addr has port 0: the log says which one it got, nothing else does")
    host = "127.0.0.1" if address.host in EVERYWHERE else address.host
    connection = http.client.HTTPConnection(host, address.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(MAX_ANSWER).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as problem:
        raise ConnectionProblem(f"nobody answers at diag_addr {address}: {problem}") from None
    finally:
        connection.close()


def status(found: ClusterStatus) -> str:
    """Tell what runs in the cluster, by names and versions."""
    return _json(
        {
            "cluster": found.cluster,
            "version": found.version,
            "proxies": found.proxy_addrs,
            "proxy_processes": found.proxy_processes,
            "users": found.users,
            "agents": [
                {"hostname": agent.hostname, "version": agent.version, "since": str(agent.since)}
                for agent in found.agents
            ],
            "offers": [
                {
                    "app": server.app.name,
                    "agent": server.hostname,
                    "refused": server.refused,
                    "up": server.health.up if server.health else None,
                    "cause": redacted(server.health.cause) if server.health else "",
                }
                for server in found.app_servers
            ],
            "degraded": found.degraded,
        }
    )


def certificates(infos: tuple[CertInfo, ...]) -> str:
    """Tell of each host's certificate its source, its dates and what is wrong."""
    return _json(
        [
            {
                "host": info.state.host,
                "source": info.state.source,
                "issuer": info.state.issuer,
                "key": info.state.key,
                "not_before": str(info.state.not_before or ""),
                "not_after": str(info.state.not_after or ""),
                "last_attempt": str(info.state.last_attempt or ""),
                "next_try": str(info.state.next_try or ""),
                "problem": redacted(info.state.problem),
                "proxies": len(info.proxies),
            }
            for info in infos
        ]
    )


def database(path: Path) -> str:
    """Tell what `tport db check` finds, without a key or a value."""
    in_use = is_in_use(path)
    snapshot = take_snapshot(path)
    return _json(
        {
            "in_use": in_use,
            "bytes": len(snapshot.data),
            "format": snapshot.format,
            "records": snapshot.items,
            "revision": snapshot.revision,
            "problems": [redacted(each) for each in snapshot.complaints],
        }
    )


def log_end(config: Config, secrets: frozenset[str]) -> str:
    """Return the last lines of the log, where it is a file.

    Raises:
        NotFound: it goes elsewhere.
    """
    output = config.log.output
    if output in ("stderr", "stdout"):
        raise NotFound(
            f"the log goes to {output}; under systemd: journalctl -u tport -n 2000; look through it"
            " before you send it"
        )
    with open(output, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LOG_BYTES))
        lines = file.read(LOG_BYTES).decode("utf-8", "replace").splitlines()
    return redacted("\n".join(lines[1:] if len(lines) > 1 else lines) + "\n", secrets)


def known_secrets(config: Config) -> frozenset[str]:
    """Return the secrets that the configuration has, those in files of its own too where they are ours to read."""
    return frozenset(word for secret in _secrets(config) for word in _words(secret))


def _secrets(config: Config) -> Iterator[Secret]:
    if config.auth_token is not None:
        yield config.auth_token
    yield from config.auth_service.tokens
    if config.proxy_service.acme.eab is not None:
        yield config.proxy_service.acme.eab.hmac


def _words(secret: Secret) -> Iterator[str]:
    if secret.is_stdin:
        return
    if secret.file is None:
        yield secret.text
        return
    try:
        yield from secret.file.read_text("utf-8", "replace").split()
    except OSError:
        return  # then it isn't in what we read elsewhere either


def _app(app: App) -> dict[str, object]:
    where = urlsplit(app.uri)
    return {
        "name": app.name,
        "at": f"{where.scheme}://{where.hostname or ''}:{where.port or ''}",
        "below": bool(where.path.strip("/")),
        "public_addr": app.public_addr,
        "labels": sorted(app.labels),
        "commands": len(app.commands),
        "headers": sorted(header.name for header in app.rewrite.headers),
        "redirects": len(app.rewrite.redirect),
        "insecure_skip_verify": app.insecure_skip_verify,
        "group": app.group,
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
