"""The agent's side of the reverse tunnels: one to each proxy process, kept up, replaced, dialled again.

All proxies may stand behind one address. A dial says which of them it is for, and processes that
share a port heed it; behind a balancer it may meet any. So it is repeated, spread over time,
until a tunnel to each live proxy (by its id) is held. A tunnel lives no longer than the
certificate it was opened with; after a renewal a new one takes the new streams, and the old one
ends with its last.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

import trio

import tport
from tport.engine.errors import ConnectionProblem, RemoteProtocolError, leaves
from tport.engine.net.control import next_control
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.receive_window import WindowBudget
from tport.engine.proto.tunnel import (
    SPOKEN,
    AgentHello,
    Inbox,
    Offers,
    Proxies,
    ProxyHello,
    Spoken,
    Verdicts,
    agreed,
    nothing_agreed,
    pack,
)

logger = logging.getLogger(__name__)

SOON: Final = 300.0  # s after a loss in which tries come at most QUICK apart
# s between two tries in that time: with what a dial takes, a restarted proxy has its agents back
# within 10.
QUICK: Final = 9.0
SLOW: Final = 60.0  # s between two tries after it
SPREAD: Final = 1.0  # s between dials that look for further proxies behind one address
STABLE: Final = 60.0  # s that a tunnel must have stood for the delays to begin anew after it
HELLO_DEADLINE: Final = 10.0  # s for the proxy to say hello
REFUSAL: Final = 1.0  # s for a proxy to hear that we have no protocol in common


def redial_delays(jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield the wait before each further try, in seconds: doubling, capped, spread from 0 to the whole."""
    delay, waited = 1.0, 0.0
    while True:
        wait = delay * jitter()
        waited += wait
        yield wait
        delay = min(delay * 2, QUICK if waited < SOON else SLOW)


class Dialled(NamedTuple):
    """A transport, and the id of the proxy at its far end: its certificate's word, not its own."""

    transport: trio.abc.Stream
    proxy_id: str


class _Held:
    """One tunnel that is up."""

    def __init__(self, proxy_id: str, mux: Mux, control: MuxStream, generation: int) -> None:
        self.proxy_id = proxy_id
        self.mux = mux
        self.control = control
        self.generation = generation  # of the certificate it was opened with
        self.retired = False
        self.since = trio.current_time()
        self.news = trio.Event()  # the offers changed, or it was retired


