"""Certificates by ACME as auth remembers them: who may order which, when, and what came of it.

Each name has one record at each CA, and every step replaces exactly the record that it read: of
two proxies that want one certificate at once, one orders. A right to order ends by itself, or
with its proxy.
"""

from __future__ import annotations

import logging
import random
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from tport.engine.auth.acme.new_names import NewNames
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.seal import Seal
from tport.engine.auth.stores import PairRecord, Stored
from tport.engine.defaults import MAX_UNISSUED
from tport.engine.errors import (
    AlreadyExists,
    CompareFailed,
    ConfigError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from tport.engine.pki.acme import check_issued
from tport.engine.pki.acme_policy import (
    FIRST_WAIT,
    FIRST_WAIT_UNREACHED,
    LONGEST_HOLD,
    is_of_account,
    next_try,
)
from tport.engine.pki.chain import issuer_of
from tport.engine.pki.keys import KeyPair
from tport.engine.proto.host import is_public_name, normalise_host
from tport.engine.storage.backend import Delete
from tport.engine.types.acme import AcmeOrder, AcmeState, Challenge

logger = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=15)  # of an order; a proxy gives up before
KEPT: Final = timedelta(days=30)  # that a record outlives its certificate, or its last failure
MAX_NAMES: Final = 2  # of one certificate: a host, or a domain and all that is below it
MAX_CHALLENGES: Final = 10  # of one order
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
MAX_PAIR: Final = 64 * 1024  # characters of a chain with its key
MAX_BEGUN: Final = 1000  # orders of which it is known whose names they are for; a few run at a time
MAX_WAIT: Final = 30 * 86400.0  # s that a CA may have us wait
MAX_PROBLEM: Final = 1000  # characters


