"""Leaves of the cluster's own web authority, made when first asked for.

All names one label below a proxy's share one, whether an application has them or nobody: else the
certificate would tell strangers which ones are served, what no page tells (HTTP-07). Any other
host has its own.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn

import msgspec
import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import TportError
from tport.engine.pki.authority import BACKDATE
from tport.engine.pki.chain import issuer_of, key_of, names_of, renewal_of
from tport.engine.pki.contexts import browser_context
from tport.engine.pki.keys import KeyPair, load_certificate, make_key_and_csr
from tport.engine.proxy.certificates import TakesWaiting
from tport.engine.types.certificate import CertState

logger = logging.getLogger(__name__)

RETRY_AFTER: Final = timedelta(seconds=30)  # between two tries to have one host's leaf made
# The first pause when auth's clock is ahead by more than BACKDATE, doubled up to RETRY_AFTER. It may have been
# put right and not have noticed yet, which takes it a second: until it does, no browser and no agent gets in.
APART_AFTER: Final = timedelta(seconds=3)
OF_THE_FUTURE: Final = "it is not valid yet by this proxy's clock: is auth's clock right?"
MAX_LEAVES: Final = 2000  # kept at a time; hosts exist only as applications do
LOOK_EVERY: Final = 3600.0  # s between looks at leaves that nobody asked for meanwhile

Clock = Callable[[], datetime]


@dataclass(slots=True)
class _Leaf:
    """A host's leaf, and what became of asking for it; `context` None: it was never made."""

    context: ssl.SSLContext | None = None
    told: CertState | None = None  # of the certificate; read once, since there may be many
    ask_at: datetime | None = None  # not before then; None: at once
    asked: datetime | None = None
    problem: str = ""
    apart: timedelta = APART_AFTER  # until the next try, where the one it has is of the future

    def is_valid(self, now: datetime) -> bool:
        told = self.told
        if told is None or told.not_before is None or told.not_after is None:
            return False
        return told.not_before <= now < told.not_after


class OwnAuthority:
    """The source of certificates that has one for each host that the web authority may sign for."""

    public: Final = False

    def __init__(
        self,
        *,
        auth: AuthAPI,
        clock: Clock,
        zones: Collection[str],
        may_sign: Callable[[str], bool],
        is_wanted: Callable[[str], bool],
    ) -> None:
        """
        Args:
            zones: the proxy's names, below which applications have theirs.
            may_sign: whether the web authority's constraints permit a host.
            is_wanted: whether a leaf of a host is still of use.
        """
        self._auth = auth
        self._clock = clock
        self._zones = zones
        self._may_sign = may_sign
        self._is_wanted = is_wanted
        self._leaves: dict[str, _Leaf] = {}
        self._making = trio.Lock()

    def context_now(self, host: str) -> ssl.SSLContext | None:
        """Return the context of `host`; None: there can't be one.

        Raises:
            TakesWaiting: its leaf is to be made.
        """
        host = self._shared(host)
        leaf = self._leaves.get(host)
        if leaf is not None and not self._is_due(leaf):
            return leaf.context
        if leaf is not None and leaf.context is not None and self._making.locked():
            return leaf.context  # auth is being asked already, and may be slow
        if not self._may_sign(host):
            return None
        raise TakesWaiting

    async def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return the context of `host`, whose leaf is made at the first call; None: it can't be."""
        try:
            return self.context_now(host)
        except TakesWaiting:
            host = self._shared(host)
        async with self._making:
            leaf = self._leaves.get(host)  # made while we waited?
            if leaf is None or self._is_due(leaf):
                leaf = await self._make(host, leaf)
            return leaf.context

    def states(self, host: str) -> Sequence[CertState]:
        """Tell how it stands with the leaf of `host`."""
        if not self._may_sign(host):
            return ()
        leaf = self._leaves.get(self._shared(host))
        if leaf is None:
            return (CertState(host=host, source="own CA"),)
        return (
            msgspec.structs.replace(
                leaf.told or CertState(host=host, source="own CA"),
                host=host,
                last_attempt=leaf.asked,
                problem=leaf.problem,
                next_try=leaf.ask_at,
            ),
        )

    async def keep(self) -> NoReturn:
        """Renew leaves that are due, though nobody comes; forget those of hosts that are gone."""
        while True:
            await trio.sleep(LOOK_EVERY)
            for host in list(self._leaves):
                if not self._is_wanted(host):
                    self._leaves.pop(host, None)
                elif self._is_due(self._leaves[host]):
                    await self.context_for(host)

    def _shared(self, host: str) -> str:
        """Return the name that the leaf of a host is for."""
        zone = host.partition(".")[2]
        # `*.box` is a wildcard that no client takes.
        is_below = zone in self._zones and "." in zone and host not in self._zones
        return f"*.{zone}" if is_below else host

    def _is_due(self, leaf: _Leaf) -> bool:
        """Tell whether to ask for a leaf: at its time, or when the clock was put back before it."""
        now = self._clock()
        if leaf.ask_at is None or leaf.asked is None or now >= leaf.ask_at:
            return True
        return now < leaf.asked - BACKDATE

    async def _make(self, host: str, old: _Leaf | None) -> _Leaf:
        now = self._clock()
        leaf = old or _Leaf()
        leaf.asked = now
        try:
            key, csr = make_key_and_csr()
            chain = await self._auth.web_certificate(csr=csr, host=host)
            _take(leaf, host, KeyPair(key=key, chain=chain), now)
        except TportError as problem:
            leaf.ask_at, leaf.problem = now + RETRY_AFTER, str(problem)
            what = "not renewed" if leaf.context is not None else "not made"
            logger.warning("certificate for %s %s: %s", host, what, problem)
        self._leaves.pop(host, None)
        if len(self._leaves) >= MAX_LEAVES:
            del self._leaves[next(iter(self._leaves))]
        self._leaves[host] = leaf
        return leaf


def _take(leaf: _Leaf, host: str, pair: KeyPair, now: datetime) -> None:
    """Have a leaf show what auth made; one of the future only where it has none that is valid."""
    told = _told(host, pair.chain)
    assert told.not_before is not None  # each certificate says it
    if now >= told.not_before:
        leaf.ask_at, leaf.problem, leaf.apart = renewal_of(pair.chain), "", APART_AFTER
        logger.info("made a certificate for %s", host)
    else:
        leaf.ask_at, leaf.problem = now + leaf.apart, OF_THE_FUTURE
        leaf.apart = min(2 * leaf.apart, RETRY_AFTER)
        logger.warning("certificate for %s: %s", host, OF_THE_FUTURE)
        if leaf.is_valid(now):
            return
    leaf.context, leaf.told = browser_context(pair), told


def _told(host: str, chain: str) -> CertState:
    certificate = load_certificate(chain)
    return CertState(
        host=host,
        source="own CA",
        names=names_of(chain),
        issuer=issuer_of(chain),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=key_of(chain),
    )
