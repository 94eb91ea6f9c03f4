"""Probes: an administrator asks, the agent that offers the application tries it and tells.

The question travels in the agent's watch, the answer in a call of its own: both are between auth
and that agent alone, and no proxy can ask. Nothing is stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

import trio
from msgspec.structs import replace

from tport.engine.api.changes import ProbeAsked
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.machines.watch import Watches
from tport.engine.config.app_rules import check_redirect, check_uri
from tport.engine.defaults import PROBE_DEADLINE
from tport.engine.errors import InvalidRequest, LimitExceeded, NotFound
from tport.engine.proto.host import split_host
from tport.engine.types.app import AppServer
from tport.engine.types.probe import Check, Finding, ProbeReport

MAX_PROBES: Final = 16  # at a time, in the whole cluster
KEPT: Final = PROBE_DEADLINE + 60.0  # s from the question on that an answer is waited for
MAX_RESULTS: Final = 64  # that can still be read
RESULT_KEPT: Final = 600.0  # s that a result can be read, and a page that shows it loaded anew
WAIT: Final = 5.0  # s that one call waits; callers give up after 10
MAX_FINDINGS: Final = 40  # of one report; and hosts in its proposal
MAX_TEXT: Final = 2000  # characters of one text in it


class _Asked:
    """A probe. `report`: None until the agent has told."""

    def __init__(self, server: AppServer) -> None:
        self.server = server
        self.until = trio.current_time() + KEPT
        self.report: ProbeReport | None = None
        self.done = trio.Event()


class Probes:
    def __init__(self, cluster: Cluster, presence: Presence, watches: Watches) -> None:
        self._cluster = cluster
        self._presence = presence
        self._watches = watches
        self._asked: dict[str, _Asked] = {}

    async def start(self, app: str, agent: str, by: str) -> str:
        """Ask an agent that offers `app`; see `AuthAPI.start_probe`."""
        self._forget()
        if sum(asked.report is None for asked in self._asked.values()) >= MAX_PROBES:
            raise LimitExceeded(f"{MAX_PROBES} applications are being tried; wait for these")
        for server in self._offering(app, agent):
            probe = secrets.token_urlsafe(16)
            if self._watches.ask(server.host_id, ProbeAsked(id=probe, app=app)):
                self._asked[probe] = _Asked(server)
                await self._cluster.record(
                    "app.probe", app_name=app, user=by, host_id=server.host_id
                )
                return probe
        where = f" at {agent}" if agent else ""
        raise NotFound(
            f"no agent{where} offers {app[:63]!r} now",
            hint="tport apps ls shows what is offered; on the agent's own machine,"
            f" tport --config FILE apps check {app[:63]} tries what its file says",
        )

    def _offering(self, app: str, agent: str) -> list[AppServer]:
        """Return who offers it, those whose offer counts first; faulty ones have no URI to try."""
        found = [
            server
            for server in self._presence.servers
            if server.app.name == app
            and server.app.uri
            and agent in ("", server.hostname, server.host_id)
        ]
        return sorted(found, key=lambda server: bool(server.refused))

    async def result(self, probe: str) -> ProbeReport | None:
        """See `AuthAPI.probe_result`."""
        self._forget()
        asked = self._asked.get(probe)
        if asked is None:
            raise NotFound("there is no such probe any more; start it again")
        with trio.move_on_after(WAIT):
            await asked.done.wait()
        return asked.report

    def told(self, probe: str, report: ProbeReport, *, by: str) -> None:
        """Take what an agent found; see `AuthAPI.probed`."""
        asked = self._asked.get(probe)
        if asked is None or asked.server.host_id != by or asked.report is not None:
            raise NotFound("nobody asked for this probe")
        texts = [report.title, report.known, report.uri, report.public, report.hostname]
        texts += [text for f in report.findings for text in (f.saw, f.advice)]
        texts += [report.proposal.uri, report.proposal.host, *report.proposal.redirect]
        parts = max(len(report.findings), len(report.proposal.redirect))
        if parts > MAX_FINDINGS or max(map(len, texts)) > MAX_TEXT:
            raise InvalidRequest("the report of a probe is too long")
        if report.app != asked.server.app.name:
            raise InvalidRequest("the report is of another application")
        asked.report = cleaned(judged(report))
        asked.until = trio.current_time() + RESULT_KEPT
        asked.done.set()

    def _forget(self) -> None:
        now = trio.current_time()
        kept = [(id, asked) for id, asked in self._asked.items() if now < asked.until]
        running = [one for one in kept if one[1].report is None]
        told = [one for one in kept if one[1].report is not None]
        self._asked = dict((*told[-MAX_RESULTS:], *running))


def judged(report: ProbeReport) -> ProbeReport:
    """Return a report that proposes to copy nothing but URIs and hosts: an agent is not believed.

    What is another thing, as further lines of the agent's file, is left out, and a finding says why:
    an honest agent may meet a host that no setting can name.
    """
    proposal, findings = report.proposal, list(report.findings)

    def stands(check: Check, judge: Callable[[], object]) -> bool:
        try:
            judge()
        except InvalidRequest as problem:
            saw = f"what its agent proposes is left out: {problem}"
            findings.append(Finding(check=check, verdict="note", saw=saw))
            return False
        return True

    uri, host = proposal.uri, proposal.host
    proposal = replace(
        proposal,
        uri=uri if uri and stands("connection", lambda: check_uri(uri)) else "",
        host=host if host and stands("host", lambda: split_host(host.encode())) else "",
        redirect=tuple(
            each
            for each in proposal.redirect
            if stands("redirects", partial(check_redirect, f"[{each}]" if ":" in each else each))
        ),
    )
    return replace(report, proposal=proposal, findings=tuple(findings))


def cleaned(report: ProbeReport) -> ProbeReport:
    """Return a report whose texts are each one line that does nothing to a page or a terminal.

    They quote what an application sent, which may be anything.
    """
    return replace(
        report,
        uri=_line(report.uri),
        public=_line(report.public),
        hostname=_line(report.hostname),
        known=_line(report.known),
        title=_line(report.title),
        findings=tuple(
            replace(each, saw=_line(each.saw), advice=_line(each.advice))
            for each in report.findings
        ),
    )


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
