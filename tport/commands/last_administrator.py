"""What commands say when the last person goes who may administer in the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tport.commands.printing import say
from tport.engine.errors import TportError

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI


@asynccontextmanager
async def last_administrator_noted(auth: AuthAPI) -> AsyncIterator[None]:
    """Say so after a change, on stderr, when somebody could administer before it and nobody can now.

    It is no error: who has the server makes another.
    """
    before = await _is_anybody(auth)
    try:
        yield
    except TportError:
        with suppress(TportError):  # what failed first is what is told
            await _say_if_gone(auth, before=before)
        raise
    await _say_if_gone(auth, before=before)


async def _is_anybody(auth: AuthAPI) -> bool:
    return any(info.administers for info in await auth.list_users())


async def _say_if_gone(auth: AuthAPI, *, before: bool) -> None:
    from tport.engine.access.administrators import NOBODY_LEFT

    if before and not await _is_anybody(auth):
        say(NOBODY_LEFT)
