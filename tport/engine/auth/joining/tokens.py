"""Join tokens: made, listed, deleted, and used."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from tport.engine.api.answers import NewToken
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.cluster import Cluster, StaticToken
from tport.engine.auth.machines.presence import Presence
from tport.engine.errors import AccessDenied, ConfigError, InvalidRequest, NotFound
from tport.engine.types.app import DEBUG_APP, check_app_name
from tport.engine.types.token import HINT, JoinRole, JoinToken, split_join_token, token_id

TOKEN_BYTES: Final = 16  # 128 bits, hex. Source: security.md AG-01
MIN_STATIC: Final = 32  # characters of a token in the file. Source: AG-01
MAX_TTL: Final = timedelta(days=30)
EXPIRED_KEPT: Final = timedelta(days=1)  # so that a late agent is told "expired", not "unknown"


class Tokens:
    def __init__(self, cluster: Cluster, presence: Presence, apps: Apps) -> None:
        self._cluster = cluster
        self._store = cluster.stores.tokens
        self._presence = presence
        self._apps = apps
        self._static = dict(_static(token) for token in cluster.settings.static_tokens)

    async def create(
        self,
        roles: tuple[JoinRole, ...],
        ttl: float,
        *,
        app_name: str,
        app_uri: str,
        max_uses: int,
        by: str,
    ) -> NewToken:
        if not roles:
            raise InvalidRequest("a join token needs a type", hint="try: --type=app")
        if not 1 <= ttl <= MAX_TTL.total_seconds():
            raise InvalidRequest(f"a join token lives 1 second to {MAX_TTL.days} days")
        if max_uses < 0:
            raise InvalidRequest("max_uses is below 0", hint="0 is: any number")
        if app_name:
            check_app_name(app_name)
        secret = secrets.token_hex(TOKEN_BYTES)
        now = self._cluster.clock()
        token = JoinToken(
            id=token_id(secret),
            hint=secret[:HINT],
            roles=tuple(dict.fromkeys(roles)),
            app_name=app_name,
            app_uri=app_uri,
            expires=now + timedelta(seconds=ttl),
            max_uses=max_uses,
            created=now,
            created_by=by,
        )
        assert token.expires is not None
        await self._cluster.record(
            "join_token.create",
            user=by,
            name=token.fingerprint,
            roles=list(token.roles),
            app_name=app_name,
            expires=token.expires,
        )
        await self._store.create(token.id, token, expires=token.expires + EXPIRED_KEPT)
        addresses = self._presence.proxy_addrs
        return NewToken(
            token=f"{secret}.{self._cluster.pin}",
            roles=token.roles,
            expires=token.expires,
            proxy_addr=addresses[0] if addresses else "",
            app_name=app_name,
            app_uri=app_uri,
            public_addr=self._apps.default_host(app_name) if app_name else "",
        )

    async def all(self) -> tuple[JoinToken, ...]:
        now = self._cluster.clock()
        stored = [t for t in await self._store.all() if t.expires is None or now < t.expires]
        return (*self._static.values(), *stored)

    async def delete(self, token: str, by: str) -> JoinToken:
        tokens = await self.all()
        try:
            wanted = token_id(split_join_token(token)[0])
        except InvalidRequest:
            wanted = ""
        beginning = token.strip().removesuffix("…")
        found = [t for t in tokens if t.id in (wanted, token)] or [
            t for t in tokens if beginning and t.hint.startswith(beginning)
        ]
        if not found:
            raise NotFound("there is no such join token", hint="list them with: tport tokens ls")
        if len(found) > 1:
            raise InvalidRequest(f"{len(found)} join tokens begin like that; give more of it")
        if found[0].static:
            raise InvalidRequest(
                "this join token stands in the configuration file",
                hint="delete it there (auth_service.tokens) and restart auth",
            )
        await self._cluster.record("join_token.delete", user=by, name=found[0].fingerprint)
        await self._store.delete(found[0].id)
        return found[0]

    async def check(self, secret: str, role: JoinRole) -> JoinToken:
        """Return the token that this secret is, whether or not it has uses left.

        Raises:
            AccessDenied: unknown, expired, or for another role.
        """
        id_ = token_id(secret)
        token = self._static.get(id_) or await self._store.find(id_)
        if token is None:
            raise AccessDenied(
                "unknown token",
                reason=f"unknown token, SHA-256 {id_[:HINT]}…",
                hint="was it deleted, or made for another cluster? make one on the auth service "
                "with: tport tokens add --type=app",
            )
        if token.expires is not None and self._cluster.clock() >= token.expires:
            raise AccessDenied(
                f"token expired at {token.expires:%Y-%m-%d %H:%M:%S} UTC",
                reason=f"token {token.fingerprint} expired",
                hint="make a new one on the auth service with: tport tokens add --type=app",
            )
        if role not in token.roles:
            raise AccessDenied(
                f"this token is for {', '.join(token.roles)}, not for {role}",
                reason=f"token {token.fingerprint} does not allow {role}",
                hint=f"make one on the auth service with: tport tokens add --type={role}",
            )
        return token


def _static(token: StaticToken) -> tuple[str, JoinToken]:
    """Return a token of the file by its id, or raise ConfigError: it could be guessed."""
    if len(token.secret) < MIN_STATIC:
        raise ConfigError(
            f"auth_service.tokens: a join token has fewer than {MIN_STATIC} characters",
            hint="make one with: openssl rand -hex 32; or let tport make it: tport tokens add",
        )
    id_ = token_id(token.secret)
    return id_, JoinToken(id=id_, hint=token.secret[:HINT], roles=token.roles, static=True)


def used(token: JoinToken) -> JoinToken:
    """Return the token with one use more.

    Raises:
        AccessDenied: it has none left.
    """
    if token.max_uses and token.uses >= token.max_uses:
        times = "once" if token.max_uses == 1 else f"{token.max_uses} times"
        raise AccessDenied(
            f"token already used {times}, which is all it allows",
            reason=f"token {token.fingerprint} is used up",
            hint="make a new one on the auth service with: tport tokens add --type=app",
        )
    return replace(token, uses=token.uses + 1)


def pinned_apps(token: JoinToken) -> tuple[str, ...] | None:
    """Return the only names that a holder may offer; None: any."""
    return tuple(dict.fromkeys((token.app_name, DEBUG_APP))) if token.app_name else None
