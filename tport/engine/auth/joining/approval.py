"""Joining by approval: no secret travels; a person carries a code here, and perhaps a word back."""

from __future__ import annotations

import secrets
import uuid
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import trio
from msgspec.structs import replace

from tport.engine.access.limits import AddressLimiter
from tport.engine.api.answers import Joined
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.joining.join import Join
from tport.engine.errors import (
    AccessDenied,
    CompareFailed,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)
from tport.engine.pki.keys import public_key_id, public_key_of_csr
from tport.engine.types.app import check_app_name
from tport.engine.types.approval import JoinRequest, join_code, join_word, read_code

LIFE: Final = timedelta(minutes=15)  # that a request waits
MAX_WAITING: Final = 100  # requests of all machines together
PER_MINUTE: Final = 5  # requests of one address
WAIT: Final = 5.0  # s that one call waits for the answer; callers give up after 10
LOOK: Final = 0.5  # s between two looks while it waits
MAX_TEXT: Final = 255  # characters of what a machine says of itself
MAX_URI: Final = 2048  # characters


class Approval:
    def __init__(self, cluster: Cluster, joining: Join) -> None:
        self._cluster = cluster
        self._store = cluster.stores.join_requests
        self._joining = joining
        self._limiter = AddressLimiter(cluster.clock, per_minute=PER_MINUTE, burst=PER_MINUTE)
        self._entering = trio.Lock()  # from counting who waits to waiting oneself

    # --- The machine -------------------------------------------------------------------------------

    async def ask(
        self, csr: str, hostname: str, app: str, uri: str, title: str, remote: str
    ) -> str:
        """See `AuthAPI.ask_to_join`."""
        self._limiter.check(remote)
        self._limiter.take(remote)
        key_id = public_key_id(public_key_of_csr(csr))
        _check_uri(uri)
        asked = JoinRequest(
            id=secrets.token_urlsafe(32),
            key_id=key_id,
            csr=csr,
            code=join_code(key_id, self._cluster.pin),
            hostname=_shown(hostname),
            app=check_app_name(app),
            uri=uri,
            title=_shown(title),
            remote=remote,
            created=self._cluster.clock(),
            host_id=str(uuid.uuid4()),
        )
        async with self._entering:
            if len(await self._store.range()) >= MAX_WAITING:
                raise LimitExceeded(
                    f"{MAX_WAITING} machines wait to join already",
                    hint="join with a token: tport tokens add --type=app",
                )
            await self._store.create(asked.id, asked, expires=asked.created + LIFE)
        await self._cluster.emit(
            "instance.join.asked", node_name=asked.hostname, app_name=app, remote=remote
        )
        return asked.id

    async def answer(self, id_: str) -> Joined | None:
        """See `AuthAPI.join_answer`."""
        give_up_at = trio.current_time() + WAIT
        while True:
            asked = await self._store.find(id_[:64])
            if asked is None:
                raise NotFound(
                    "nobody answered within 15 minutes",
                    hint="start again, and tell somebody who administers the cluster the code",
                )
            if asked.state == "denied":
                raise AccessDenied(f"{asked.by} refused to let this machine join")
            if asked.state == "approved":
                key = public_key_of_csr(asked.csr)
                return await self._joining.admit(
                    asked.host_id,
                    key,
                    asked.hostname,
                    apps=(asked.app,),
                    uri=asked.uri,
                    remote=asked.remote,
                )
            if trio.current_time() >= give_up_at:
                return None
            await trio.sleep(LOOK)

    # --- The person --------------------------------------------------------------------------------

    async def find(self, code: str) -> JoinRequest:
        """See `AuthAPI.find_join`."""
        return self._told(max(await self._of(code), key=lambda each: each.created))

    async def _of(self, code: str) -> list[JoinRequest]:
        wanted = read_code(code)
        found = [each for each in await self._store.all() if each.code == wanted]
        if not found:
            raise NotFound(
                "no machine that shows this code has asked to join this cluster",
                hint="compare it letter by letter. If it is right, the machine was shown other"
                " authorities than this cluster's: it asked another cluster, or somebody sits"
                " between. Don't let it join",
            )
        return found

    async def decide(self, code: str, host_id: str, by: str, *, approve: bool) -> JoinRequest:
        """See `AuthAPI.decide_join`."""
        asked = next((each for each in await self._of(code) if each.host_id == host_id), None)
        if asked is None:
            raise NotFound(
                "what this machine asked for is not what was shown any more",
                hint="type its code again, and look at what it asks for now",
            )
        try:
            read = await self._store.read(asked.id)
        except NotFound:
            raise NotFound(
                "nobody answered within 15 minutes: the machine must ask again"
            ) from None
        if read.value.state != "pending":
            raise CompareFailed(f"it was {read.value.state} by {read.value.by} already")
        decided = replace(read.value, state="approved" if approve else "denied", by=by)
        await self._cluster.record(
            "instance.join" if approve else "instance.join.failed",
            method="approval",
            role="app",
            node_name=asked.hostname,
            host_id=asked.host_id,
            app_name=asked.app,
            user=by,
            remote=asked.remote,
            **({"success": True} if approve else {"error": "refused"}),
        )
        try:
            await self._store.swap(asked.id, read, decided, expires=read.expires)
        except CompareFailed:
            raise CompareFailed("somebody else decided on it at this moment") from None
        return self._told(decided)

    def _told(self, asked: JoinRequest) -> JoinRequest:
        """Return it with the word by which the machine knows that it was this cluster which let it in."""
        if asked.state != "approved":
            return asked
        return replace(asked, word=join_word(asked.key_id, self._cluster.pin))


def _check_uri(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        ok = False
    if not ok or len(uri) > MAX_URI or not (uri.isascii() and uri.isprintable()):
        raise InvalidRequest("the application's address is no http:// or https:// URI")


def _shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT]
