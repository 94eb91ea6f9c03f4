"""A process's settings as they are in force, as text that may be shown: values, origins, meanings. Pure.

Of secrets it is said whether they are set, and which file holds them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from tport.engine.config.model import Config, KeyPair, Secret
from tport.engine.types.setting import DEFAULT, Origin, Setting

SECOND_FACTOR: Final = "auth_service.authentication.second_factor"
LOCAL_AUTH: Final = "auth_service.authentication.local_auth"
WEB_IDLE_TIMEOUT: Final = "auth_service.web_idle_timeout"

_SET: Final = "set"
_UNITS: Final = ((3600, "h"), (60, "m"), (1, "s"))


class _Shown(NamedTuple):
    """A setting. `also`: other names that the file may have for it, or what it is in."""

    path: str
    value: Callable[[Config], str]
    also: tuple[str, ...] = ()


# In the order of docs/configuration.md, for the sections of auth and the proxy.
_SETTINGS: Final[Sequence[_Shown]] = (
    _Shown("tport.data_dir", lambda c: str(c.data_dir)),
    _Shown("tport.nodename", lambda c: c.nodename),
    _Shown("tport.log.severity", lambda c: c.log.severity),
    _Shown("tport.log.output", lambda c: c.log.output),
    _Shown("tport.log.format.output", lambda c: c.log.format),
    _Shown("tport.diag_addr", lambda c: str(c.diag_addr or "off")),
    _Shown(
        "tport.auth_token",
        lambda c: _secret(c.auth_token) if c.auth_token else "",
        ("tport.join_params.token_name",),
    ),
    _Shown("tport.join_params.method", lambda _: "token"),
    _Shown(
        "tport.proxy_server",
        lambda c: str(c.proxy_addr or ""),
        ("tport.auth_server", "tport.auth_servers"),
    ),
    _Shown("tport.ca_pin", lambda c: ", ".join(map(_pin, c.ca_pin))),
    _Shown("auth_service.enabled", lambda c: _yes(c.auth_service.enabled)),
    _Shown("auth_service.listen_addr", lambda c: str(c.auth_service.listen_addr)),
    _Shown("auth_service.cluster_name", lambda c: c.auth_service.cluster_name),
    _Shown("auth_service.tokens", lambda c: ", ".join(map(_secret, c.auth_service.tokens))),
    _Shown("auth_service.audit.retention", lambda c: _days(c.auth_service.audit.retention)),
    _Shown("auth_service.audit.request_log", lambda c: _yes(c.auth_service.audit.request_log)),
    _Shown(
        "auth_service.audit.request_log_retention",
        lambda c: _days(c.auth_service.audit.request_log_retention),
    ),
    _Shown("auth_service.audit.include_query", lambda c: _yes(c.auth_service.audit.include_query)),
    _Shown(WEB_IDLE_TIMEOUT, lambda c: duration(c.auth_service.web_idle_timeout)),
    _Shown("auth_service.authentication.type", lambda _: "local"),
    _Shown(LOCAL_AUTH, lambda c: _yes(c.auth_service.local_auth)),
    _Shown(
        SECOND_FACTOR,
        lambda c: c.auth_service.second_factor.word,
        ("auth_service.authentication.second_factors",),
    ),
    _Shown("proxy_service.enabled", lambda c: _yes(c.proxy_service.enabled)),
    _Shown("proxy_service.web_listen_addr", lambda c: str(c.proxy_service.web_listen_addr)),
    _Shown(
        "proxy_service.public_addr", lambda c: ", ".join(map(str, c.proxy_service.public_addrs))
    ),
    _Shown(
        "proxy_service.https_keypairs[].key_file",
        lambda c: _files(c, lambda pair: pair.key_file),
        ("proxy_service.https_keypairs", "proxy_service.https_key_file"),
    ),
    _Shown(
        "proxy_service.https_keypairs[].cert_file",
        lambda c: _files(c, lambda pair: pair.cert_file),
        ("proxy_service.https_keypairs", "proxy_service.https_cert_file"),
    ),
    _Shown(
        "proxy_service.https_keypairs_reload_interval",
        lambda c: duration(c.proxy_service.https_keypairs_reload_interval),
    ),
    _Shown("proxy_service.acme.enabled", lambda c: _yes(c.proxy_service.acme.enabled)),
    _Shown("proxy_service.acme.email", lambda c: c.proxy_service.acme.email),
    _Shown(
        "proxy_service.acme.uri",
        lambda c: c.proxy_service.acme.uri,
        ("proxy_service.acme.staging",),
    ),
    _Shown("proxy_service.acme.staging", lambda c: _yes(c.proxy_service.acme.staging)),
    _Shown("proxy_service.acme.ca_file", lambda c: str(c.proxy_service.acme.ca_file or "")),
    _Shown(
        "proxy_service.acme.eab.kid",
        lambda c: c.proxy_service.acme.eab.kid if c.proxy_service.acme.eab else "",
    ),
    _Shown(
        "proxy_service.acme.eab.hmac",
        lambda c: _secret(c.proxy_service.acme.eab.hmac) if c.proxy_service.acme.eab else "",
        ("proxy_service.acme.eab.key_file",),
    ),
    _Shown("proxy_service.acme.dns_hook", lambda c: str(c.proxy_service.acme.dns_hook or "")),
    _Shown("proxy_service.acme.http_addr", lambda c: str(c.proxy_service.acme.http_addr or "")),
    _Shown(
        "proxy_service.trusted_proxies",
        lambda c: ", ".join(map(str, c.proxy_service.trusted_proxies)),
    ),
    _Shown("proxy_service.proxy_protocol", lambda c: _yes(c.proxy_service.proxy_protocol)),
    _Shown("proxy_service.workers", lambda c: str(c.proxy_service.workers)),
    _Shown("proxy_service.limits.connections", lambda c: str(c.proxy_service.limits.connections)),
    _Shown(
        "proxy_service.limits.connections_per_address",
        lambda c: str(c.proxy_service.limits.connections_per_address),
    ),
    _Shown("proxy_service.limits.strangers", lambda c: str(c.proxy_service.limits.strangers)),
    _Shown(
        "proxy_service.limits.strangers_per_address",
        lambda c: str(c.proxy_service.limits.strangers_per_address),
    ),
    _Shown(
        "proxy_service.limits.new_per_address",
        lambda c: str(c.proxy_service.limits.new_per_address),
    ),
    _Shown(
        "proxy_service.limits.idle_timeout",
        lambda c: f"{c.proxy_service.limits.idle_timeout:g}s",
    ),
)


def settings_in_force(config: Config) -> tuple[Setting, ...]:
    """Return every setting of auth and the proxy that this process works with, and its own."""
    return tuple(
        Setting(
            path=shown.path,
            value=shown.value(config),
            origin=_origin(config, shown),
            meaning=meanings()[shown.path],
        )
        for shown in _SETTINGS
    )


@lru_cache(maxsize=1)
def meanings() -> Mapping[str, str]:
    """Return what each setting means, by its path."""
    text = files(__package__).joinpath("meanings.toml").read_text("utf-8")
    return tomllib.loads(text)


def duration(seconds: float) -> str:
    """Write a duration as the file has it: `1h30m`, `0s`; parts of a second as such."""
    left, text = seconds, ""
    for length, unit in _UNITS:
        count = int(left // length)
        left -= count * length
        text += f"{count}{unit}" if count else ""
    return text + (f"{round(left * 1000)}ms" if round(left * 1000) else "") or "0s"


def _origin(config: Config, shown: _Shown) -> Origin:
    for path in (shown.path, *shown.also):
        if path in config.origins:
            return config.origins[path]
    return DEFAULT


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _days(days: int | None) -> str:
    return "forever" if days is None else f"{days}d"


def _pin(pin: str) -> str:
    return pin if pin.startswith("/") else f"sha256:{pin}"


def _secret(secret: Secret) -> str:
    return str(secret.file or _SET)


def _files(config: Config, file: Callable[[KeyPair], Path]) -> str:
    return ", ".join(str(file(pair)) for pair in config.proxy_service.https_keypairs)
