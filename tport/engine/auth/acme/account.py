"""The cluster's accounts at CAs (RFC 8555 §7.1.2): one for each CA, whichever proxy speaks to it."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from tport.engine.auth.acme.acme import place_of
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.seal import Seal
from tport.engine.auth.stores import AccountRecord
from tport.engine.errors import AlreadyExists, InvalidRequest, Unavailable
from tport.engine.pki.keys import make_key
from tport.engine.types.acme import AcmeAccount

MAX_URL: Final = 2048  # characters


class AcmeAccounts:
    def __init__(self, cluster: Cluster) -> None:
        self._store = cluster.stores.acme_accounts
        self._seal = Seal(cluster.settings.seal_key)

    async def account(self, directory: str) -> AcmeAccount:
        """See `AuthAPI.acme_account`. Of proxies that ask at once, all get the same key."""
        place, context = place_of(directory, ""), f"acme account {directory}"
        found = await self._store.find(place)
        if found is not None:
            try:
                key = self._seal.open(found.key, context)
            except Unavailable:  # sealed with another key: an account is easily made anew
                await self._store.delete(place)
            else:
                return AcmeAccount(key=key.decode(), url=found.url)
        sealed = self._seal.close(make_key().encode(), context)
        try:
            await self._store.create(place, AccountRecord(directory=directory, key=sealed))
        except AlreadyExists:
            pass  # another proxy's question came first
        made = await self._store.get(place)
        return AcmeAccount(key=self._seal.open(made.key, context).decode(), url=made.url)

    async def registered(self, directory: str, url: str) -> None:
        """See `AuthAPI.acme_registered`."""
        if len(url) > MAX_URL or not url.startswith("https://"):
            raise InvalidRequest("the account's address is no https:// URL")
        place = place_of(directory, "")
        read = await self._store.read(place)
        await self._store.swap(place, read, replace(read.value, url=url))
