"""Which certificate of a host is its newest, so that a copy of its data directory shows itself.

Each renewal makes the next generation, for one key. A host that renews with an older generation,
for another key than the newest was made for, isn't the only one that has been this host: its data
directory was copied, or is an old one come back from a backup. Nobody can tell here which of the
two is the right one, so both are locked out, and a person is told.

Who asks again for the newest key (the answer got lost, or the machine stopped before it had
written it down) gets the newest again: agents write the next key down before they ask.
"""

from __future__ import annotations

from typing import Final

from tport.engine.auth.cluster import Cluster
from tport.engine.auth.rights.locks import Locks
from tport.engine.auth.stores import SWAP_TRIES, HostRecord, Stored
from tport.engine.defaults import HOST_CERTIFICATE_TTL, HOST_RENEWAL_GRACE
from tport.engine.errors import AlreadyExists, CompareFailed, Locked, NotFound, Unavailable

# By then no certificate made before is worth anything: not valid, and too old to be renewed.
OUTLIVED: Final = HOST_CERTIFICATE_TTL + HOST_RENEWAL_GRACE


class Hosts:
    def __init__(self, cluster: Cluster, locks: Locks) -> None:
        self._cluster = cluster
        self._store = cluster.stores.hosts
        self._locks = locks

    async def advance(
        self, host_id: str, key_id: str, *, shown: int, shown_key: str, hostname: str, remote: str
    ) -> int:
        """Return the generation of the certificate that this host gets now.

        Args:
            key_id: of the key that it is for.
            shown, shown_key: generation and key of the certificate that it has; 0: it joins.

        Raises:
            Locked: two machines have been this host; from now on none is.
        """
        for _ in range(SWAP_TRIES):
            read = await self._read(host_id)
            newest = read.value if read is not None else HostRecord(generation=shown, key=shown_key)
            if newest.key == key_id and newest.generation:
                following = newest
            elif shown > newest.generation or newest == HostRecord(generation=shown, key=shown_key):
                # A greater one is of a time that this storage has forgotten: it was restored.
                following = HostRecord(generation=shown + 1, key=key_id)
            else:
                raise await self._lock(host_id, shown, newest.generation, hostname, remote)
            expires = self._cluster.clock() + OUTLIVED
            try:
                if read is None:
                    await self._store.create(host_id, following, expires=expires)
                else:
                    await self._store.swap(host_id, read, following, expires=expires)
            except (CompareFailed, AlreadyExists):
                continue
            return following.generation
        raise Unavailable("this host's certificate is renewed too often at once; try again")

    async def _read(self, host_id: str) -> Stored[HostRecord] | None:
        try:
            return await self._store.read(host_id)
        except NotFound:
            return None

    async def _lock(
        self, host_id: str, shown: int, newest: int, hostname: str, remote: str
    ) -> Locked:
        await self._cluster.record(
            "instance.copied",
            host_id=host_id,
            node_name=hostname,
            remote=remote,
            generation=shown,
            newest_generation=newest,
        )
        return await self._locks.lock_copied(host_id, hostname, OUTLIVED)
