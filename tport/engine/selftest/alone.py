"""`tport selftest`: tport's own path, through a cluster to throw away to an application of our own."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from tport.engine.config.address import Address
from tport.engine.errors import TportError
from tport.engine.net.dial import dial_tcp, open_listener
from tport.engine.pki.contexts import https_context
from tport.engine.selftest import report
from tport.engine.selftest.failure import Failure, PathFailed
from tport.engine.selftest.figures import Figure, apart, carried, grown, timed, timed_p99
from tport.engine.selftest.headers import Expected, headers_figure, planted
from tport.engine.selftest.line import Way
from tport.engine.selftest.memory import UNKNOWN, MemoryWatch
from tport.engine.selftest.payload import GAP
from tport.engine.selftest.probes import (
    Transfer,
    ask_once,
    check_answer,
    download,
    sent_checksum,
    time_echoes,
    time_events,
    time_requests,
    upload,
)
from tport.engine.selftest.report import Report
from tport.engine.selftest.throwaway import APP, ThrowAway, open_throwaway
from tport.engine.selftest.upstream import Upstream
from tport.engine.selftest.visitor import USER_AGENT, Visitor, decoded

USER: Final = "selftest"
ROLE: Final = "access"  # opens every application
EVENT_ROUNDS: Final = 3  # streams each way; a round takes twice the gap between events

Tell = Callable[[str], None]
Probe = Callable[[], Awaitable[Sequence[Figure]]]


async def measure_alone(*, size: int, rounds: int, size_text: str, tell: Tell) -> Report:
    """Measure everything.

    Args:
        size: bytes down, and up.
        rounds: of requests and of WebSocket messages, each way.
        size_text: the size for people.
        tell: is told what is being done.

    Raises:
        TportError: the cluster does not start, or nobody can sign in.
    """
    listener = await open_listener(Address("127.0.0.1", 0))
    port = int(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(Upstream(size).serve, listener)
        tell("starting auth, proxy and an agent")
        async with open_throwaway(f"http://127.0.0.1:{port}") as cluster:
            tell("signing up")
            setting = await _set_up(cluster, port)
            found = await _Measurement(setting, size, rounds, size_text, tell).run()
        nursery.cancel_scope.cancel()
    return found


@dataclass(frozen=True)
class _Setting:
    """What is measured: the cluster, its visitor, and both ways to the application."""

    cluster: ThrowAway
    visitor: Visitor
    uri: str
    public: str  # host:port of the application
    name: str  # of the cluster
    direct: Way
    through: Way

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.direct, self.through


async def _set_up(cluster: ThrowAway, port: int) -> _Setting:
    invite = await cluster.auth.create_user(name=USER, roles=(ROLE,), traits={})
    authorities = await cluster.auth.authorities()
    visitor = Visitor(https_context(authorities=authorities.web))
    await visitor.sign_up(invite.url, secrets.token_urlsafe())
    public = f"{APP}.{cluster.proxy_addr}"
    await visitor.enter(f"https://{public}/")
    host = f"127.0.0.1:{port}"

    async def dial() -> trio.abc.Stream:
        return await dial_tcp("127.0.0.1", port)

    headers = ((b"host", host.encode()), (b"user-agent", USER_AGENT), (b"accept", b"*/*"))
    return _Setting(
        cluster=cluster,
        visitor=visitor,
        uri=f"http://{host}",
        public=public,
        name=authorities.cluster,
        direct=Way("the application", dial, headers),
        through=visitor.way(f"https://{public}/"),
    )


class _Measurement:
    """One run of all probes; one that fails costs its own figures and no others."""

    def __init__(
        self, setting: _Setting, size: int, rounds: int, size_text: str, tell: Tell
    ) -> None:
        self._setting = setting
        self._size = size
        self._rounds = rounds
        self._tell = tell
        self._size_text = size_text
        self._wanted = ""  # the checksum of what is sent, once it is known
        self._failure: Failure | None = None
        self._advice: list[str] = []

    async def run(self) -> Report:
        down = report.transfer("download", f"download of {self._size_text}")
        up = report.transfer("upload", f"upload of {self._size_text}")
        probes: tuple[tuple[str, Sequence[Figure], Probe], ...] = (
            ("timing requests", report.REQUESTS, self._requests),
            ("waiting for events", report.EVENTS, self._events),
            (f"downloading {self._size_text}", down, lambda: self._transfer(down, download)),
            (f"uploading {self._size_text}", up, lambda: self._transfer(up, upload)),
            ("timing WebSocket messages", report.ECHOES, self._echoes),
            ("comparing headers", (report.HEADERS,), self._headers),
        )
        figures: list[Figure] = []
        for doing, blanks, probe in probes:
            self._tell(doing)
            figures += await self._attempt(blanks, probe)
        return Report(
            app="",
            proxy=self._setting.cluster.proxy_addr,
            size=self._size,
            figures=tuple(figures),
            failure=self._failure,
            advice=tuple(dict.fromkeys(self._advice)),
        )

    async def _attempt(self, blanks: Sequence[Figure], probe: Probe) -> Sequence[Figure]:
        try:
            return await probe()
        except TportError as problem:
            if isinstance(problem, PathFailed):
                self._failure = self._failure or problem.failure
            if problem.hint:
                self._advice.append(problem.hint)
            return report.broken(blanks, str(problem))

    async def _requests(self) -> Sequence[Figure]:
        direct, through = await time_requests(self._setting.ways, b"/", self._rounds)
        middle, last = report.REQUESTS
        return (
            timed(middle, direct.whole, through.whole),
            timed_p99(last, direct.whole, through.whole),
        )

    async def _events(self) -> Sequence[Figure]:
        direct, through = await time_events(self._setting.ways, EVENT_ROUNDS)
        delay, gap = report.EVENTS
        return timed(delay, direct.late, through.late), apart(gap, GAP, direct.gaps, through.gaps)

    async def _transfer(
        self,
        blanks: tuple[Figure, Figure, Figure],
        carry: Callable[[Way, int], Awaitable[Transfer]],
    ) -> Sequence[Figure]:
        self._wanted = wanted = self._wanted or await sent_checksum(self._size)
        straight = await carry(self._setting.direct, self._size)
        proxy = MemoryWatch(self._setting.cluster.proxy)
        agent = MemoryWatch(self._setting.cluster.agent)
        through = await carry(self._setting.through, self._size)
        rate, of_proxy, of_agent = blanks
        return (
            carried(rate, self._size, direct=straight, through=through, wanted=wanted),
            grown(of_proxy, proxy.grown(), unknown=UNKNOWN),
            grown(of_agent, agent.grown(), unknown=UNKNOWN),
        )

    async def _echoes(self) -> Sequence[Figure]:
        direct, through = await time_echoes(self._setting.ways, self._rounds)
        small, large = report.ECHOES
        return (
            timed(small, direct.small, through.small),
            timed(large, [direct.large], [through.large]),
        )

    async def _headers(self) -> Sequence[Figure]:
        setting = self._setting
        liar = replace(setting.through, headers=planted(setting.through.headers))
        answer = await ask_once(liar, b"/headers")
        check_answer(answer, setting.through.peer)
        seen = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in decoded(answer.body, list[tuple[str, str]], "/headers")
        ]
        keys = f"https://{setting.cluster.proxy_addr}/.well-known/jwks.json"
        jwks = await setting.visitor.get_json(keys)
        expected = Expected(
            host=setting.uri.removeprefix("http://"),
            public=setting.public,
            remote="127.0.0.1",
            user=USER,
            app=APP,
            audience=setting.uri,
            cluster=setting.name,
        )
        return (headers_figure(report.HEADERS, seen, expected, jwks),)
