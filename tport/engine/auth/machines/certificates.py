"""What proxies say of their certificates. Memory only: each says it anew every minute."""

from __future__ import annotations

from tport.engine.api.certificates import MAX_STATES, CertInfo
from tport.engine.auth.machines.presence import Presence
from tport.engine.errors import InvalidRequest
from tport.engine.types.certificate import CertState


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
        found: dict[CertState, list[str]] = {}
        for proxy, states in sorted(self._said.items()):
            if proxy in self._presence.proxies:
                for state in states:
                    found.setdefault(state, []).append(proxy)
        infos = [CertInfo(state=state, proxies=tuple(those)) for state, those in found.items()]
        return tuple(
            sorted(infos, key=lambda info: info.state.host)
        )  # stable: sources stay in order

    def lacking(self) -> frozenset[str]:
        """Return the hosts for which no proxy alive has a certificate."""
        return frozenset(info.state.host for info in self.all() if info.state.source == "none")
