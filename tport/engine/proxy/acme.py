"""The source of certificates that come by ACME: which there are, which are due, who waits for one.

    a browser asks for a host ──► there is one: shown           cache ◄── auth's watch: all proxies'
                               └─► none: wanted ──► AcmeOrders    │
    keep: each change, each LOOK_EVERY ──► due? ────────────────┘

A certificate is ordered when somebody first asks for its host; those of the proxy's own names are
from the start. Only hosts that are served now are ever ordered: what else stands in a ClientHello
costs nothing (TLS-13). A certificate that has come to its end is shown on, with its problem told:
a browser says that it has expired, and a page of the proxy why.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

import trio

from tport.engine.api.cache import AuthCache
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import NotFound, TportError
from tport.engine.pki.chain import key_of, names_of
from tport.engine.pki.contexts import browser_context
from tport.engine.pki.keys import KeyPair, load_certificate
from tport.engine.proto.host import is_public_name
from tport.engine.proxy.acme_order import AcmeOrders
from tport.engine.proxy.acme_proof import AcmeProofs
from tport.engine.proxy.acme_settings import AcmeSettings
from tport.engine.proxy.certificates import TakesWaiting
from tport.engine.types.acme import AcmeState
from tport.engine.types.certificate import CertState

logger = logging.getLogger(__name__)

WAIT: Final = 15.0  # s that a browser waits for its host's first certificate; orders take 2 to 10
# The same for the proxy's own names, which are ordered at the start: agents and commands come
# there too, which give a handshake 10 s, and many don't ask for a certificate that they know.
OWN_WAIT: Final = 5.0
ASK_AGAIN: Final = 5.0  # s between questions for a certificate that auth could not answer
LOOK_EVERY: Final = 20.0  # s between looks at what is due
MAX_WANTED: Final = 1000  # names that somebody waits for or waited for; they are hosts served here
_ADVICE: Final = "what a CA and this proxy must be able to reach is told in docs/acme.md"
_WHEN_ORDERED: Final = "it is ordered when somebody opens it after that time: docs/acme.md"


@dataclass(frozen=True, slots=True)
class _Loaded:
    serial: str
    context: ssl.SSLContext
    chain: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, pair: KeyPair) -> _Loaded:
        return cls(
            f"{load_certificate(pair.chain).serial_number:x}",
            browser_context(pair),
            pair.chain,
            names_of(pair.chain),
        )


class AcmeCertificates:
    def __init__(
        self,
        settings: AcmeSettings,
        *,
        auth: AuthAPI,
        cache: AuthCache,
        orders: AcmeOrders,
        proofs: AcmeProofs,
        clock: Callable[[], datetime],
        own_hosts: Collection[str],
        is_known: Callable[[str], bool],
        has_file: Callable[[str], bool],
    ) -> None:
        """
        Args:
            cache: tells how certificates stand; call `changed` when it says something new.
            own_hosts: the proxy's own names.
            is_known: whether a host is served here now.
            has_file: whether a host, or a wildcard, has a certificate in a file.
        """
        self.public = settings.public
        self._settings = settings
        self._auth = auth
        self._cache = cache
        self._orders = orders
        self._proofs = proofs
        self._clock = clock
        self._own_hosts = own_hosts
        self._is_known = is_known
        self._has_file = has_file
        self._loaded: dict[str, _Loaded] = {}
        self._broken: dict[str, str] = {}  # name → serial of a certificate that can't be had
        self._loading = trio.Lock()
        self._wanted: dict[str, None] = {}
        self._started: dict[str, float] = {}  # when an order was last tried; trio's time
        # When auth could not give a certificate, or another one than was asked for; the same.
        self._asked: dict[str, float] = {}
        self._held: set[str] = set()  # orders of which auth knows that we show what is theirs
        self._moved = trio.Event()
        orders.on_end = self.changed
        orders.on_obtained = self.take

    def changed(self) -> None:
        """Look again: the cache says something new."""
        self._moved.set()
        self._moved = trio.Event()

    # --- As a source of certificates -----------------------------------------------------------

    def context_now(self, host: str) -> ssl.SSLContext | None:
        """Return the context of a host; None: no CA vouches for it.

        Raises:
            TakesWaiting: there is none yet.
        """
        name = self._name_for(host)
        if name is None:
            return None
        if (context := self._shown(name, host)) is not None:
            return context
        raise TakesWaiting

    async def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return the context of a host; where there is none, wait a while for the first.

        For a host that nobody serves now, only what is there is shown.
        """
        name = self._name_for(host)
        if name is None:
            return None
        if (context := self._shown(name, host)) is not None:
            return context
        await self._load(name)
        if (context := self._shown(name, host)) is not None:
            return context
        if self._is_needed(name) and self._may_try(name) and not self._was_in_vain(name):
            self._want(name)
            with trio.move_on_after(OWN_WAIT if name in self._own_hosts else WAIT):
                while self._shown(name, host) is None and self._is_coming(name):
                    await self._moved.wait()
        return self._shown(name, host)

    def _shown(self, name: str, host: str) -> ssl.SSLContext | None:
        """Return the context of a certificate that is good for `host`, if that is loaded."""
        loaded = self._loaded.get(name)
        if loaded is None:
            return None
        fits = host in loaded.names or f"*.{host.partition('.')[2]}" in loaded.names
        return loaded.context if fits else None

    def _is_coming(self, name: str) -> bool:
        """Tell whether somebody is about to order a certificate, or does."""
        if not self._may_try(name):
            return False  # it has just failed
        if name in self._wanted or name in self._orders.running:
            return True
        state = self._state(name)
        return state is not None and state.order_at(self._clock()) is not None

    def states(self, host: str) -> Sequence[CertState]:
        """Tell how it stands with the certificate of a host."""
        name = self._name_for(host)
        if name is None:
            return ()
        nothing = AcmeState(directory=self._settings.directory, name=name, names=())
        state = self._state(name) or nothing
        problem, advice, again = state.problem, _ADVICE, state.next_try or state.renew_at
        wait = self._orders.waits.of(name)
        # Unless another proxy has it by now, or had a failure that is waited out.
        if wait is not None and not state.serial and self._may_try(name):
            problem, advice, again = wait.problem, _WHEN_ORDERED, wait.until
        if self._broken.get(name) == state.serial != "":
            problem = problem or "its key can't be read any more; another one is ordered"
        loaded = self._loaded.get(name)
        return (
            CertState(
                host=host,
                source="acme",
                names=loaded.names if loaded else state.names,
                issuer=state.issuer,
                not_before=state.not_before,
                not_after=state.not_after,
                last_attempt=state.last_attempt,
                problem=problem,
                advice=advice if problem else "",
                next_try=again,
                key=key_of(loaded.chain) if loaded else "",
            ),
        )

    def _name_for(self, host: str) -> str | None:
        """Return by which name a host's certificate is known; None: no CA vouches for it."""
        if not is_public_name(host):
            return None
        if self._settings.dns_hook is not None:
            for zone in self._own_hosts:
                if is_public_name(zone) and zone in (host, host.partition(".")[2]):
                    return zone
        return None if host.startswith("*.") else host

    def _names(self, name: str) -> tuple[str, ...]:
        if self._settings.dns_hook is not None and name in self._own_hosts:
            return name, f"*.{name}"
        return (name,)

    def _state(self, name: str) -> AcmeState | None:
        return self._cache.acme.get((self._settings.directory, name))

    def _may_try(self, name: str) -> bool:
        state = self._state(name)
        return state is None or state.may_try_at(self._clock())

    def _is_needed(self, name: str) -> bool:
        """Tell whether a certificate's hosts are served here now, and one of them by no file."""
        return self._is_known(name) and not all(map(self._has_file, self._names(name)))

    def _was_in_vain(self, name: str) -> bool:
        """Tell whether an order could not even begin a moment ago."""
        began = self._started.get(name)
        is_recent = began is not None and trio.current_time() < began + LOOK_EVERY
        return is_recent and not self._is_coming(name)

    def _want(self, name: str) -> None:
        self._wanted.pop(name, None)
        if len(self._wanted) >= MAX_WANTED:
            del self._wanted[next(iter(self._wanted))]
        self._wanted[name] = None
        self.changed()

    # --- What is due ---------------------------------------------------------------------------

    async def keep(self) -> NoReturn:
        """Load what came, say what we show, order what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                moved = self._moved
                await self._load_new()
                await self._say_held()
                for name in list(self._due()):
                    self._wanted.pop(name, None)
                    self._started[name] = trio.current_time()
                    self._orders.start(nursery, name, self._names(name), self._state(name))
                with trio.move_on_after(LOOK_EVERY):
                    await moved.wait()
        raise AssertionError("unreachable")

    def _due(self) -> Iterator[str]:
        now = self._clock()
        lately = trio.current_time() - LOOK_EVERY
        self._started = {name: at for name, at in self._started.items() if at > lately}
        names = dict.fromkeys(filter(None, map(self._name_for, self._own_hosts)))
        names |= self._wanted
        names |= {
            name: None
            for (directory, name), state in self._cache.acme.items()
            if directory == self._settings.directory and state.serial
        }
        for name in names:
            if not self._is_needed(name) or not self._may_try(name):
                self._wanted.pop(name, None)
                continue
            if name in self._started:
                continue
            state = self._state(name)
            if (
                state is None
                or not state.serial
                or state.names != self._names(name)
                or self._broken.get(name) == state.serial
                or (state.renew_at is not None and now >= state.renew_at)
                or (state.look_at is not None and now >= state.look_at)
            ):
                yield name

    async def _say_held(self) -> None:
        """Tell auth of each order that we show its challenges: the cache has them by now."""
        pending = {order.id for order in self._proofs.orders()}
        self._held &= pending
        for order in pending - self._held:
            try:
                await self._auth.acme_holds(order=order)
            except TportError as problem:
                logger.debug("auth can't be told of a challenge: %s", problem)
            else:
                self._held.add(order)

    def forget_held(self) -> None:
        """Say all again: auth may have forgotten."""
        self._held.clear()
        self.changed()

    async def forgive(self) -> None:
        """Try at once what failed: the operator says that it is mended."""
        try:
            await self._auth.acme_forgive(directory=self._settings.directory)
        except TportError as problem:
            logger.warning("what failed by ACME is not tried anew: %s", problem)
            return
        self._started.clear()
        self._orders.waits.clear()
        self.changed()

    async def _load_new(self) -> None:
        """Take over certificates that have come, so that no connection waits for it."""
        for (directory, name), state in list(self._cache.acme.items()):
            loaded = self._loaded.get(name)
            if directory == self._settings.directory and loaded is not None:
                if state.serial != loaded.serial:
                    await self._load(name)
            elif directory == self._settings.directory and name in self._waited_for():
                await self._load(name)

    def _waited_for(self) -> Collection[str]:
        return self._orders.running | self._wanted.keys()

    async def _load(self, name: str) -> None:
        """Load the certificate that auth has, if it is another than the one that is loaded."""
        async with self._loading:
            state, loaded = self._state(name), self._loaded.get(name)
            if state is None or not state.serial or self._broken.get(name) == state.serial:
                return
            if loaded is not None and loaded.serial == state.serial:
                return
            asked = self._asked.get(name)
            if asked is not None and trio.current_time() < asked + ASK_AGAIN:
                return
            try:
                pair = await self._auth.acme_pair(directory=state.directory, name=name)
                self.take(name, pair)
                if self._loaded[name].serial != state.serial:  # the watch lags behind
                    self._asked[name] = trio.current_time()
            except NotFound as problem:
                self._broken[name] = state.serial
                logger.warning("certificate for %s: %s", name, problem)
            except TportError as problem:
                self._asked[name] = trio.current_time()
                logger.warning("the certificate for %s can't be had for now: %s", name, problem)

    def take(self, name: str, pair: KeyPair) -> None:
        """Show this certificate from now on.

        Raises:
            ConfigError: it can't be used.
        """
        self._loaded[name] = _Loaded.of(pair)
        self.changed()
