"""Certificates for browsers, as proxies tell of them and administrators ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from tport.engine.api.callers import ADMIN, PROXY, Rule
from tport.engine.types.certificate import CertState

MAX_STATES: Final = 1000  # of one proxy; a request may have a MiB, and a state is under 600 bytes


class CertInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a host at some proxies: with all of them, mostly."""

    state: CertState
    proxies: tuple[str, ...]


class CertificateAPI(Protocol):
    async def report_certificates(self, *, states: tuple[CertState, ...]) -> None:
        """Say how it stands with each host at the proxy that calls; replaces what it said before.

        Raises:
            InvalidRequest: more than MAX_STATES.
        """
        ...

    async def list_certificates(self) -> tuple[CertInfo, ...]:
        """Return how it stands with each host, by host; of each the source that serves it last."""
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "report_certificates": PROXY,
    "list_certificates": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {"list_certificates": ("app_server", "list")}
