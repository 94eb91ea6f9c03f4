"""The operator's certificates: read from files, judged, chosen by the name that a browser asks for."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from tport.engine.errors import ConfigError, TportError
from tport.engine.pki.chain import issuer_of, key_of, names_of, put_in_order, warnings_of
from tport.engine.pki.contexts import browser_context
from tport.engine.pki.keys import KeyPair, load_certificate
from tport.engine.types.certificate import CertState

MAX_FILE: Final = 256 * 1024  # bytes; a chain of four certificates is under 10 KiB


class FilePair(msgspec.Struct, frozen=True, kw_only=True):
    """A pair as it was read.

    Attributes:
        path: of its certificate, as configured.
        read_at: aware.
        warnings: what is wrong with it though it can be used, in sentences without full stops.
    """

    pair: KeyPair
    path: str = ""
    read_at: datetime | None = None
    warnings: tuple[str, ...] = ()


class FilePairs:
    """The source of certificates that the operator gave: all of a reading, or all of that before.

    Attributes:
        failures: how many readings could not be taken, since the start.
    """

    public: Final = True

    def __init__(self, pairs: Sequence[FilePair] = ()) -> None:
        self.failures = 0
        self._problem = ""
        self._by_name: dict[str, tuple[FilePair, ...]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.use(pairs)

    def use(self, pairs: Sequence[FilePair]) -> None:
        """Take these, instead of those before.

        Of several for one name the first is shown, and beside it the first with another kind
        of key, to clients that can verify that one only.

        Raises:
            ConfigError: one can't be used; then those before stay.
        """
        by_name: dict[str, tuple[FilePair, ...]] = {}
        for pair in pairs:
            for name in names_of(pair.pair.chain):
                by_name[name] = _one_of_each_key((*by_name.get(name, ()), pair))
        made: dict[tuple[FilePair, ...], ssl.SSLContext] = {}
        for those in by_name.values():
            if those not in made:
                made[those] = browser_context(*(each.pair for each in those))
        self._by_name = by_name
        self._contexts = {name: made[those] for name, those in by_name.items()}
        self._problem = ""

    def keep_old(self, problem: str) -> None:
        """Remember that what is in the files now can't be used, and why."""
        self.failures += 1
        self._problem = problem

    def context_now(self, host: str) -> ssl.SSLContext | None:
        """Return the context of `host`: an exact name before a wildcard; None: no file has it."""
        return self._contexts.get(self._name_for(host))

    async def context_for(self, host: str) -> ssl.SSLContext | None:
        return self.context_now(host)

    def states(self, host: str) -> Sequence[CertState]:
        """Tell what there is for `host`: a certificate, or one for each kind of key, or none."""
        return [self._state(host, pair) for pair in self._by_name.get(self._name_for(host), ())]

    def idle(self, hosts: Collection[str]) -> Sequence[CertState]:
        """Tell of the certificates that none of `hosts` is shown."""
        shown = {pair for host in hosts for pair in self._by_name.get(self._name_for(host), ())}
        first = {pair: name for name in reversed(self._by_name) for pair in self._by_name[name]}
        return [self._state(name, pair) for pair, name in first.items() if pair not in shown]

    def _name_for(self, host: str) -> str:
        """Return under which name a certificate has `host`. A wildcard stands for one label."""
        return host if host in self._by_name else f"*.{host.partition('.')[2]}"

    def _state(self, host: str, pair: FilePair) -> CertState:
        chain = pair.pair.chain
        certificate = load_certificate(chain)
        not_taken = (f"what is in the files now is not taken: {self._problem}",)
        return CertState(
            host=host,
            source="file",
            names=names_of(chain),
            issuer=issuer_of(chain),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            last_attempt=pair.read_at,
            problem="; ".join((*(not_taken if self._problem else ()), *pair.warnings)),
            path=pair.path,
            key=key_of(chain),
        )


def _one_of_each_key(pairs: Iterable[FilePair]) -> tuple[FilePair, ...]:
    first: dict[str, FilePair] = {}
    for pair in pairs:
        first.setdefault(key_of(pair.pair.chain).partition(" ")[0], pair)
    return tuple(first.values())


def read_key_pair(
    cert_file: Path, key_file: Path, *, now: datetime, authorities: Collection[tuple[str, ...]]
) -> FilePair:
    """Read a certificate chain and its key, both PEM, and judge them.

    Args:
        now: aware.
        authorities: see `warnings_of`.

    Raises:
        ConfigError: naming the files: unreadable, not PEM, a key that isn't the certificate's.
    """
    texts = [_text(path) for path in (cert_file, key_file)]
    try:
        pair, said = put_in_order(KeyPair(chain=texts[0], key=texts[1]))
        browser_context(pair)
    except TportError as problem:
        raise ConfigError(
            f"{cert_file} can't be used with the key {key_file}: {problem}", hint=problem.hint
        ) from None
    warnings = ((said,) if said else ()) + warnings_of(pair.chain, now, authorities)
    return FilePair(pair=pair, path=str(cert_file), read_at=now, warnings=warnings)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise ConfigError(f"{path} can't be read: {str(problem.strerror).lower()}") from None
    if len(data) > MAX_FILE or not data.isascii():  # DER, say
        raise ConfigError(
            f"{path} is no PEM file",
            hint="tport reads text that begins with -----BEGIN; openssl makes such of other forms",
        )
    return data.decode("ascii")
