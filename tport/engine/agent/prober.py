"""Answers auth's questions what an application needs: one at a time, the answer told by a call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NoReturn

import trio

from tport.engine.agent import debug_app
from tport.engine.agent.findings import judge
from tport.engine.agent.passage import Offered
from tport.engine.agent.probe import observe
from tport.engine.api.changes import ProbeAsked
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import PROBE_DEADLINE
from tport.engine.errors import TportError
from tport.engine.types.app import App
from tport.engine.types.probe import Finding, ProbeReport, Verdict

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 4  # questions; one more is dropped, and whoever asked it hears nothing

Clock = Callable[[], datetime]


async def try_app(
    app: App, public: str, *, hostname: str, clock: Clock, deadline: float = PROBE_DEADLINE
) -> ProbeReport:
    """Try an application from this machine and say what was found; see `probe`, `findings`.

    Args:
        public: host[:port] at which people reach it.
        hostname: of this machine.
        deadline: seconds for all of it.

    Raises:
        InvalidRequest, ConfigError: the definition itself can't be served.
    """
    observed, known = await observe(app, public, hostname=hostname, clock=clock, deadline=deadline)
    return judge(app, public, observed, known, hostname=hostname)


class Prober:
    """Tries what this agent offers. `keep` runs beside the tunnels."""

    def __init__(
        self,
        offered: Mapping[str, Offered],
        auth: AuthAPI,
        *,
        public_address: Callable[[str], str],
        hostname: str,
        clock: Clock,
    ) -> None:
        """`public_address`: host[:port] of an application by its name, as far as it was told."""
        self._offered = offered
        self._auth = auth
        self._public_address = public_address
        self._hostname = hostname
        self._clock = clock
        self._send, self._questions = trio.open_memory_channel[ProbeAsked](MAX_WAITING)

    def ask(self, question: ProbeAsked) -> None:
        """Put a question; never waits."""
        try:
            self._send.send_nowait(question)
        except trio.WouldBlock:
            logger.warning("too many applications are to be tried at once; %s isn't", question.app)

    async def keep(self) -> NoReturn:
        """Answer questions until cancelled."""
        while True:
            question = await self._questions.receive()
            report = await self._try(question.app)
            try:
                await self._auth.probed(id=question.id, report=report)
            except TportError as problem:
                logger.warning("what %s needs could not be told: %s", question.app, problem)

    async def _try(self, name: str) -> ProbeReport:
        offered = self._offered.get(name)
        if offered is None:
            return self._failed(name, "this agent does not offer it any more")
        if offered.app is debug_app.DEFINITION:  # it isn't at its URI, and who is gets no request
            return self._only(name, "ok", "it is the agent's own debug app, and needs nothing")
        try:
            return await try_app(
                offered.app,
                self._public_address(name),
                hostname=self._hostname,
                clock=self._clock,
            )
        except TportError as problem:
            return self._failed(name, str(problem), problem.hint)
        except Exception:
            logger.exception("trying %s failed", name)
            return self._failed(name, "the agent failed in trying it; its log says how")

    def _failed(self, name: str, why: str, hint: str = "") -> ProbeReport:
        return self._only(name, "fails", why, hint)

    def _only(self, name: str, verdict: Verdict, saw: str, advice: str = "") -> ProbeReport:
        finding = Finding(check="connection", verdict=verdict, saw=saw, advice=advice)
        return ProbeReport(
            app=name, uri="", public="", hostname=self._hostname, findings=(finding,)
        )
