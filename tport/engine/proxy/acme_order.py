"""Ordering certificates by ACME: from auth's leave to its hearing what came of it.

What goes wrong stays with its name: others are ordered on.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.api.wire import TOO_NEW
from tport.engine.errors import (
    CompareFailed,
    ConfigError,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TportError,
    Unavailable,
)
from tport.engine.pki.acme import check_issued, make_names_csr, renewal_id
from tport.engine.pki.acme_policy import renewal_time, window_time
from tport.engine.pki.contexts import browser_context
from tport.engine.pki.keys import KeyPair, load_certificate, make_key
from tport.engine.proto.acme_answers import CaProblem
from tport.engine.proxy.acme_ca import CertificateAuthority
from tport.engine.proxy.acme_dns import DnsHook
from tport.engine.proxy.acme_settings import AcmeSettings
from tport.engine.proxy.acme_waits import Waits
from tport.engine.types.acme import AcmeState, Challenge, ChallengeKind

logger = logging.getLogger(__name__)

AT_A_TIME: Final = 4  # orders; a CA counts those of a minute
DEADLINE: Final = 600.0  # s for one order, below auth's LEASE
HOLD_DEADLINE: Final = 60.0  # s until every live proxy shows the challenges: PRESENCE_TTL and more
RETRY: Final = 2.0  # s between tries to hand a certificate to auth
LOOK_AGAIN: Final = timedelta(hours=6)  # where the CA could not be asked about renewal


class AcmeOrders:
    def __init__(
        self,
        settings: AcmeSettings,
        *,
        auth: AuthAPI,
        ca: CertificateAuthority,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._auth = auth
        self._ca = ca
        self._clock = clock
        self._hook = DnsHook(settings.dns_hook) if settings.dns_hook is not None else None
        self._slots = trio.Semaphore(AT_A_TIME)
        self.waits = Waits(clock)
        self.running: set[str] = set()  # names
        self.on_end: Callable[[], None] = lambda: None
        self.on_obtained: Callable[[str, KeyPair], None] = lambda _name, _pair: None

    def start(
        self, nursery: trio.Nursery, name: str, names: tuple[str, ...], state: AcmeState | None
    ) -> None:
        """Order a certificate, or look whether it is time to, unless that is being done already."""
        if name not in self.running:
            self.running.add(name)
            nursery.start_soon(self._run, name, names, state)

    async def _run(self, name: str, names: tuple[str, ...], state: AcmeState | None) -> None:
        try:
            async with self._slots:
                if state is None or not await self._may_wait(names, state):
                    await self._order(names, state)
        except LimitExceeded as why:
            if (wait := self.waits.remember(name, why)) is not None:
                until = f"{wait.until:%FT%TZ}"
                logger.warning("no certificate for %s before %s: %s", name, until, wait.problem)
        except (CompareFailed, NotFound) as why:
            logger.debug("no order for %s now: %s", name, why)
        except TportError as problem:
            logger.warning("no order for %s now: %s", name, problem)
        except Exception:
            logger.exception("ordering a certificate for %s failed", name)
        finally:
            self.running.discard(name)
            self.on_end()

    # --- One order -----------------------------------------------------------------------------

    async def _order(self, names: tuple[str, ...], state: AcmeState | None) -> None:
        directory = self._settings.directory
        serial = state.serial if state is not None else ""
        begun = await self._auth.acme_begin(directory=directory, names=names, serial=serial)
        assert begun.order is not None
        self.waits.forget(names[0])
        order = begun.order.id
        logger.info("ordering a certificate for %s", ", ".join(names))
        try:
            with trio.fail_after(DEADLINE):
                pair = await self._obtain(names, order, await self._id_of(state))
            await self._hand_over(names[0], order, pair)
        except trio.TooSlowError:
            words = f"the order took over {DEADLINE / 60:.0f} minutes"
            await self._fail(names[0], order, words, unreached=True)
        except CaProblem as problem:
            words = f"{problem}; {problem.hint}" if problem.hint else str(problem)
            await self._fail(
                names[0],
                order,
                words,
                retry_after=problem.retry_after,
                unreached=not problem.is_refusal,
                limited=problem.is_limit,
            )
        except ConfigError as problem:  # what came is not what was ordered
            await self._fail(names[0], order, str(problem))
        except TportError as problem:
            await self._fail(names[0], order, str(problem), unreached=True)
        except Exception:
            # A bug of ours. Unless it counts as a failure, the CA is asked anew every 20 seconds.
            logger.exception("ordering a certificate for %s failed", names[0])
            words = "something went wrong in tport itself, which its log shows whole"
            await self._fail(names[0], order, words)

    async def _obtain(self, names: tuple[str, ...], order: str, replaces: str) -> KeyPair:
        key = make_key()
        shown: list[Challenge] = []

        async def show(challenges: tuple[Challenge, ...]) -> None:
            by_proxies = tuple(one for one in challenges if one.kind != "dns-01")
            if by_proxies:
                await self._show(names[0], order, by_proxies)
            for one in challenges:
                if self._hook is not None and one.kind == "dns-01":
                    shown.append(one)
                    await self._hook.present(one)

        try:
            chain = await self._ca.order(
                names, make_names_csr(key, names), self._kinds(names), show, replaces=replaces
            )
        finally:
            with trio.CancelScope(shield=True):  # each call has a deadline of its own
                for one in shown:
                    assert self._hook is not None
                    await self._hook.cleanup(one)
        pair = KeyPair(chain=chain, key=key)
        check_issued(pair, names, self._clock())
        browser_context(pair)  # raises too, unless it can be shown
        return pair

    def _kinds(self, names: tuple[str, ...]) -> tuple[ChallengeKind, ...]:
        if len(names) > 1:
            return ("dns-01",)
        return ("http-01", "tls-alpn-01") if self._settings.by_http else ("tls-alpn-01",)

    async def _show(self, name: str, order: str, challenges: tuple[Challenge, ...]) -> None:
        """Have every live proxy show them, and return when all do."""
        await self._auth.acme_show(
            directory=self._settings.directory, name=name, order=order, challenges=challenges
        )
        give_up = trio.current_time() + HOLD_DEADLINE
        while trio.current_time() < give_up:
            if await self._auth.acme_all_hold(order=order):  # waits at auth
                return
        raise Unavailable("a proxy of this cluster doesn't show the challenge")

    async def _hand_over(self, name: str, order: str, pair: KeyPair) -> None:
        """Give the certificate to auth, as often as it takes while the order is ours."""
        renew_at, look_at = await self._schedule(pair.chain)
        give_up = trio.current_time() + 120.0
        while True:
            try:
                await self._auth.acme_obtained(
                    directory=self._settings.directory,
                    name=name,
                    order=order,
                    pair=pair,
                    renew_at=renew_at,
                    look_at=look_at,
                )
            except (ConnectionProblem, Unavailable) as problem:
                if trio.current_time() >= give_up:
                    raise
                logger.warning("the certificate for %s waits for auth: %s", name, problem)
                await trio.sleep(RETRY)
            else:
                self.on_obtained(name, pair)
                return

    async def _fail(
        self,
        name: str,
        order: str,
        problem: str,
        *,
        retry_after: float = 0.0,
        unreached: bool = False,
        limited: bool = False,
    ) -> None:
        failed = partial(
            self._auth.acme_failed,
            directory=self._settings.directory,
            name=name,
            order=order,
            problem=problem,
            retry_after=retry_after,
            unreached=unreached,
        )
        try:
            await failed(limited=limited)
        except InvalidRequest as refused:
            if not limited or refused.hint != TOO_NEW:
                raise
            await failed()  # an auth of 0.1 takes it for a failure as any other

    # --- When to renew -------------------------------------------------------------------------

    async def _may_wait(self, names: tuple[str, ...], state: AcmeState) -> bool:
        """Ask the CA about a certificate whose time to ask has come; tell whether to leave it."""
        now = self._clock()
        is_old = state.renew_at is None or now >= state.renew_at
        if not state.serial or is_old or state.names != names:
            return False
        if state.look_at is None or now < state.look_at:
            return False
        try:
            pair = await self._auth.acme_pair(directory=state.directory, name=state.name)
        except NotFound:
            return False
        renew_at, look_at = await self._schedule(pair.chain, before=state.renew_at)
        await self._auth.acme_schedule(
            directory=state.directory,
            name=state.name,
            serial=state.serial,
            renew_at=renew_at,
            look_at=look_at,
        )
        return True

    async def _schedule(
        self, chain: str, *, before: datetime | None = None
    ) -> tuple[datetime, datetime | None]:
        """Return when to renew, and when to ask the CA about that again.

        Args:
            before: what was the answer so far; it stays until the CA says otherwise.
        """
        leaf, now = load_certificate(chain), self._clock()
        by_life = renewal_time(
            leaf.not_valid_before_utc,
            leaf.not_valid_after_utc,
            random.random(),  # noqa: S311 - spreads renewals, no secret
        )
        try:
            found = await self._ca.window(renewal_id(chain))
        except TportError as problem:
            logger.info("the CA can't be asked when to renew: %s", problem)
            return before or by_life, now + LOOK_AGAIN
        if found is None:
            return by_life, None
        info, again = found
        window = info.suggested_window
        if before is not None and window.start <= before <= window.end:
            return before, now + timedelta(seconds=again)
        at = window_time(
            window.start,
            window.end,
            random.random(),  # noqa: S311 - the same
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )
        return at, now + timedelta(seconds=again)

    async def _id_of(self, state: AcmeState | None) -> str:
        """Return by which id the CA knows the certificate that is renewed; "": there is none."""
        if state is None or not state.serial:
            return ""
        try:
            pair = await self._auth.acme_pair(directory=state.directory, name=state.name)
        except TportError:
            return ""  # the order is as good without
        return renewal_id(pair.chain)
