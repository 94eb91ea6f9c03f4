"""What proxies ask of auth to have certificates by ACME: auth remembers, one proxy orders.

Auth needs no way to the internet for it. A proxy that wants a certificate begins an order, which
auth allows one of them at a time; tells auth what is to be shown to the CA, of which every proxy
hears by its watch; tells the CA to look once auth has heard from all that they show it; and hands
the certificate to auth, from where the others have it.

`directory` is the CA's URL; each CA's certificates stand by themselves. `name` is the first name
of a certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol

from tport.engine.api.callers import PROXY
from tport.engine.pki.keys import KeyPair
from tport.engine.types.acme import AcmeAccount, AcmeState, Challenge


class AcmeAPI(Protocol):
    async def acme_account(self, *, directory: str) -> AcmeAccount:
        """Return the cluster's account at a CA; its key is made when first asked for."""
        ...

    async def acme_registered(self, *, directory: str, url: str) -> None:
        """Remember that the CA has the account, and where."""
        ...

    async def acme_begin(self, *, directory: str, names: tuple[str, ...], serial: str) -> AcmeState:
        """Begin to order a certificate for `names`; the state says the order's id.

        `serial` is that of the certificate that is there, "" for none.

        Raises:
            NotFound: a name is neither a proxy's nor an application's.
            CompareFailed: another proxy is at it, or there is another certificate by now.
            LimitExceeded: it is too early after a failure, or after too many other new names.
        """
        ...

    async def acme_show(
        self, *, directory: str, name: str, order: str, challenges: tuple[Challenge, ...]
    ) -> None:
        """Have all proxies show these challenges.

        Raises:
            CompareFailed: the order is over.
        """
        ...

    async def acme_holds(self, *, order: str) -> None:
        """Say that the calling proxy shows the challenges of an order."""
        ...

    async def acme_all_hold(self, *, order: str) -> bool:
        """Wait a few seconds until every live proxy shows an order's challenges; False: not yet."""
        ...

    async def acme_obtained(
        self,
        *,
        directory: str,
        name: str,
        order: str,
        pair: KeyPair,
        renew_at: datetime,
        look_at: datetime | None,
    ) -> None:
        """End an order with its certificate.

        Raises:
            CompareFailed: the order is over.
            InvalidRequest: it is another certificate than was ordered.
        """
        ...

    async def acme_failed(
        self,
        *,
        directory: str,
        name: str,
        order: str,
        problem: str,
        retry_after: float,
        unreached: bool,
        limited: bool = False,
    ) -> None:
        """End an order without one.

        Args:
            problem: why, the CA's own words if it had any.
            retry_after: seconds that the CA wants us to wait; 0: it named none.
            unreached: the CA never came to a judgement.
            limited: it has been asked too often.
        """
        ...

    async def acme_forgive(self, *, directory: str) -> None:
        """Let what failed be tried at once, but for names for which the CA itself named a time."""
        ...

    async def acme_schedule(
        self,
        *,
        directory: str,
        name: str,
        serial: str,
        renew_at: datetime,
        look_at: datetime | None,
    ) -> None:
        """Change when a certificate is to be renewed, and when to ask the CA about that again."""
        ...

    async def acme_pair(self, *, directory: str, name: str) -> KeyPair:
        """Return a certificate with its key.

        Raises:
            NotFound: there is none, or it can't be read any more: order another.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "acme_account": PROXY,
    "acme_registered": PROXY,
    "acme_begin": PROXY,
    "acme_show": PROXY,
    "acme_holds": PROXY,
    "acme_all_hold": PROXY,
    "acme_obtained": PROXY,
    "acme_failed": PROXY,
    "acme_forgive": PROXY,
    "acme_schedule": PROXY,
    "acme_pair": PROXY,
}
