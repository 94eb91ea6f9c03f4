"""Resources, kind by kind: what `tport get`, `create`, `edit` and `rm` ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.resource import Kind, PutMode, Resource


class ResourceAPI(Protocol):
    async def get_resources(self, *, kind: Kind, name: str, secrets: bool) -> tuple[Resource, ...]:
        """Return one resource, or (name "") all of a kind, sorted by name.

        Args:
            secrets: with what lets another cluster take this one's place: password hashes,
                private keys. That is written down.

        Raises:
            NotFound: there is none of this name.
        """
        ...

    async def put_resource(
        self, *, resource: Resource, mode: PutMode
    ) -> Literal["created", "updated"]:
        """Store a resource; it counts at once.

        Raises:
            AlreadyExists: mode "create", and the name is taken.
            NotFound: mode "update", and it isn't there; or a user's role isn't.
            CompareFailed: it says a revision, and was changed since.
            InvalidRequest: it can't be meant, or is of a kind that nobody makes.
        """
        ...

    async def delete_resource(self, *, kind: Kind, name: str) -> None:
        """Delete a resource; what it gave ends at once.

        Raises:
            NotFound: there is none of this name.
            InvalidRequest: it can't be deleted: users have the role, or tport needs it.
        """
        ...


# By certificate only: who may write one kind here may write all.
CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "get_resources": ADMIN,
    "put_resource": ADMIN,
    "delete_resource": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {}
