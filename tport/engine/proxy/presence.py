"""Telling auth that this proxy lives, and which agents it has."""

from __future__ import annotations

import logging
from typing import NoReturn

import trio

from tport.engine.api.answers import ProxyReport
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import PRESENCE_INTERVAL
from tport.engine.errors import TportError
from tport.engine.proxy.settings import ProxySettings
from tport.engine.proxy.tunnels import Tunnels

logger = logging.getLogger(__name__)


async def keep_presence(auth: AuthAPI, settings: ProxySettings, tunnels: Tunnels) -> NoReturn:
    """Tell auth what tunnels there are, at once when that changes and each few seconds."""
    while True:
        changed = tunnels.changed
        report = ProxyReport(
            proxy_id=settings.proxy_id,
            public_addrs=tuple(str(address) for address in settings.public_addrs),
            tunnels=tunnels.reports(),
        )
        try:
            await auth.report(report=report)
        except TportError as problem:
            logger.warning("presence not reported: %s", problem)
        with trio.move_on_after(PRESENCE_INTERVAL):
            await changed.wait()