class TunnelKeeper:
    """Keeps the agent's tunnels; `renewed` and `offer_again` tell it what changed."""

    def __init__(
        self,
        *,
        agent_id: str,
        hostname: str,
        cluster: str,
        dial: Callable[[str], Awaitable[Dialled]],
        take: Callable[[MuxStream, trio.Nursery], None],
        offers: Callable[[], Offers],
        on_verdicts: Callable[[Verdicts], None],
        delays: Callable[[], Iterator[float]] = redial_delays,
    ) -> None:
        """
        Args:
            dial: opens a transport: TCP and mutual TLS with the newest certificate. Is given the
                id of the proxy that is meant; "": any will do.
            take: answers one stream, by a task of the nursery or none; what goes wrong stays in it.
            offers: what is offered now, with current labels.
            on_verdicts: told which offers a proxy refused, and the others' addresses.
            delays: makes the waits between tries, in seconds; made afresh once a tunnel stood
                for STABLE: a link that flaps is not dialled as if each time were the first.
        """
        self._agent_id = agent_id
        self._hostname = hostname
        self._cluster = cluster
        self._dial = dial
        self._take = take
        self._offers = offers
        self._on_verdicts = on_verdicts
        self._delays = delays
        self._held: dict[str, _Held] = {}
        self._wanted: frozenset[str] = frozenset()
        self._generation = 0
        self._news = trio.Event()  # a tunnel came or went, a proxy was named, a certificate came
        self._open_tunnels = 0  # those that are up, retired ones too
        self._stopping = False
        self._lost_stable = True  # what was lost last had stood for long
        self._budget = WindowBudget()  # of all tunnels together
        self.problem = ""  # why there is no tunnel; "" while there is one

    @property
    def connected(self) -> bool:
        return bool(self._held)

    @property
    def open_tunnels(self) -> int:
        """How many are up, those too that only end what they have begun."""
        return self._open_tunnels

    def renewed(self) -> None:
        """Replace every tunnel: a newer certificate is there."""
        self._generation += 1
        self._tell()

    async def retire(self) -> None:
        """Take no new streams, and return when those in flight have ended, and the tunnels too.

        Each proxy first hears that it has to send its streams elsewhere, and answers; only then
        are new ones refused, so that none is lost on its way.
        """
        self._stopping = True
        for held in self._held.values():
            _retire(held)
        self._tell()
        while self._open_tunnels:
            await self._news.wait()

    def offer_again(self) -> None:
        """Tell every proxy what is offered now."""
        for held in self._held.values():
            held.news.set()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _want(self, proxies: tuple[str, ...]) -> None:
        if frozenset(proxies) != self._wanted:
            self._wanted = frozenset(proxies)
            self._tell()

    def _current(self) -> set[str]:
        """The proxies whose tunnel was opened with the newest certificate."""
        return {h.proxy_id for h in self._held.values() if h.generation == self._generation}

    def _complete(self) -> bool:
        current = self._current()
        return bool(current) and self._wanted <= current

    def _missing(self) -> str:
        """Return which proxy to dial; "": any will do. One that can't be had is not the only one tried.

        A single proxy isn't named: one that is older than the name would refuse it.
        """
        if not self._held or len(self._wanted) < 2:
            return ""
        missing = sorted(self._wanted - self._current())
        return random.choice(missing) if missing else ""  # noqa: S311 - no secret

    # --- Dialling ------------------------------------------------------------------------------

    async def keep(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Keep the tunnels until cancelled. Started means: the first one is up.

        Nothing that one proxy says ends the agent, which the others need.
        """
        started = False
        delays = self._delays()
        told = ""  # why another proxy was refused while a tunnel is held
        async with trio.open_nursery() as tunnels:
            while True:
                if self._stopping or self._complete():
                    told = ""
                    await self._news.wait()
                    if not self._stopping and not self._complete():
                        # Every agent hears of a lost, or a new, proxy in the same instant.
                        delays = self._after_loss(delays)
                        await self._pause(next(delays))
                    continue
                problem, refused = "", ""
                try:
                    fresh = await tunnels.start(self._open)
                except* RemoteProtocolError as group:
                    problem = refused = str(next(leaves(group)))
                except* (ConnectionProblem, OSError) as group:
                    problem = problem or str(next(leaves(group)))
                except* trio.BrokenResourceError:
                    problem = problem or "the connection broke while it was set up"
                else:
                    if fresh:
                        if not started:
                            started = True
                            task_status.started()
                        continue
                wait = next(delays)
                if not self._held:
                    self.problem = problem
                    logger.warning("no tunnel: %s; next try in %.1f s", problem, wait)
                elif refused and refused != told:
                    told = refused
                    logger.warning("no tunnel to another proxy: %s", refused)
                if await self._pause(SPREAD + wait if self._held else wait):
                    delays = self._after_loss(delays)
                    await self._pause(next(delays))

    def _after_loss(self, delays: Iterator[float]) -> Iterator[float]:
        return self._delays() if self._lost_stable else delays

    async def _pause(self, wait: float) -> bool:
        """Wait for so many seconds, or until the last tunnel is lost; tell whether it was."""
        had_one = bool(self._held)
        with trio.move_on_after(wait):
            while not self._stopping and (self._held or not had_one):
                await self._news.wait()
            return had_one and not self._held
        return False

    async def _open(self, *, task_status: trio.TaskStatus[bool]) -> None:
        """Open one tunnel and serve it to its end. Started with: whether it was missing."""
        generation = self._generation
        dialled = await self._dial(self._missing())
        mux = Mux(dialled.transport, client=False, peer_may_open=True, budget=self._budget)
        held: _Held | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, mux, nursery.cancel_scope)
                inbox = Inbox()
                held = await self._greet(mux, inbox, dialled.proxy_id, generation)
                task_status.started(held is not None)
                if held is None:
                    nursery.cancel_scope.cancel()
                    return  # noqa: ASYNC121 - all that runs in the nursery is cancelled: it ends at once
                self._open_tunnels += 1
                self._take_over(held)
                mux.take_streams(lambda stream: self._take(stream, nursery))
                nursery.start_soon(self._push_offers, held)
                await self._listen(held, inbox)
        except* (ConnectionProblem, RemoteProtocolError, trio.BrokenResourceError) as group:
            if held is None:
                raise
            if not held.retired:
                logger.warning("tunnel to the proxy lost: %s", next(leaves(group)))
        finally:
            if held is not None:
                self._open_tunnels -= 1
                if self._held.get(held.proxy_id) is held:
                    del self._held[held.proxy_id]
                    self._lost_stable = trio.current_time() - held.since >= STABLE
                self._tell()

    async def _run(self, mux: Mux, scope: trio.CancelScope) -> None:
        await mux.run()
        scope.cancel()

    async def _greet(self, mux: Mux, inbox: Inbox, proxy_id: str, generation: int) -> _Held | None:
        """Exchange hellos; None: this proxy's tunnel is held already.

        Raises:
            RemoteProtocolError: another protocol than ours; or it calls itself otherwise than its
                certificate does, and would have the tunnel that is another's.
        """
        with trio.move_on_after(HELLO_DEADLINE):
            control = await mux.accept()
            hello = await next_control(control, inbox)
            if not isinstance(hello, ProxyHello):
                raise RemoteProtocolError("the proxy's first message is no hello")
            theirs = Spoken(hello.protocol, hello.highest or hello.protocol)
            if (protocol := agreed(SPOKEN, theirs)) is None:
                await self._refuse(control, theirs, hello.version)
            if hello.cluster != self._cluster:
                raise RemoteProtocolError(
                    f"the proxy is of cluster {hello.cluster!r}, this agent of {self._cluster!r}"
                )
            if hello.proxy_id != proxy_id:
                raise RemoteProtocolError(
                    "the proxy calls itself otherwise than its certificate does"
                )
            self._want(hello.proxies)
            known = self._held.get(hello.proxy_id)
            if known is not None and known.generation >= generation:
                return None
            await control.send_all(pack(self._hello(protocol, self._offers())))
            verdicts = await next_control(control, inbox)
            if not isinstance(verdicts, Verdicts):
                raise RemoteProtocolError("the proxy gave no verdict on the offers")
            self._on_verdicts(verdicts)
            return _Held(hello.proxy_id, mux, control, generation)
        raise ConnectionProblem(f"the proxy did not finish its hello within {HELLO_DEADLINE:.0f} s")

    async def _refuse(self, control: MuxStream, theirs: Spoken, version: str) -> NoReturn:
        """Tell the proxy what we speak, so that it says so on its side, too; then raise."""
        nearest = SPOKEN.highest if SPOKEN.highest < theirs.lowest else SPOKEN.lowest
        hello = pack(self._hello(nearest, Offers(apps=())))
        # Shielded: the tunnel ends when the proxy hangs up, and why is still to be said.
        with (
            trio.move_on_after(REFUSAL, shield=True),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await control.send_all(hello)
            await control.receive_some(1)  # until it hangs up: what was sent has arrived
        raise RemoteProtocolError(
            nothing_agreed(
                SPOKEN,
                theirs,
                us=f"this agent (tport {tport.__version__})",
                them=f"the proxy (tport {version})",
            )
        )

    def _hello(self, protocol: int, offers: Offers) -> AgentHello:
        return AgentHello(
            protocol=protocol,
            version=tport.__version__,
            agent_id=self._agent_id,
            hostname=self._hostname,
            apps=offers.apps,
            faulty=offers.faulty,
        )

    # --- A tunnel that is up -------------------------------------------------------------------

    def _take_over(self, held: _Held) -> None:
        """Let `held` have the new streams; the tunnel it replaces ends with its last."""
        old = self._held.get(held.proxy_id)
        self._held[held.proxy_id] = held
        self.problem = ""
        logger.info("tunnel to the proxy is up")
        self._tell()
        if old is not None:
            _retire(old)

    async def _push_offers(self, held: _Held) -> None:
        """Send each change of the offers; once retired, end the control stream."""
        try:
            while not held.retired:
                await held.news.wait()
                held.news = trio.Event()
                if not held.retired:
                    await held.control.send_all(pack(self._offers()))
            await held.control.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the tunnel ends, or the proxy ended the control stream: `_listen` says so

    async def _listen(self, held: _Held, inbox: Inbox) -> None:
        """Hear the proxy until it ends the control stream of a tunnel that we retired."""
        while True:
            match await next_control(held.control, inbox):
                case None if held.retired:
                    # It opens no more streams here; those in flight go on, and it closes the
                    # tunnel behind the last.
                    held.mux.go_away()
                    await held.control.aclose()
                    return
                case None:
                    raise ConnectionProblem("the proxy ended the tunnel")
                case Verdicts() as verdicts:
                    self._on_verdicts(verdicts)
                case Proxies(proxies=proxies):
                    self._want(proxies)
                case _:
                    raise RemoteProtocolError("the proxy said hello twice")


def _retire(held: _Held) -> None:
    """Have the proxy send its streams elsewhere: the control stream's end tells it so."""
    held.retired = True
    held.news.set()
