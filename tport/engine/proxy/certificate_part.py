"""All that has to do with browsers' certificates in a proxy: their sources, kept going, and told of."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import NoReturn

import trio

from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import ConfigError
from tport.engine.pki.authority import permits
from tport.engine.proxy.acme_part import AcmePart
from tport.engine.proxy.certificates import Certificates
from tport.engine.proxy.key_pairs import FilePair, FilePairs
from tport.engine.proxy.own_ca import OwnAuthority
from tport.engine.proxy.settings import ProxySettings

logger = logging.getLogger(__name__)


class CertificatePart:
    """
    Attributes:
        shown: chooses for each connection.
        acme: answers a CA's challenges.
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
        port_suffix: str,
        next_files: Callable[[], Awaitable[Sequence[FilePair]]],
        asked: Callable[[], Awaitable[object]],
    ) -> None:
        """`web_authority`: its certificate (PEM); what else there is to know is in AcmePart."""
        self._events = events
        self._web_authority = web_authority
        self._is_known = is_known
        self._next_files = next_files
        self._files = FilePairs(settings.files)
        self._own = OwnAuthority(
            auth=auth, clock=clock, may_sign=self._may_sign, is_wanted=self._is_wanted
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
        )
        self.shown = Certificates(
            self._files,
            (*self.acme.sources, self._own),
            keepers=self.acme.sources,
            default_host=settings.public_addrs[0].host,
            zones=own_hosts,
            is_known=is_known,
        )

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
            nursery.start_soon(self.acme.keep)

    async def _keep_files(self) -> NoReturn:
        """Show new connections the operator's certificates as they are now: all, or all of before."""
        while True:
            try:
                pairs = await self._next_files()
                self._files.use(pairs)
            except ConfigError as problem:
                self._files.keep_old(str(problem))
                self._events.put("cert.reload.failed", error=str(problem))
                logger.error("certificates are not taken anew, the old ones stay: %s", problem)  # noqa: TRY400 - no bug
                hint = problem.hint or "mend the file; it is read when it changes, or on SIGHUP"
                logger.error("what to do: %s", hint)  # noqa: TRY400 - no bug
            else:
                self._events.put("cert.reload", files=[pair.path for pair in pairs])
                logger.info("certificates from files are taken anew")
