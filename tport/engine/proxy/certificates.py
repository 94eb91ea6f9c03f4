"""Which certificate a browser is shown: the first source that has one for the name it asks for.

The operator's files are asked first, then what comes between, last the own authority, which has a
leaf for each host that exists here and that it may sign for. Names one label below the proxy's that
nobody serves are shown what stands for all of them: whoever mistypes an application's name is told
so by a page, the same as for one they may not open. Any further name, and an application that no source has a certificate for, gets
the proxy's own: the browser says that it doesn't fit, and that is true.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar
from weakref import WeakSet

from tport.engine.errors import Unavailable
from tport.engine.pki.contexts import share_tickets
from tport.engine.types.certificate import CertState

NEEDS_CERTIFICATE = (
    "needs a certificate: no source has one, and the own CA may not sign for this name"
)
WHAT_TO_DO = (
    "give one in proxy_service.https_keypairs, switch on acme, or give the application"
    " a name below the proxy's"
)


class TakesWaiting(Exception):
    """What was asked can't be said at once."""


class Source(Protocol):
    """Something that has certificates.

    Attributes:
        public: whether browsers know its authorities as it is: then HSTS does no harm.
    """

    @property
    def public(self) -> bool: ...

    def context_now(self, host: str) -> ssl.SSLContext | None:
        """Return what `context_for` would, where that is known without asking anybody.

        Raises:
            TakesWaiting: it isn't.
        """
        ...

    async def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return the context of a host that is served here; None: the next source is asked.

        People wait for it, so it has to be quick: what takes longer it begins on its
        own, and returns None until then. `host` may be `*.<proxy's name>`: what is shown for all
        names there that nobody serves. Only the files and the keepers are asked for names that
        people invent.
        """
        ...

    def states(self, host: str) -> Sequence[CertState]:
        """Tell how it stands with a host that is served here; empty: it is none of its business.

        A state without `not_after` is one that serves nobody yet: the next source's follows it.
        """
        ...


class Chosen(NamedTuple):
    """`public`: as the source's."""

    context: ssl.SSLContext
    public: bool


_T = TypeVar("_T")
_Choice = Generator[tuple[Source, str], ssl.SSLContext | None, _T]


class Certificates:
    """Chooses the TLS context for a browser's connection."""

    def __init__(
        self,
        files: Source,
        others: Sequence[Source],
        *,
        keepers: Sequence[Source] = (),
        default_host: str,
        zones: Collection[str],
        is_known: Callable[[str], bool],
        tickets: bytes = b"",
    ) -> None:
        """
        Args:
            files: asked first, and for any name: people who name an application that is away just
                now are shown its certificate still.
            others: asked next, in this order.
            keepers: those of the others that may be asked for any name, too: they show what they
                have, and get nothing for names that nobody serves.
            default_host: the proxy's own name, for clients that name none or an unknown one.
            zones: the proxy's names, below which applications have theirs.
            is_known: whether a host is the proxy's or an application's now.
            tickets: seals TLS tickets, alike in all processes that share a port; "": there are none.
        """
        self._tickets = tickets
        self._sharing: WeakSet[ssl.SSLContext] = WeakSet()
        self._keepers = (files, *keepers)
        self._sources = (files, *others)
        self._default_host = default_host
        self._zones = zones
        self._is_known = is_known

    def context_now(self, server_name: str | None) -> Chosen:
        """Return what `context_for` would, where that is known without asking anybody.

        Raises:
            TakesWaiting: it isn't.
            Unavailable: as `context_for` does.
        """
        choice = self._choose(server_name)
        try:
            source, host = next(choice)
            while True:
                source, host = choice.send(source.context_now(host))
        except StopIteration as chosen:
            return self._shared(chosen.value)

    async def context_for(self, server_name: str | None) -> Chosen:
        """Return the context for a connection that asks for `server_name`.

        Raises:
            Unavailable: there is no certificate even for the proxy's own name.
        """
        choice = self._choose(server_name)
        try:
            source, host = next(choice)
            while True:
                source, host = choice.send(await source.context_for(host))
        except StopIteration as chosen:
            return self._shared(chosen.value)

    def _shared(self, chosen: Chosen) -> Chosen:
        if self._tickets and chosen.context not in self._sharing:
            share_tickets(chosen.context, self._tickets)
            self._sharing.add(chosen.context)
        return chosen

    def _choose(self, server_name: str | None) -> _Choice[Chosen]:
        """Yield which source is to be asked for which host, until it is known what is shown."""
        host = server_name or self._default_host
        if not self._is_known(host):
            kept = yield from _first(self._keepers, host)
            if kept is not None:
                return kept
            zone = host.partition(".")[2]
            host = f"*.{zone}" if zone in self._zones else self._default_host
        chosen = yield from _first(self._sources, host)
        if chosen is None and host != self._default_host:
            chosen = yield from _first(self._sources, self._default_host)
        if chosen is None:
            why = [state.problem for state in self.states((self._default_host,))]
            raise Unavailable(
                f"there is no certificate for {self._default_host}: {'; '.join(filter(None, why))}"
            )
        return chosen

    def states(self, hosts: Collection[str]) -> list[CertState]:
        """Tell of each host what its sources have, down to the one whose certificate is shown."""
        return [state for host in hosts for state in self._states(host)]

    def _states(self, host: str) -> Sequence[CertState]:
        found: list[CertState] = []
        for source in self._sources:
            found += source.states(host)
            if any(state.not_after is not None for state in found):
                break
        return found or (
            CertState(host=host, source="none", problem=NEEDS_CERTIFICATE, advice=WHAT_TO_DO),
        )


def _first(sources: Sequence[Source], host: str) -> _Choice[Chosen | None]:
    for source in sources:
        context = yield source, host
        if context is not None:
            return Chosen(context, source.public)
    return None
