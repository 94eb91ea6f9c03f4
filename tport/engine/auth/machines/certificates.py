"""What proxies say of their certificates. Memory only: each says it anew every minute."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tport.engine.api.certificates import MAX_STATES, CertInfo
from tport.engine.auth.machines.presence import Presence
from tport.engine.errors import InvalidRequest
from tport.engine.types.certificate import CertState

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Certificates:
    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._said: dict[str, tuple[CertState, ...]] = {}  # by the proxy's id

    def told(self, proxy_id: str, states: tuple[CertState, ...]) -> None:
        if len(states) > MAX_STATES:
            raise InvalidRequest(f"{len(states)} certificates at once, at most {MAX_STATES}")
        alive = {proxy_id, *self._presence.proxies}
        self._said = {proxy: said for proxy, said in self._said.items() if proxy in alive}
        self._said[proxy_id] = states

    def all(self) -> tuple[CertInfo, ...]:
        """Return a line for what proxies say alike: dates differ, and of leaves each has its own.

        The date is then that of the certificate that ends first.
        """
        found: dict[tuple[str, ...], list[tuple[str, CertState]]] = {}
        for proxy, states in sorted(self._said.items()):
            if proxy in self._presence.proxies:
                for state in states:
                    alike = (state.host, state.source, state.path, state.problem, state.advice)
                    found.setdefault(alike, []).append((proxy, state))
        infos = [
            CertInfo(
                state=min((state for _, state in said), key=_end),
                proxies=tuple(dict.fromkeys(proxy for proxy, _ in said)),
            )
            for said in found.values()
        ]
        return tuple(
            sorted(infos, key=lambda info: info.state.host)
        )  # stable: sources stay in order

    def lacking(self) -> frozenset[str]:
        """Return the hosts for which no proxy alive has a certificate."""
        return frozenset(info.state.host for info in self.all() if info.state.source == "none")


def _end(state: CertState) -> datetime:
    return state.not_after or _NEVER