class Acme:
    def __init__(self, cluster: Cluster, presence: Presence, apps: Apps) -> None:
        self._cluster = cluster
        self._states = cluster.stores.acme
        self._pairs = cluster.stores.acme_pairs
        self._presence = presence
        self._apps = apps
        self._seal = Seal(cluster.settings.seal_key)
        self._new_names = NewNames(cluster.clock)
        # By order: its counted names, each with the agents that had it when it was ordered. They may say
        # that their application is elsewhere before the certificate is there, which is theirs all the same.
        self.begun_for: dict[str, list[tuple[str, frozenset[str]]]] = {}
        self._chance: Callable[[], float] = random.random

    async def begin(
        self, directory: str, names: tuple[str, ...], serial: str, *, by: str
    ) -> AcmeState:
        """See `AuthAPI.acme_begin`."""
        if not 1 <= len(names) <= MAX_NAMES or not directory.startswith("https://"):
            raise InvalidRequest(f"a certificate by ACME is for 1 to {MAX_NAMES} names of one CA")
        for name in names:
            await self._check_ours(name)
        now = self._cluster.clock()
        place = place_of(directory, names[0])
        read = await self._read(place)
        state = read.value if read else AcmeState(directory=directory, name=names[0], names=names)
        # A record that has expired says nothing of what its certificate was.
        if read is not None and state.serial != serial:
            raise CompareFailed(f"there is another certificate for {names[0]} by now")
        # A proxy runs one order of a name at a time: an older one of its own is given up.
        other = state.order_at(now)
        if other is not None and other.proxy != by and self._may_live(other):
            raise CompareFailed(f"a certificate for {names[0]} is being ordered already")
        if state.next_try is not None and not state.may_try_at(now):
            wait = (state.next_try - now).total_seconds()
            raise LimitExceeded(f"{names[0]}: {state.problem}", retry_after=wait)
        counted = [] if state.serial else await self._new_of(names)
        for new, agents in counted:
            self._new_names.take(directory, new, agents)
        order = AcmeOrder(id=secrets.token_urlsafe(16), proxy=by, expires=now + LEASE)
        begun = replace(state, names=names, order=order)
        if read is None:
            await self._make_room(now)
        await self._write(place, read, begun)
        if other is not None:
            self.begun_for.pop(other.id, None)
        if len(self.begun_for) >= MAX_BEGUN:
            del self.begun_for[next(iter(self.begun_for))]
        self.begun_for[order.id] = counted
        return begun

    async def show(
        self, directory: str, name: str, order: str, challenges: tuple[Challenge, ...]
    ) -> None:
        """See `AuthAPI.acme_show`."""
        place = place_of(directory, name)
        read, pending = await self._pending(place, order)
        bare = {each.removeprefix("*.") for each in read.value.names}
        sound = all(one.name in bare and _is_sound(one) for one in challenges)
        if len(challenges) > MAX_CHALLENGES or not sound:
            raise InvalidRequest("these challenges are not of this order")
        shown = replace(pending, challenges=challenges)
        await self._write(place, read, replace(read.value, order=shown))

    async def obtained(
        self,
        directory: str,
        name: str,
        order: str,
        pair: KeyPair,
        renew_at: datetime,
        look_at: datetime | None,
    ) -> None:
        """See `AuthAPI.acme_obtained`."""
        place = place_of(directory, name)
        read, _ = await self._pending(place, order)
        now = self._cluster.clock()
        if len(pair.chain) + len(pair.key) > MAX_PAIR:
            raise InvalidRequest("the certificate is too large")
        try:
            leaf = check_issued(pair, read.value.names, now)
        except ConfigError as problem:
            raise InvalidRequest(str(problem)) from None
        state = replace(
            read.value,
            serial=f"{leaf.serial_number:x}",
            issuer=issuer_of(pair.chain),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            renew_at=renew_at,
            look_at=look_at,
            order=None,
            last_attempt=now,
            problem="",
            failures=0,
            misses=0,
            next_try=None,
            held_until=None,
        )
        sealed = self._seal.close(pair.key.encode(), _context(directory, name))
        expires = leaf.not_valid_after_utc + KEPT
        await self._cluster.record(
            "acme.order",
            host=name,
            names=list(state.names),
            ca=directory,
            issuer=state.issuer,
            expires=state.not_after,
        )
        await self._cluster.stores.batch(
            [
                self._pairs.putting(
                    place, PairRecord(chain=pair.chain, key=sealed), expires=expires
                ),
                self._states.swapping(place, read, state, expires=expires),
            ]
        )
        for new, agents in self.begun_for.pop(order, ()):
            self._new_names.obtained(directory, new, agents)
        logger.info("certificate for %s obtained, good until %s", name, f"{state.not_after:%FT%TZ}")

    async def failed(
        self,
        directory: str,
        name: str,
        order: str,
        problem: str,
        retry_after: float,
        *,
        unreached: bool,
        limited: bool,
    ) -> None:
        """See `AuthAPI.acme_failed`."""
        place = place_of(directory, name)
        read, _ = await self._pending(place, order)
        now = self._cluster.clock()
        failures, misses = read.value.failures, read.value.misses
        wait = min(max(retry_after, 0.0), MAX_WAIT)
        if limited:  # nobody has looked at the name: that it was asked too often is no fault of it
            pause = max(timedelta(seconds=wait), FIRST_WAIT_UNREACHED) if wait else FIRST_WAIT
            again = now + pause
            if is_of_account(problem):
                self._new_names.hold(directory, min(pause, LONGEST_HOLD))
        else:
            failures, misses = failures + (not unreached), misses + unreached
            count = misses if unreached else failures
            again = next_try(now, count, self._chance(), retry_after=wait, unreached=unreached)
        words = "".join(c for c in problem if c.isprintable())[:MAX_PROBLEM]
        state = replace(
            read.value,
            order=None,
            last_attempt=now,
            problem=words or "it failed",
            failures=failures,
            misses=misses,
            next_try=again,
            held_until=now + timedelta(seconds=wait) if wait else None,
        )
        await self._write(place, read, state)
        self.begun_for.pop(order, None)
        logger.warning("no certificate for %s: %s; next try at %s", name, words, f"{again:%FT%TZ}")
        await self._cluster.emit(
            "acme.order.failed", host=name, ca=directory, error=words, next_try=again
        )

    async def forgive(self, directory: str) -> None:
        """See `AuthAPI.acme_forgive`."""
        self._new_names.forgive(directory)
        now = self._cluster.clock()
        for item in await self._states.range(f"{place_of(directory, '')}/"):
            place, state = item.key.removeprefix(self._states.prefix), self._states.decode(item)
            is_held = state.held_until is not None and now < state.held_until
            if state.may_try_at(now) or is_held:
                continue
            read = Stored(state, item.revision, item.expires)
            try:
                await self._write(place, read, replace(state, next_try=None))
            except CompareFailed:
                continue  # it is being seen to

    async def schedule(
        self,
        directory: str,
        name: str,
        serial: str,
        renew_at: datetime,
        look_at: datetime | None,
    ) -> None:
        """See `AuthAPI.acme_schedule`."""
        place = place_of(directory, name)
        read = await self._read(place)
        if read is None or read.value.serial != serial:
            raise CompareFailed(f"there is another certificate for {name} by now")
        await self._write(place, read, replace(read.value, renew_at=renew_at, look_at=look_at))

    async def pair(self, directory: str, name: str) -> KeyPair:
        """See `AuthAPI.acme_pair`."""
        found = await self._pairs.get(place_of(directory, name))
        try:
            key = self._seal.open(found.key, _context(directory, name)).decode()
        except Unavailable:
            raise NotFound(
                f"the key of the certificate for {name} can't be read: it was sealed with another"
                " key than the one in auth's folder"
            ) from None
        return KeyPair(chain=found.chain, key=key)

    # --- Records -------------------------------------------------------------------------------

    async def _check_ours(self, name: str) -> None:
        """Raise NotFound unless the proxies serve this host: nobody else's names are ordered."""
        bare = name.removeprefix("*.")
        if normalise_host(bare) != bare or not is_public_name(bare):
            raise NotFound(f"{name[:255]!r} is no name that a CA vouches for")
        if not await self._apps.is_ours(name):
            raise NotFound(f"{name!r} is neither a proxy's nor an application's host")

    async def _new_of(self, names: tuple[str, ...]) -> list[tuple[str, frozenset[str]]]:
        """Return those names of a first certificate that are counted, each with its agents.

        Names that have one already, and the proxies' own, are few; what others name is not.
        """
        return [
            (name, await self._apps.agents_at(name))
            for name in names
            if not self._apps.is_own(name)
        ]

    def _may_live(self, order: AcmeOrder) -> bool:
        """Tell whether the proxy that orders may still be there."""
        return order.proxy in self._presence.proxies or not self._presence.knows_proxies

    async def _make_room(self, now: datetime) -> None:
        """Forget the oldest failure when there are too many: each name ever tried leaves one for KEPT."""
        idle = []
        for item in await self._states.range():
            state = self._states.decode(item)
            if not state.serial and not self._apps.is_own(state.name) and not state.order_at(now):
                since = state.last_attempt or (state.order.expires if state.order else now)
                idle.append((since, item.key, item.revision))
        idle.sort()
        for _, key, revision in idle[: max(0, len(idle) + 1 - MAX_UNISSUED)]:
            try:
                await self._cluster.stores.batch([Delete(key, revision)])
            except (NotFound, CompareFailed):
                continue  # it is being seen to

    async def _read(self, place: str) -> Stored[AcmeState] | None:
        try:
            return await self._states.read(place)
        except NotFound:
            return None

    async def _pending(self, place: str, order: str) -> tuple[Stored[AcmeState], AcmeOrder]:
        read = await self._read(place)
        pending = read.value.order_at(self._cluster.clock()) if read is not None else None
        if read is None or pending is None or pending.id != order:
            raise CompareFailed("this order is over, or another's by now")
        return read, pending

    async def _write(self, place: str, read: Stored[AcmeState] | None, state: AcmeState) -> None:
        now = self._cluster.clock()
        last = max(filter(None, (now, state.not_after, state.next_try)))
        if read is None:
            try:
                await self._states.create(place, state, expires=last + KEPT)
            except AlreadyExists:
                raise CompareFailed(f"another proxy was first with {state.name}") from None
        else:
            await self._states.swap(place, read, state, expires=last + KEPT)


def place_of(directory: str, name: str) -> str:
    """Return where what belongs to one name at one CA is kept."""
    ca = urlsafe_b64encode(sha256(directory.encode()).digest()[:12]).decode()
    return f"{ca}/{name}" if name else ca


def _is_sound(challenge: Challenge) -> bool:
    """Tell whether a challenge is a token and a thumbprint (RFC 8555 §8.1), and no page of text."""
    token, _, thumbprint = challenge.key_authorization.partition(".")
    return token == challenge.token and all(map(_BASE64URL.fullmatch, (token, thumbprint)))


def _context(directory: str, name: str) -> str:
    return f"acme pair {directory} {name}"
