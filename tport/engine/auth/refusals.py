"""What strangers are refused, written down: so often for each address that nobody fills the disk.

Whoever has neither a certificate nor a session may still ask; what they ask for in vain leaves its
trace, and a thousand times the same in a minute leaves no more than the first times did.
"""

from __future__ import annotations

from tport.engine.access.limits import AddressLimiter
from tport.engine.auth.cluster import Cluster
from tport.engine.defaults import REFUSAL_BURST, REFUSALS_PER_MINUTE
from tport.engine.errors import LimitExceeded


class Refusals:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._limiter = AddressLimiter(
            cluster.clock, per_minute=REFUSALS_PER_MINUTE, burst=REFUSAL_BURST
        )

    async def tell(self, type_: str, *, remote: str, **fields: object) -> None:
        """Write an event of a stranger at `remote` down, unless there were too many of theirs."""
        try:
            self._limiter.check(remote)
        except LimitExceeded:
            return
        self._limiter.take(remote)
        await self._cluster.emit(type_, remote=remote, **fields)
