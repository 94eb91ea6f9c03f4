"""`tport selftest APP`: the path through the cluster that runs, to one of its applications.

The visitor is a user made for this and removed at the end, whatever happens. Signing in never
reaches the application; what does is GET of its front page.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio

from tport.engine.api.answers import ClusterStatus
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import ConnectionProblem, NotFound, TportError
from tport.engine.pki.contexts import https_context
from tport.engine.selftest import report
from tport.engine.selftest.direct import direct_way, front_page
from tport.engine.selftest.failure import Failure, PathFailed, failure_in
from tport.engine.selftest.figures import Figure, timed, timed_p99
from tport.engine.selftest.headers import Expected, dumped, headers_figure, planted
from tport.engine.selftest.line import CutOff, Silent, Way
from tport.engine.selftest.probes import Times, ask_once, check_answer, time_requests
from tport.engine.selftest.report import Report
from tport.engine.selftest.visitor import Visitor
from tport.engine.types.app import DEBUG_APP, AppServer, public_host

USER_PREFIX: Final = "selftest-"  # so that an operator sees in lists and logs what it was
REMOVAL: Final = 10.0  # s that the user's removal may take, also after Ctrl-C

Tell = Callable[[str], None]


async def measure_app(
    auth: AuthAPI,
    name: str,
    *,
    roles: tuple[str, ...],
    rounds: int,
    tell: Tell,
    warn: Tell,
    own_host_id: str = "",
    direct: bool = False,
) -> Report:
    """Go to the application as a visitor, and measure.

    Args:
        auth: an administrator's.
        roles: of the visitor.
        rounds: of requests, each way.
        tell: is told what is being done; `warn`, what must not be missed.
        own_host_id: of the agent that this machine is, "" for none.
        direct: its address is asked from here, wherever its agent is.

    Raises:
        NotFound: no agent offers it now, or there is no such role.
        ConnectionProblem: no proxy is known.
        TportError: no user could be made.
    """
    status = await auth.status()
    server = _offer(status, name)
    if not status.proxy_addrs:
        raise ConnectionProblem("no proxy has reported yet", hint="see: tport status --wait")
    user = USER_PREFIX + secrets.token_hex(4)
    try:
        tell(f"making the user {user}")
        with trio.CancelScope(shield=True):  # half made it might not be removed; auth has 10 s
            invite = await auth.create_user(name=user, roles=roles, traits={})
        way = partial(direct_way, own_host_id=own_host_id, anyway=direct)
        visit = _Visit(auth, status, server, user, rounds, tell, way)
        found = await visit.run(invite.url)
    finally:
        problem = f"auth did not answer within {REMOVAL:g} s"
        with trio.move_on_after(REMOVAL, shield=True):  # also while we are being stopped
            problem = await _remove(auth, user)
        if problem:
            warn(f"the user {user} could not be removed ({problem}): tport users rm {user}")
    removed = report.REMOVED.failed(problem) if problem else report.REMOVED.noted(user)
    return msgspec.structs.replace(found, figures=(*found.figures, removed))


def _offer(status: ClusterStatus, name: str) -> AppServer:
    """Return an offer of the application that counts."""
    offers = [server for server in status.app_servers if server.app.name == name]
    for server in offers:
        if not server.refused:
            return server
    if offers:
        raise NotFound(
            f"{name} is offered by an agent, and refused: {offers[0].refused}",
            hint="correct it in the agent's file, if it has one: it is read again by itself",
        )
    names = sorted({server.app.name for server in status.app_servers if not server.refused})
    raise NotFound(
        f"no agent offers an application called {name[:128]!r} now",
        hint=f"there are: {', '.join(names)}" if names else "there is none: tport tokens add",
    )


async def _remove(auth: AuthAPI, user: str) -> str:
    """Remove the user; return why it can't be done, or ""."""
    try:
        await auth.delete_user(name=user)
    except NotFound:
        pass  # it was never made
    except TportError as problem:
        return str(problem)
    return ""


