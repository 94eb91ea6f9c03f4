"""Fetches the icons of applications when auth asks: a picture of the application's own, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import trio

from tport import __version__
from tport.engine.agent.nobody import Nobody, target_of
from tport.engine.agent.observed import Failed, Page, Seen, uri_host
from tport.engine.agent.passage import Offered
from tport.engine.api.changes import IconAsked
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import TportError
from tport.engine.types.icon import icon_of

logger = logging.getLogger(__name__)

DEADLINE: Final = 20.0  # s for one application: its page, its icon, redirects between them
MAX_WAITING: Final = 64  # questions; one more is dropped, and auth asks again
AT_ONCE: Final = 4  # applications
MAX_TRIED: Final = 3  # icons that a page names, before /favicon.ico

_HEADERS: Final = (
    (b"user-agent", f"tport/{__version__} (icon)".encode()),
    (b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
    (b"accept-encoding", b"identity"),
)
_PICTURES: Final = (
    (b"accept", b"image/png,image/x-icon,image/webp,image/gif,image/jpeg;q=0.9,*/*;q=0.1"),
)


async def fetch_icon(offered: Offered, public: str, *, hostname: str) -> bytes | None:
    """Ask an application for its icon; never raises for what it does.

    Args:
        public: host[:port] at which people reach it.
        hostname: of this machine.

    Returns:
        The picture; b"": it has none that could be served; None: it gives no answer.
    """
    nobody = Nobody(
        public, hostname=hostname, headers=_HEADERS, until=trio.current_time() + DEADLINE
    )
    app, upstream = offered.app, offered.upstream
    first = await nobody.ask(upstream, app, target_of(app.uri))
    if isinstance(first, Failed):
        return None
    upstream.health.answered(first.status, trio.current_time())
    if first.status >= 500:
        return None  # it is starting, or broken: its page names no icon
    own = frozenset({uri_host(app.uri), public})
    page = Page(await nobody.land(upstream, app, first), own)
    for target in dict.fromkeys((*page.icons[:MAX_TRIED], "/favicon.ico")):
        reply = await nobody.ask(upstream, app, target, extra=_PICTURES)
        if isinstance(reply, Seen):
            reply = await nobody.land(upstream, app, reply, extra=_PICTURES)
            if reply.status == 200 and reply.is_whole and icon_of(reply.body) is not None:
                return reply.body
    return b""


class Icons:
    """Answers auth's questions for icons. `keep` runs beside the tunnels."""

    def __init__(
        self,
        offered: Mapping[str, Offered],
        auth: AuthAPI,
        *,
        public_address: Callable[[str], str],
        hostname: str,
    ) -> None:
        """`public_address`: host[:port] of an application by its name, as far as it was told."""
        self._offered = offered
        self._auth = auth
        self._public_address = public_address
        self._hostname = hostname
        self._send, self._questions = trio.open_memory_channel[IconAsked](MAX_WAITING)

    def ask(self, question: IconAsked) -> None:
        """Put a question; never waits."""
        try:
            self._send.send_nowait(question)
        except trio.WouldBlock:
            logger.debug("too many icons are asked for at once; that of %s isn't", question.app)

    async def keep(self) -> NoReturn:
        """Answer questions until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE - 1):
                nursery.start_soon(self._answer)
            await self._answer()
        raise AssertionError("_answer never returns")

    async def _answer(self) -> NoReturn:
        while True:
            question = await self._questions.receive()
            offered = self._offered.get(question.app)
            icon = None
            if offered is not None:
                try:
                    icon = await fetch_icon(
                        offered, self._public_address(question.app), hostname=self._hostname
                    )
                except Exception:
                    logger.exception("the icon of %s could not be fetched", question.app)
            try:
                await self._auth.tell_icon(
                    app=question.app, icon=icon or b"", answered=icon is not None
                )
            except TportError as problem:
                logger.debug("the icon of %s could not be told: %s", question.app, problem)
