"""How a command meets trio, and the cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from tport.commands.settings import Settings
from tport.engine.api.protocol import AuthAPI

T = TypeVar("T")


def settings_of(ctx: typer.Context) -> Settings:
    """Return the root command's options."""
    found = ctx.find_object(Settings)
    return found if found is not None else Settings()


def with_cluster(ctx: typer.Context, ask: Callable[[AuthAPI], Awaitable[T]]) -> T:
    """Find the cluster, ask it, and return what `ask` returns.

    Raises:
        TportError: no cluster found, not reached, or what `ask` raises.
    """
    import trio

    from tport.engine.client.connect import find_cluster, open_cluster

    settings = settings_of(ctx)
    place = find_cluster(config=settings.config, data_dir=settings.data_dir)

    async def talk() -> T:
        async with open_cluster(place) as auth:
            return await ask(auth)

    return trio.run(talk)
