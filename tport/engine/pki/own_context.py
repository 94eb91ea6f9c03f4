"""The TLS context in which a host of this cluster shows its own certificate, kept up to date."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime

from tport.engine.defaults import HOST_CERTIFICATE_TTL
from tport.engine.pki.authority import BACKDATE, is_current
from tport.engine.pki.keys import KeyPair, load_certificate


class OwnContext:
    """Made anew at half the certificate's life, and while the clock says that it is not valid yet.

    Which of the two holds is read in the certificate: who made it may have had another time than
    this clock has, as when all clocks of a machine were put right and not all have noticed.
    """

    def __init__(
        self,
        pair: Callable[[], KeyPair],
        context: Callable[[KeyPair], ssl.SSLContext],
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            pair: returns the newest key and certificate.
            context: makes what shows them.
        """
        self._pair = pair
        self._context = context
        self._clock = clock
        self._made: tuple[ssl.SSLContext, datetime] | None = None

    def now(self) -> ssl.SSLContext:
        """Return the context that the next connection is to get."""
        until = HOST_CERTIFICATE_TTL / 2
        if self._made is None or not is_current(self._made[1], self._clock(), until=until):
            pair = self._pair()
            made = load_certificate(pair.chain).not_valid_before_utc + BACKDATE
            self._made = self._context(pair), made
        return self._made[0]
