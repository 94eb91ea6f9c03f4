"""What the CA is shown while an order is pending, and nobody else (TLS-13).

Any proxy of the cluster may be the one that the CA comes to: what is to be shown is known by the
watch, whichever proxy orders.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

import trio

from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import accept_tls, refuse_protocols
from tport.engine.pki.acme import challenge_pair
from tport.engine.pki.contexts import challenge_context
from tport.engine.types.acme import AcmeOrder, AcmeState, Challenge

MAX_CONTEXTS: Final = 100  # kept at a time; each is of use for seconds


class AcmeProofs:
    def __init__(
        self,
        directory: str,
        states: Callable[[], Mapping[tuple[str, str], AcmeState]],
        clock: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._states = states
        self._clock = clock
        self._contexts: dict[str, ssl.SSLContext] = {}

    def orders(self) -> Iterator[AcmeOrder]:
        """Yield what is pending at our CA, with something to be shown by proxies."""
        now = self._clock()
        for (directory, _), state in self._states().items():
            order = state.order_at(now) if directory == self._directory else None
            if order is not None and order.challenges:
                yield order

    async def prove_by_tls(self, stream: PrefixedStream, server_name: str | None) -> None:
        """Answer a connection by acme-tls/1 (RFC 8737), and end it: HTTP is never spoken there."""
        challenge = self._challenge("tls-alpn-01", server_name or "", None)
        if challenge is None:
            await refuse_protocols(stream)
            return
        tls = await accept_tls(stream, self._context(challenge))
        await trio.aclose_forcefully(tls)

    def by_http(self, host: str, token: str) -> str | None:
        """Return the answer to a CA that asks by HTTP; None: nothing is pending."""
        challenge = self._challenge("http-01", host, token)
        return challenge.key_authorization if challenge is not None else None

    def _challenge(self, kind: str, name: str, token: str | None) -> Challenge | None:
        for order in self.orders():
            for one in order.challenges:
                if (one.kind, one.name) == (kind, name) and token in (None, one.token):
                    return one
        return None

    def _context(self, challenge: Challenge) -> ssl.SSLContext:
        key = f"{challenge.name} {challenge.key_authorization}"
        if (context := self._contexts.get(key)) is None:
            pair = challenge_pair(challenge.name, challenge.key_authorization, self._clock())
            context = challenge_context(pair)
            if len(self._contexts) >= MAX_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[key] = context
        return context
