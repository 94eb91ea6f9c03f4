"""Looks whether this agent's applications answer, where no request tells it, and tells auth.

A look is a connection as a request makes one, hung up at once: nothing is sent to the application
but what TLS needs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NoReturn

import trio

from tport.engine.agent.passage import Offered
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import HEALTH_REPORT
from tport.engine.errors import TportError
from tport.engine.types.health import AppHealth

logger = logging.getLogger(__name__)

TICK: Final = 1.0  # s between two rounds: who is due, and is there news
# Looks that wait at a time. Behind a firewall that drops packets each takes its 10 s: a hundred
# such applications still get a look every 30.
LOOKS: Final = 32


class HealthWatch:
    """`keep` runs beside the tunnels; what requests met is in each application's `health` already."""

    def __init__(self, offered: Mapping[str, Offered], auth: AuthAPI) -> None:
        self._offered = offered
        self._auth = auth
        self._looking: set[Offered] = set()
        self._told: Mapping[str, object] = {}  # what auth knows, as far as it is told at once
        self._next_report = -float("inf")

    def tell_again(self) -> None:
        """Tell all of it soon: auth may have forgotten."""
        self._next_report = -float("inf")

    async def keep(self) -> NoReturn:
        """Look and tell until cancelled."""
        async with trio.open_nursery() as looks:
            looks.start_soon(self._keep_told)
            while True:
                for offer in list(self._offered.values()):
                    if len(self._looking) >= LOOKS:
                        break
                    if offer not in self._looking and offer.upstream.health.is_due(
                        trio.current_time()
                    ):
                        self._looking.add(offer)
                        looks.start_soon(self._look, offer)
                await trio.sleep(TICK)

    async def _look(self, offer: Offered) -> None:
        try:
            await offer.upstream.look()
        except Exception:
            logger.exception("looking whether %s answers failed", offer.app.name)
        finally:
            self._looking.discard(offer)

    async def _keep_told(self) -> NoReturn:
        while True:
            report = {
                name: told
                for name, offer in self._offered.items()
                if (told := offer.upstream.health.told) is not None
            }
            is_due = bool(report) and trio.current_time() >= self._next_report
            if is_due or _news(report) != self._told:
                await self._tell(report)
            await trio.sleep(TICK)

    async def _tell(self, report: Mapping[str, AppHealth]) -> None:
        self._next_report = trio.current_time() + HEALTH_REPORT
        self._log(report)
        self._told = _news(report)  # one that is lost comes again with the next report
        try:
            await self._auth.report_health(apps=report)
        except TportError as problem:
            logger.debug("how the applications are could not be told: %s", problem)

    def _log(self, report: Mapping[str, AppHealth]) -> None:
        """Say on this machine what has changed: beside an application one looks here first."""
        for name, health in report.items():
            before = self._told.get(name)
            if (before is None and health.up) or before == _key(health):
                continue
            if health.up:
                logger.info("application %s answers again", name)
            else:
                logger.warning("application %s is down: %s", name, health.cause)


def _key(health: AppHealth) -> tuple[bool, datetime, str]:
    """What is told at once. The causes of single failures come with the next report."""
    return health.up, health.since, "" if health.up else health.cause


def _news(report: Mapping[str, AppHealth]) -> Mapping[str, object]:
    return {name: _key(health) for name, health in report.items()}
