"""All that has to do with browsers' certificates in a proxy: their sources, kept going, and told of."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Final, NoReturn

import msgspec
import trio

from tport.engine.api.cache import AuthCache
from tport.engine.api.certificates import MAX_STATES
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import PRESENCE_INTERVAL
from tport.engine.errors import ConfigError, TportError
from tport.engine.metrics.sample import Trouble
from tport.engine.pki.authority import permits
from tport.engine.proxy.acme_part import AcmePart
from tport.engine.proxy.certificates import Certificates
from tport.engine.proxy.key_pairs import FilePair, FilePairs
from tport.engine.proxy.own_ca import OwnAuthority
from tport.engine.proxy.settings import ProxySettings
from tport.engine.types.certificate import CertState, standing

logger = logging.getLogger(__name__)

TELL_EVERY: Final = 60.0  # s, though nothing has changed: auth keeps it in memory only
MAX_TEXT: Final = 500  # characters of what a CA, or a file's fault, may say here
MAX_NAMES: Final = 20  # of one certificate, in a list


class CertificatePart:
    """
    Attributes:
        shown: chooses for each connection.
        acme: answers a CA's challenges.
        reload_failures: how often changed files could not be taken.
    """

    def __init__(
        self,
        settings: ProxySettings,
        *,
        auth: AuthAPI,
        cache: AuthCache,
        events: EventQueue,
        clock: Callable[[], datetime],
        web_authority: str,
        own_hosts: Collection[str],
        is_known: Callable[[str], bool],
        hosts: Callable[[], Sequence[str]],
        port_suffix: str,
        next_files: Callable[[], Awaitable[Sequence[FilePair]]],
        asked: Callable[[], Awaitable[object]],
    ) -> None:
        """
        Args:
            web_authority: its certificate (PEM).
            hosts: which are served now; the others are as in AcmePart.
        """
        self._auth = auth
        self._hosts = hosts
        self._own_hosts = own_hosts
        self._clock = clock
        self._events = events
        self._web_authority = web_authority
        self._is_known = is_known
        self._next_files = next_files
        self.reload_failures = 0
        self._files = FilePairs(settings.files)
        self._own = OwnAuthority(
            auth=auth,
            clock=clock,
            zones=own_hosts,
            may_sign=self._may_sign,
            is_wanted=self._is_wanted,
        )
        self.acme = AcmePart(
            settings.acme,
            auth=auth,
            cache=cache,
            clock=clock,
            own_hosts=own_hosts,
            is_known=is_known,
            has_file=lambda host: bool(self._files.states(host)),
            port_suffix=port_suffix,
            asked=asked,
            http_listener=settings.http_listener,
            clients=settings.clients,
        )
        self.shown = Certificates(
            self._files,
            (*self.acme.sources, self._own),
            keepers=self.acme.sources,
            default_host=settings.public_addrs[0].host,
            zones=own_hosts,
            is_known=is_known,
            tickets=settings.tickets,
        )

    def troubles(self) -> Iterator[Trouble]:
        """Tell what is wrong with the proxy's own names; it degrades when browsers have no good one."""
        now = self._clock()
        for host in self._own_hosts:
            standings = [(state, *standing(state, now)) for state in self.shown.states((host,))]
            usable = any(
                quality != "bad" or (state.not_after is not None and state.not_after > now)
                for state, _, quality in standings
            )
            for state, words, quality in standings:
                if quality == "bad":
                    why = f": {state.problem}" if state.problem else ""
                    told = f"the certificate of {host} ({state.source}): {words}{why}"
                    yield Trouble("proxy", told, degrades=not usable)

    def authorities_changed(self, web_authority: str) -> None:
        self._web_authority = web_authority

    def _is_wanted(self, host: str) -> bool:
        """Tell whether a certificate for a host is of use: it is known, or stands for all others."""
        return host.startswith("*.") or self._is_known(host)

    def _may_sign(self, host: str) -> bool:
        """Tell whether the web authority's constraints permit a host."""
        return permits(self._web_authority, host)

    async def keep(self) -> None:
        """Keep certificates as they should be, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_files)
            nursery.start_soon(self._own.keep)
            nursery.start_soon(self._keep_told)
            nursery.start_soon(self.acme.keep)

    async def _keep_told(self) -> NoReturn:
        """Tell auth how it stands with each host, when that has changed and every minute."""
        told, at = None, -math.inf
        while True:
            now = trio.current_time()
            try:
                states = self._states()
                if states != told or now - at >= TELL_EVERY:
                    await self._auth.report_certificates(states=states)
                    told, at = states, now
            except TportError as problem:
                logger.warning("how certificates stand was not reported: %s", problem)
            await trio.sleep(PRESENCE_INTERVAL)

    def _states(self) -> tuple[CertState, ...]:
        """Tell of each host, and of files that serve none; of very many, of those that lack one first."""
        hosts = self._hosts()
        states = [_clipped(each) for each in self.shown.states(hosts)]
        states += [_clipped(each) for each in self._files.idle(hosts)]
        if len(states) > MAX_STATES:
            states.sort(key=lambda state: not state.problem)
        return tuple(states[:MAX_STATES])

    async def _keep_files(self) -> NoReturn:
        """Show new connections the operator's certificates as they are now: all, or all of before."""
        while True:
            try:
                pairs = await self._next_files()
                self._files.use(pairs)
            except ConfigError as problem:
                self.reload_failures += 1
                self._files.keep_old(str(problem))
                self._events.put("cert.reload.failed", error=str(problem))
                logger.error("certificates are not taken anew, the old ones stay: %s", problem)  # noqa: TRY400 - no bug
                hint = problem.hint or "mend the file; it is read when it changes, or on SIGHUP"
                logger.error("what to do: %s", hint)  # noqa: TRY400 - no bug
            else:
                self._events.put("cert.reload", files=[pair.path for pair in pairs])
                logger.info("certificates from files are taken anew")


def _clipped(state: CertState) -> CertState:
    if len(state.names) <= MAX_NAMES and len(state.problem) <= MAX_TEXT:
        return state  # as nearly all of a thousand are
    return msgspec.structs.replace(
        state, names=state.names[:MAX_NAMES], problem=state.problem[:MAX_TEXT]
    )
