"""The operator's certificates: read from files, chosen by the name that a browser asks for."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from tport.engine.errors import ConfigError, TportError
from tport.engine.pki.chain import issuer_of, key_of, names_of
from tport.engine.pki.contexts import browser_context
from tport.engine.pki.keys import KeyPair, load_certificate
from tport.engine.types.certificate import CertState


class FilePair(msgspec.Struct, frozen=True, kw_only=True):
    """A pair as it was read.

    Attributes:
        path: of its certificate, as configured.
        read_at: aware.
    """

    pair: KeyPair
    path: str = ""
    read_at: datetime | None = None


class FilePairs:
    """The source of certificates that the operator gave. All of them, or those before."""

    public: Final = True

    def __init__(self, pairs: Sequence[FilePair] = ()) -> None:
        self._by_name: dict[str, list[FilePair]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.use(pairs)

    def use(self, pairs: Sequence[FilePair]) -> None:
        """Take these, instead of those before.

        Raises:
            ConfigError: one can't be used; then those before stay.
        """
        by_name: dict[str, list[FilePair]] = {}
        for pair in pairs:
            for name in names_of(pair.pair.chain):
                by_name.setdefault(name, []).append(pair)
        contexts = {name: browser_context(those[0].pair) for name, those in by_name.items()}
        self._by_name, self._contexts = by_name, contexts

    async def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return the context of `host`: an exact name before a wildcard; None: no file has it."""
        return self._contexts.get(self._name_for(host))

    def states(self, host: str) -> Sequence[CertState]:
        """Tell what there is for `host`: a certificate, or one for each kind of key, or none."""
        return [_state(host, pair) for pair in self._by_name.get(self._name_for(host), ())]

    def _name_for(self, host: str) -> str:
        """Return under which name a certificate has `host`. A wildcard stands for one label."""
        return host if host in self._by_name else f"*.{host.partition('.')[2]}"


def _state(host: str, pair: FilePair) -> CertState:
    chain = pair.pair.chain
    certificate = load_certificate(chain)
    return CertState(
        host=host,
        source="file",
        names=names_of(chain),
        issuer=issuer_of(chain),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        last_attempt=pair.read_at,
        path=pair.path,
        key=key_of(chain),
    )


def read_key_pair(cert_file: Path, key_file: Path) -> KeyPair:
    """Read a certificate chain and its key; both PEM, the leaf first.

    Raises:
        ConfigError: naming the file: unreadable, not PEM, or a key that isn't the certificate's.
    """
    texts = []
    for path in (cert_file, key_file):
        try:
            texts.append(path.read_text("ascii"))
        except OSError as problem:
            raise ConfigError(f"{path} can't be read: {str(problem.strerror).lower()}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is no PEM file") from None
    pair = KeyPair(key=texts[1], chain=texts[0])
    try:
        browser_context(pair)
    except (TportError, ssl.SSLError, ValueError) as problem:
        raise ConfigError(
            f"{cert_file} is no usable certificate with key {key_file}: {problem}"
        ) from None
    return pair
