"""What the operator says of certificates by ACME, with the files that it names read."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from tport.engine.config import model
from tport.engine.config.secret_file import read_secret_file
from tport.engine.errors import ConfigError
from tport.engine.pki.contexts import https_context
from tport.engine.proto.acme import ExternalAccount, decode64

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AcmeSettings:
    """
    Attributes:
        directory: the CA's URL.
        email: whom it writes to; "": nobody.
        authority: PEM certificates by which the CA's own HTTPS is known; "": the system's.
        external: an account that the operator has there.
        dns_hook: the program that makes records for dns-01; None: there is no wildcard.
        by_http: the CA's questions come by plain HTTP.
        public: browsers know the CA: its certificates are no trial.
    """

    directory: str
    email: str = ""
    authority: str = ""
    external: ExternalAccount | None = None
    dns_hook: Path | None = None
    by_http: bool = False
    public: bool = True


def acme_settings(acme: model.Acme) -> AcmeSettings | None:
    """Read what the configuration names; None: ACME is off. Blocks.

    Raises:
        ConfigError: a file can't be used.
    """
    if not acme.enabled:
        return None
    return AcmeSettings(
        directory=acme.uri,
        email=acme.email,
        authority=read_authority(acme.ca_file),
        external=read_external(acme.eab) if acme.eab else None,
        dns_hook=acme.dns_hook,
        by_http=acme.http_addr is not None,
        public=not acme.staging,
    )


def read_authority(path: Path | None) -> str:
    """Return the certificates (PEM) by which the CA's own HTTPS is known; "": the system's. Blocks.

    Raises:
        ConfigError: the file can't be used.
    """
    if path is None:
        return ""
    try:
        text = path.read_text("ascii")
        https_context(authorities=[text])
    except OSError as problem:
        raise ConfigError(f"can't be read: {str(problem.strerror).lower()}", where=path) from None
    except UnicodeDecodeError:
        raise ConfigError("is no PEM file", where=path) from None
    except ConfigError as problem:
        raise ConfigError(str(problem), where=path) from None
    return text


def read_external(eab: model.Eab, *, any_owner: bool = False) -> ExternalAccount:
    """Return the account that the operator has at the CA. Blocks. `any_owner`: of the key's file.

    Raises:
        ConfigError: its key can't be used.
    """
    key, where = eab.hmac.text, "proxy_service.acme.eab.hmac"
    if eab.hmac.file is not None:
        where = str(eab.hmac.file)
        key, warning = read_secret_file(eab.hmac.file, any_owner=any_owner)
        if warning:
            logger.warning("%s", warning)
    try:
        sound = bool(decode64(key))
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(
            "is no HMAC key", where=where, hint="copy it from the CA as it is shown: base64url"
        )
    return ExternalAccount(eab.kid, key)
