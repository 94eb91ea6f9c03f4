"""Which certificate a browser is shown: files chosen by SNI, else the own CA's, one per known host.

Order for a name: an exact name in a file, a wildcard in a file (longest first), then a leaf of
the cluster's web CA, made when first asked for and only for hosts that exist here. All other names
one label below the proxy's share one: whoever mistypes an application's name is told so by a page,
the same as for one they may not open. Any further name gets the proxy's own certificate: the
browser says that it doesn't fit, and that is true.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import trio
from cryptography import x509

from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import ConfigError, TportError
from tport.engine.pki.contexts import browser_context
from tport.engine.pki.keys import KeyPair, load_certificate, make_key_and_csr

logger = logging.getLogger(__name__)

RETRY_AFTER: Final = timedelta(seconds=30)  # between two tries to have one host's leaf made
MAX_LEAVES: Final = 2000  # own leaves kept; hosts exist only as applications do

Clock = Callable[[], datetime]


class _Leaf:
    def __init__(self, context: ssl.SSLContext, renew_at: datetime) -> None:
        self.context = context
        self.renew_at = renew_at


class Certificates:
    """Chooses the TLS context for a browser's connection."""

    def __init__(
        self,
        *,
        auth: AuthAPI,
        clock: Clock,
        default_host: str,
        zones: Collection[str],
        is_known: Callable[[str], bool],
        files: Sequence[KeyPair] = (),
    ) -> None:
        """
        Args:
            default_host: the proxy's own name, for clients that name none or an unknown one.
            zones: the proxy's names, below which applications have theirs.
            is_known: whether a host is the proxy's or an application's now.
            files: the operator's certificates.
        """
        self._auth = auth
        self._clock = clock
        self._default_host = default_host
        self._zones = zones
        self._is_known = is_known
        self._exact: dict[str, ssl.SSLContext] = {}
        self._wildcards: dict[str, ssl.SSLContext] = {}
        self._leaves: dict[str, _Leaf] = {}
        self._making = trio.Lock()
        self.use(files)

    def use(self, files: Sequence[KeyPair]) -> None:
        """Take these as the operator's certificates, instead of those before."""
        exact: dict[str, ssl.SSLContext] = {}
        wildcards: dict[str, ssl.SSLContext] = {}
        for pair in files:
            context = browser_context(pair)
            for name in names_of(pair):
                where = wildcards if name.startswith("*.") else exact
                where.setdefault(name.removeprefix("*."), context)
        self._exact, self._wildcards = exact, wildcards

    def from_files(self, host: str) -> ssl.SSLContext | None:
        """Return the context of the operator's certificate for `host`, if there is one."""
        if (context := self._exact.get(host)) is not None:
            return context
        return self._wildcards.get(host.partition(".")[2])  # a wildcard stands for one label

    async def context_for(self, server_name: str | None) -> ssl.SSLContext:
        """Return the context for a connection that asks for `server_name`.

        Raises:
            Unavailable, ConnectionProblem: auth, which makes the leaves, can't be asked.
        """
        host = server_name or self._default_host
        if (context := self.from_files(host)) is not None:
            return context
        if not self._is_known(host):
            zone = host.partition(".")[2]
            host = f"*.{zone}" if zone in self._zones else self._default_host
            if (context := self.from_files(host)) is not None:
                return context
        leaf = self._leaves.get(host)
        if leaf is not None and self._clock() < leaf.renew_at:
            return leaf.context
        return await self._leaf(host)

    async def _leaf(self, host: str) -> ssl.SSLContext:
        async with self._making:
            old = self._leaves.get(host)
            now = self._clock()
            if old is not None and now < old.renew_at:
                return old.context  # made while we waited
            try:
                key, csr = make_key_and_csr()
                chain = await self._auth.web_certificate(csr=csr, host=host)
            except TportError as problem:
                if old is None:
                    if host == self._default_host:
                        raise
                    logger.warning("no certificate for %s: %s", host, problem)
                    instead = (await self._shown_instead()).context
                    self._keep(host, _Leaf(instead, now + RETRY_AFTER))
                    return instead
                logger.warning("certificate for %s not renewed: %s", host, problem)
                old.renew_at = now + RETRY_AFTER
                return old.context
            leaf = _Leaf(browser_context(KeyPair(key=key, chain=chain)), _renewal(chain))
            self._keep(host, leaf)
            logger.info("made a certificate for %s", host)
            return leaf.context

    def _keep(self, host: str, leaf: _Leaf) -> None:
        self._leaves.pop(host, None)
        if len(self._leaves) >= MAX_LEAVES:
            del self._leaves[next(iter(self._leaves))]
        self._leaves[host] = leaf

    async def _shown_instead(self) -> _Leaf:
        """Return the proxy's own leaf, for a host the web CA may not vouch for."""
        leaf = self._leaves.get(self._default_host)
        if leaf is None:
            key, csr = make_key_and_csr()
            chain = await self._auth.web_certificate(csr=csr, host=self._default_host)
            leaf = _Leaf(browser_context(KeyPair(key=key, chain=chain)), _renewal(chain))
            self._leaves[self._default_host] = leaf
        return leaf


def _renewal(chain: str) -> datetime:
    """Return when two thirds of a certificate's life are over."""
    leaf = load_certificate(chain)
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * 2 / 3


def names_of(pair: KeyPair) -> Collection[str]:
    """Return the DNS names a certificate is good for, lower case."""
    leaf = load_certificate(pair.chain)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


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
