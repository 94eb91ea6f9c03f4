"""What each person keeps at hand: favourite applications, and those opened last. Small, and theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from tport.engine.auth.cluster import Cluster
from tport.engine.auth.stores import SWAP_TRIES, Shelf, Stored
from tport.engine.errors import (
    AlreadyExists,
    CompareFailed,
    LimitExceeded,
    NotFound,
    TportError,
    Unavailable,
)
from tport.engine.types.app import check_app_name
from tport.engine.types.session import AppSession
from tport.engine.types.user import User

logger = logging.getLogger(__name__)

MAX_FAVOURITES: Final = 100  # of one person
MAX_OPENED: Final = 12  # remembered of one person, the latest
EMPTY: Final = Shelf()


class Shelves:
    """Kept under the user's id: who is made anew under an old name begins with nothing."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.stores.shelves

    async def of(self, user: User) -> Shelf:
        return await self._store.find(user.id) or EMPTY

    async def mark(self, user: User, app: str, *, favourite: bool) -> None:
        """Make an application a favourite, or no favourite any more.

        Raises:
            InvalidRequest: this is no application's name.
            LimitExceeded: there are MAX_FAVOURITES already.
        """
        check_app_name(app)

        def marked(shelf: Shelf) -> Shelf:
            others = tuple(name for name in shelf.favourites if name != app)
            if favourite and len(others) >= MAX_FAVOURITES:
                raise LimitExceeded(f"there are {MAX_FAVOURITES} favourites already")
            return Shelf(favourites=(*others, app) if favourite else others, opened=shelf.opened)

        await self._change(user.id, marked)

    async def note(self, session: AppSession) -> None:
        """Note that this application was opened now. It is no reason for not opening it."""
        try:
            await self._opened(session.user_id, session.app)
        except TportError as problem:
            logger.warning("what %s opened could not be noted: %s", session.user, problem)

    async def _opened(self, user_id: str, app: str) -> None:
        now = self._cluster.clock()

        def noted(shelf: Shelf) -> Shelf:
            others = [(name, at) for name, at in shelf.opened.items() if name != app]
            latest = sorted([*others, (app, now)], key=_moment)[-MAX_OPENED:]
            return Shelf(favourites=shelf.favourites, opened=dict(latest))

        await self._change(user_id, noted)

    async def _change(self, user_id: str, change: Callable[[Shelf], Shelf]) -> None:
        for _ in range(SWAP_TRIES):
            read: Stored[Shelf] | None
            try:
                read = await self._store.read(user_id)
            except NotFound:
                read = None
            shelf = change(EMPTY if read is None else read.value)
            try:
                if read is None:
                    await self._store.create(user_id, shelf)
                else:
                    await self._store.swap(user_id, read, shelf)
            except (AlreadyExists, CompareFailed, NotFound):
                continue
            return
        raise Unavailable("your list is being changed by many at once")


def _moment(opened: tuple[str, datetime]) -> datetime:
    return opened[1]
