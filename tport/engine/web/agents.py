"""The page about agents and what they offer, and trying an application through its agent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.catalogue import AppInfo
from tport.engine.errors import NotFound
from tport.engine.types.app import AppServer
from tport.engine.types.probe import Check, Finding, Proposal, Verdict
from tport.engine.web.apps import LACKS, app_url, state_of
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit, sentence

LIST: Final = "/web/agents"
SHOW: Final = ("app_server", "list")
TRY: Final = ("app_server", "update")

CHECKS: Final[Mapping[Check, str]] = {
    "connection": "Connection",
    "page": "First page",
    "host": "Host header",
    "origin": "Origin header",
    "redirects": "Redirects",
    "cookies": "Cookies",
    "websocket": "WebSockets",
    "events": "Server-sent events",
    "headers": "Size of headers",
    "path": "Sub-directory",
    "icon": "Icon",
    "known": "Its own documentation",
}
VERDICTS: Final[Mapping[Verdict, tuple[str, str]]] = {
    "ok": ("works", "good"),
    "note": ("worth knowing", ""),
    "change": ("needs a setting", "bad"),
    "fails": ("does not work", "bad"),
}


class Offer(NamedTuple):
    """An application at one agent.

    `cause` and `failed`: why, and when, it failed the last time; "" and None: it didn't.
    """

    agent: str
    uri: str
    labels: tuple[str, ...]
    refused: str
    state: str = ""
    mood: str = ""
    since: Since | None = None
    cause: str = ""
    advice: str = ""
    failed: Since | None = None


class AppRow(NamedTuple):
    """An application as the list shows it; `url` "" when it can't be opened now."""

    name: str
    url: str
    address: str
    description: str
    state: str
    mood: str
    since: Since | None
    lacks_certificate: bool
    offers: tuple[Offer, ...]
    check_url: str


class AgentRow(NamedTuple):
    name: str
    id: str
    version: str
    remote: str
    since: Since
    apps: tuple[str, ...]


class AgentPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list, SHOW),
            signed_in.form("/web/app/{name}/check", self.ask, self.submit_ask, TRY),
            signed_in.get("/web/check/{id}", self.result, TRY),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/agents"""
        status = await visit.auth.status()
        offered = defaultdict(list)
        for server in status.app_servers:
            offered[server.host_id].append(server.app.name)
        agents = [
            AgentRow(
                name=agent.hostname or agent.host_id,
                id=agent.host_id,
                version=agent.version,
                remote=agent.remote,
                since=clock_time(agent.since, visit.now),
                apps=tuple(sorted(offered[agent.host_id])),
            )
            for agent in sorted(status.agents, key=lambda one: (one.hostname, one.host_id))
        ]
        apps = [app_row(info, visit) for info in await visit.auth.list_apps()]
        return await visit.page(
            "agents.html",
            agents=agents,
            apps=apps,
            own_version=status.version,
            degraded=[sentence(each) for each in status.degraded],
            copied=[
                (sentence(lock.message), lock.target.server_id, clock_time(lock.created, visit.now))
                for lock in status.copied
                if lock.created is not None
            ],
        )

    # Trying

    async def ask(self, visit: Visit) -> Response:
        """GET /web/app/{name}/check: a form, for it makes an agent send requests."""
        name = visit.part("name")
        if (info := await find_app(visit, name)) is None:
            raise NotFound(f"no application is called {name[:63]!r}")
        return await visit.page("check.html", app=app_row(info, visit), list_url=LIST)

    async def submit_ask(self, visit: Visit) -> Response:
        """POST /web/app/{name}/check"""
        name = visit.part("name")
        probe = await visit.auth.start_probe(app=name, agent=visit.form.get("agent", ""))
        return visit.done(f"/web/check/{quote(probe)}?{urlencode({'app': name})}", "")

    async def result(self, visit: Visit) -> Response:
        """GET /web/check/{id}?app=<name>: what was found, or that the agent is still at it."""
        name = visit.request.query_params.get("app", "")[:63]
        report = await visit.auth.probe_result(id=visit.part("id"))
        info = await find_app(visit, name)
        return await visit.page(
            "checked.html",
            app=name,
            url=app_row(info, visit).url if info else "",
            report=report,
            findings=[_finding(each) for each in report.findings] if report else (),
            settings=proposed(report.proposal) if report else "",
            here=f"{visit.path}?{urlencode({'app': name})}",
            again=f"/web/app/{quote(name)}/check",
            list_url=LIST,
        )


async def find_app(visit: Visit, name: str) -> AppInfo | None:
    return next((info for info in await visit.auth.list_apps() if info.name == name), None)


class FindingRow(NamedTuple):
    check: str
    verdict: str
    mood: str
    saw: str
    advice: str


def _finding(finding: Finding) -> FindingRow:
    verdict, mood = VERDICTS[finding.verdict]
    return FindingRow(
        CHECKS[finding.check], verdict, mood, sentence(finding.saw), sentence(finding.advice)
    )


def proposed(proposal: Proposal) -> str:
    """Write what should be set as the application's lines of the agent's file; "": nothing."""
    lines = [f"uri: {proposal.uri}"] if proposal.uri else []
    if proposal.insecure_skip_verify:
        lines.append("insecure_skip_verify: true")
    rewrite = [f"  - {host}" for host in proposal.redirect]
    rewrite = ["  redirect:", *rewrite] if rewrite else []
    if proposal.host:
        rewrite += ["  headers:", f'  - "Host: {proposal.host}"']
    if proposal.jwt_claims:
        rewrite.append(f"  jwt_claims: {proposal.jwt_claims}")
    return "\n".join([*lines, "rewrite:", *rewrite] if rewrite else lines)


def app_row(info: AppInfo, visit: Visit) -> AppRow:
    state, mood = state_of(
        up=info.up, answers=info.answers, lacks_certificate=info.lacks_certificate
    )
    if info.refused and not info.servers:
        state, mood = "refused", "bad"
    servers = info.servers if info.up else ()
    return AppRow(
        name=info.name,
        url=app_url(info.address) if info.up and info.address else "",
        address=info.address,
        description=next((s.app.description for s in info.servers if s.app.description), ""),
        state=state,
        mood=mood,
        since=clock_time(info.since, visit.now) if info.since and state != LACKS else None,
        lacks_certificate=info.up and info.lacks_certificate,
        offers=tuple(_offers((*servers, *info.refused), visit)),
        check_url=f"/web/app/{quote(info.name)}/check" if info.up else "",
    )


def _offers(servers: Sequence[AppServer], visit: Visit) -> list[Offer]:
    offers = []
    for server in servers:
        offer = Offer(
            agent=server.hostname or server.host_id,
            uri=server.app.uri,
            labels=tuple(f"{key}={value}" for key, value in sorted(server.labels.items())),
            refused=sentence(server.refused),
        )
        if (health := server.health) is not None:
            state, mood = state_of(up=True, answers=health.up)
            offer = offer._replace(
                state=state,
                mood=mood,
                since=clock_time(health.since, visit.now),
                cause=f"{health.cause}." if health.cause else "",
                advice=health.advice,
                failed=clock_time(health.failed, visit.now) if health.failed else None,
            )
        offers.append(offer)
    return offers
