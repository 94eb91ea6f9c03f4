"""What proxies and auth tell each other of certificates by ACME (RFC 8555): values, no behaviour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

CLOCK_STEP: Final = timedelta(hours=1)  # by which a clock is put back that was wrong before
ChallengeKind = Literal["tls-alpn-01", "http-01", "dns-01"]


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """What proves that a name is ours, while an order is pending. The CA will ask for it.

    Attributes:
        name: the host that it is about; of a wildcard, what stands after `*.`.
        token: base64url, by the CA.
        key_authorization: the token and the account key's thumbprint; no secret.
    """

    name: str
    kind: ChallengeKind
    token: str
    key_authorization: str


class AcmeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy's right to order one certificate, until `expires`."""

    id: str
    proxy: str
    expires: datetime
    challenges: tuple[Challenge, ...] = ()


class AcmeState(msgspec.Struct, frozen=True, kw_only=True):
    """How the certificate of one name stands at one CA.

    Attributes:
        directory: the CA's URL.
        name: the first of `names`, by which it is known; `*.` begins a wildcard.
        serial: of the certificate, hex; "": there is none yet.
        issuer: the CA's certificate's common name.
        renew_at: when the next one is to be ordered.
        look_at: when the CA is to be asked anew what it thinks of `renew_at` (RFC 9773);
            None: it has no opinion.
        order: what is pending; it may have expired.
        last_attempt: when an order last ended, well or not.
        problem: why that failed, the CA's own words if it had any; "": it did not.
        failures: refusals since the last success.
        misses: tries since then that came to no judgement, as of a CA that is away.
        next_try: not before.
        held_until: not before, by the CA's own word; None: it named no time.
    """

    directory: str
    name: str
    names: tuple[str, ...]
    serial: str = ""
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    renew_at: datetime | None = None
    look_at: datetime | None = None
    order: AcmeOrder | None = None
    last_attempt: datetime | None = None
    problem: str = ""
    failures: int = 0
    misses: int = 0
    next_try: datetime | None = None
    held_until: datetime | None = None

    def order_at(self, now: datetime) -> AcmeOrder | None:
        """Return what is pending, if its time is not over."""
        return self.order if self.order is not None and now < self.order.expires else None

    def may_try_at(self, now: datetime) -> bool:
        """Tell whether no failure is to be waited out.

        One from the future is none: the clock was wrong then, and so is `next_try`.
        """
        if self.next_try is None or now >= self.next_try:
            return True
        return self.last_attempt is not None and now < self.last_attempt - CLOCK_STEP


class AcmeAccount(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's account at one CA: `key` is PEM and secret, `url` "" until it is registered."""

    key: str
    url: str = ""

    def __repr__(self) -> str:
        return f"AcmeAccount(url={self.url!r})"  # the key must never reach a log