class _Visit:
    """One visitor's way to one application, and what it is like."""

    def __init__(
        self,
        auth: AuthAPI,
        status: ClusterStatus,
        server: AppServer,
        user: str,
        rounds: int,
        tell: Tell,
        direct_way: Callable[[AppServer, str], Way],
    ) -> None:
        self._auth = auth
        self._status = status
        self._server = server
        self._app = server.app
        self._user = user
        self._rounds = rounds
        self._tell = tell
        self._direct_way = direct_way
        self._proxy = status.proxy_addrs[0].removesuffix(":443")
        proxy = urlsplit(f"//{self._proxy}")
        host = public_host(self._app, proxy.hostname or "")
        self._public = f"{host}:{proxy.port}" if proxy.port else host
        self._target = front_page(self._app.uri)
        self._failure: Failure | None = None
        self._advice: list[str] = []

    async def run(self, invite: str) -> Report:
        measured = (report.STATUS, *report.REQUESTS, report.FIRST_BYTE)
        if self._app.name == DEBUG_APP:
            measured = (*measured, report.HEADERS)
        try:
            sign_in, visitor, cluster = await self._enter(invite)
        except TportError as problem:
            self._remember(problem)
            figures = report.broken((report.SIGN_IN, *measured), str(problem))
        else:
            through = visitor.way(f"https://{self._public}/")
            figures = (sign_in, *await self._measure(through))
            if self._app.name == DEBUG_APP:
                figures = (*figures, await self._headers(visitor, through, cluster))
        return Report(
            app=self._app.name,
            proxy=self._status.proxy_addrs[0],
            size=None,
            figures=figures,
            failure=self._failure,
            advice=tuple(dict.fromkeys(filter(None, self._advice))),
        )

    async def _enter(self, invite: str) -> tuple[Figure, Visitor, str]:
        """Sign up and open the application; return how long that took, and the cluster's name."""
        authorities = await self._auth.authorities()
        visitor = Visitor(https_context(authorities=authorities.web, and_system=True))
        self._tell(f"signing up at https://{self._proxy} and opening https://{self._public}")
        start = trio.current_time()
        await visitor.sign_up(invite, secrets.token_urlsafe())
        await visitor.enter(f"https://{self._public}/")
        took = trio.current_time() - start
        return timed(report.SIGN_IN, [], [took]), visitor, authorities.cluster

    def _remember(self, problem: TportError) -> None:
        """Keep where the way broke, and what to do about it."""
        if self._failure is None:
            self._failure = _failure_of(problem)
        self._advice.append(problem.hint)

    async def _measure(self, through: Way) -> Sequence[Figure]:
        """Return STATUS and the times."""
        timings = (*report.REQUESTS, report.FIRST_BYTE)
        self._tell("asking for the front page")
        try:
            first = await ask_once(through, self._target)
            if failure := failure_in(first.status, first.headers, first.body):
                raise PathFailed(failure)
        except TportError as problem:
            self._remember(problem)
            why = str(problem)
            if isinstance(problem, Silent):  # whose fault is it?
                _, straight, elsewhere = await self._straight()
                why += f"; {elsewhere}" if elsewhere else f"; directly it answers: {straight}"
            return report.broken((report.STATUS, *timings), why)
        direct, straight, why = await self._straight()
        status = msgspec.structs.replace(
            report.STATUS, through=first.status, direct=straight, samples=1, note=why
        )
        if first.status >= 500:
            status = status.failed("it says so itself: look there, not at tport")
        self._tell("timing requests")
        return status, *await self._times(direct, through, whole=first.whole)

    async def _straight(self) -> tuple[Way | None, int | None, str]:
        """Return the way to the application from here and the status there, or why there is none."""
        remotes = {agent.host_id: agent.remote for agent in self._status.agents}
        try:
            way = self._direct_way(self._server, remotes.get(self._server.host_id, ""))
            answer = await ask_once(way, self._target)
        except TportError as problem:
            return None, None, f"not compared with asking it directly: {problem}"
        return way, answer.status, ""

    async def _times(self, direct: Way | None, through: Way, *, whole: bool) -> Sequence[Figure]:
        middle, last = report.REQUESTS
        ways = (through,) if direct is None else (through, direct)
        try:
            via, *straight = await time_requests(ways, self._target, self._rounds)
        except TportError as problem:
            if direct is not None:  # it may be that way alone: then it can't be compared
                return await self._times(None, through, whole=whole)
            self._remember(problem)
            return report.broken((*report.REQUESTS, report.FIRST_BYTE), str(problem))
        bare = straight[0] if straight else Times([], [])
        figures = (
            timed(middle, bare.whole, via.whole),
            timed_p99(last, bare.whole, via.whole),
            timed(report.FIRST_BYTE, bare.head, via.head),
        )
        if whole:
            return figures
        note = "the page is long, or never ends: the first of it was read"
        return *(figure.noted(note) for figure in figures[:2]), figures[2]

    async def _headers(self, visitor: Visitor, through: Way, cluster: str) -> Figure:
        """Compare what `dumper` shows."""
        self._tell("comparing headers")
        try:
            liar = replace(through, headers=planted(through.headers))
            answer = await ask_once(liar, self._target)
            check_answer(answer, through.peer)
            jwks = await visitor.get_json(f"https://{self._proxy}/.well-known/jwks.json")
        except TportError as problem:
            return report.HEADERS.failed(str(problem))
        expected = Expected(
            host=urlsplit(self._app.uri).netloc,
            public=self._public,
            remote="",
            user=self._user,
            app=self._app.name,
            audience=self._app.uri,
            cluster=cluster,
        )
        return headers_figure(report.HEADERS, dumped(answer.body), expected, jwks)


def _failure_of(problem: TportError) -> Failure:
    """Return where the way broke, by what the visitor saw of it."""
    hop, error = "proxy", "not-opened"
    match problem:
        case PathFailed():
            return problem.failure
        case Silent():
            hop, error = "unknown", "timeout"
        case CutOff():
            error = "cut-off"
        case ConnectionProblem():
            hop, error = "you", "unreachable"
    return Failure(hop=hop, error=error, cause=str(problem))
