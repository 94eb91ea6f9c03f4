"""What administrators do, by a command or, as far as their roles allow, in a browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.answers import (
    ClusterStatus,
    NewInvite,
    NewToken,
    UserInfo,
)
from tport.engine.api.callers import ADMIN, PROXY, Rule
from tport.engine.types.app import AppServer
from tport.engine.types.probe import ProbeReport
from tport.engine.types.role import Role
from tport.engine.types.token import JoinRole, JoinToken
from tport.engine.types.user import User


class AdministrationAPI(Protocol):
    async def create_token(
        self, *, roles: tuple[JoinRole, ...], ttl: float, app_name: str, app_uri: str, max_uses: int
    ) -> NewToken:
        """Make a join token. `ttl` in seconds."""
        ...

    async def list_tokens(self) -> tuple[JoinToken, ...]: ...

    async def delete_token(self, *, token: str) -> JoinToken:
        """Delete by the whole token, its secret, its id, or the hint that lists show (unique prefix)."""
        ...

    async def create_user(
        self, *, name: str, roles: tuple[str, ...], traits: Mapping[str, tuple[str, ...]]
    ) -> NewInvite:
        """Make a user and the invite link.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: a role does not exist.
        """
        ...

    async def update_user(
        self,
        *,
        name: str,
        roles: tuple[str, ...] | None,
        traits: Mapping[str, tuple[str, ...]] | None,
        lent: tuple[str, ...] = (),
        revision: int = 0,
    ) -> User:
        """Replace roles or traits (None: leave); what was granted before counts no more.

        Args:
            lent: of `roles` those that stay for as long as they were given; others among them are
                given without end.
            revision: `UserInfo.revision` as the caller saw it; 0: whatever it is now.

        Raises:
            CompareFailed: it was changed since; the message says by whom.
        """
        ...

    async def reset_user(self, *, name: str) -> NewInvite:
        """Make a new invite link for a user; the old password and all sessions end now."""
        ...

    async def unlock_user(self, *, name: str) -> None:
        """Forget a user's failures, and the lock that they ended in. Raises NotFound."""
        ...

    async def list_users(self) -> tuple[UserInfo, ...]: ...

    async def delete_user(self, *, name: str) -> None: ...

    async def list_roles(self) -> tuple[Role, ...]: ...

    async def put_role(self, *, role: Role) -> None:
        """Store a role, new or changed, unseen; people in a browser use `api.roles`."""
        ...

    async def list_app_servers(self) -> tuple[AppServer, ...]: ...

    async def start_probe(self, *, app: str, agent: str) -> str:
        """Have an agent try an application that it offers; return the probe's id.

        Args:
            agent: its hostname or id, where several offer it; "": any of them.

        Raises:
            NotFound: no agent offers it now.
            LimitExceeded: too many are being tried.
        """
        ...

    async def probe_result(self, *, id: str) -> ProbeReport | None:
        """Wait for a probe's result for some seconds; None: it isn't there yet, ask again.

        Raises:
            NotFound: there is no such probe, or it was given up.
        """
        ...

    async def status(self) -> ClusterStatus: ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "create_token": ADMIN,
    "list_tokens": ADMIN,
    "delete_token": ADMIN,
    "create_user": ADMIN,
    "update_user": ADMIN,
    "reset_user": ADMIN,
    "unlock_user": ADMIN,
    "list_users": ADMIN,
    "delete_user": ADMIN,
    "list_roles": ADMIN | PROXY,
    "put_role": ADMIN,
    "list_app_servers": ADMIN | PROXY,
    "start_probe": ADMIN,
    "probe_result": ADMIN,
    "status": ADMIN | PROXY,
}

RULES: Final[Mapping[str, Rule]] = {
    "create_token": ("token", "create"),
    "list_tokens": ("token", "list"),
    "delete_token": ("token", "delete"),
    "create_user": ("user", "create"),
    "update_user": ("user", "update"),
    "reset_user": ("user", "update"),
    "unlock_user": ("user", "update"),
    "list_users": ("user", "list"),
    "delete_user": ("user", "delete"),
    "list_roles": ("role", "list"),
    "list_app_servers": ("app_server", "list"),
    "start_probe": ("app_server", "update"),
    "probe_result": ("app_server", "update"),
    "status": ("app_server", "list"),
}

# These give somebody access, or take all of it: a stolen session that has lain for a while doesn't.
FRESH: Final = frozenset(
    {"create_token", "create_user", "update_user", "reset_user", "unlock_user", "delete_user"}
)
