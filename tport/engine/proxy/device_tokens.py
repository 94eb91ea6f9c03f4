"""Requests with a device token: whose they are, for which application, and what wrong ones get.

Such a request has no cookie of ours that counts, and is never sent on to sign in: whoever sends
it is a program.
"""

from __future__ import annotations

from typing import Final

from tport.engine.access.limits import AddressLimiter
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.defaults import DEVICE_TOKEN_BURST, DEVICE_TOKENS_PER_MINUTE
from tport.engine.errors import NotSignedIn
from tport.engine.proto.head import RequestHead as HttpHead
from tport.engine.proxy.app_session import Clock, Credentials
from tport.engine.proxy.offers import Offers
from tport.engine.types.device_token import device_token_id
from tport.engine.types.session import AppSession

REFUSED: Final = "device-token"  # the one reason that is told, whatever is wrong


class DeviceTokens:
    """Finds the session of a request that shows a device token."""

    def __init__(
        self,
        *,
        cache: AuthCache,
        credentials: Credentials,
        events: EventQueue,
        offers: Offers,
        clock: Clock,
    ) -> None:
        self._cache = cache
        self._credentials = credentials
        self._events = events
        self._offers = offers
        self._limiter = AddressLimiter(
            clock, per_minute=DEVICE_TOKENS_PER_MINUTE, burst=DEVICE_TOKEN_BURST
        )

    async def session(self, secret: str, request: HttpHead, remote: str) -> AppSession:
        """Return the live session of a device token, at this host.

        Args:
            secret: what `proto.device_token` found; "": nothing that could be one.

        Raises:
            NotSignedIn: it is wrong, over, or for another application.
            LimitExceeded: and this address has shown too many such.
            Unavailable: auth can't be asked.
        """
        try:
            if not secret:
                raise NotSignedIn("not signed in", reason="not of a device token's form")
            session = await self._live(device_token_id(secret), request, remote)
            if not self._is_at(session, request.host):
                raise NotSignedIn("not signed in", reason=f"it is for {session.app}")
        except NotSignedIn as wrong:
            self._limiter.check(remote)
            self._limiter.take(remote)
            self._events.put(
                "auth.failed",
                error=f"a device token was refused: {wrong.reason}",
                app_public_addr=request.host,
                **{"addr.remote": remote},
            )
            raise NotSignedIn("not signed in", reason=REFUSED) from None
        return session

    async def _live(self, id_: str, request: HttpHead, remote: str) -> AppSession:
        """Return a token's session: as it is remembered, else as auth gives it now."""
        self._cache.check_fresh()
        if (known := self._cache.live_session(id_)) is not None:
            return known
        session = await self._cache.app_session(id_)
        # The user may have changed since: what was signed before is of an older epoch.
        self._credentials.forget(id_)
        self._events.put(
            "device_token.use",
            user=session.user,
            app_name=session.app,
            app_public_addr=request.host,
            sid=id_,
            **{"addr.remote": remote},
        )
        return session

    def _is_at(self, session: AppSession, host: str) -> bool:
        """Tell whether the token's application is at this host, by any of its addresses.

        While it is away nobody here knows them: then by the main one, which auth told.
        """
        here = self._offers.at(host)
        return here.name == session.app if here is not None else host == session.host
